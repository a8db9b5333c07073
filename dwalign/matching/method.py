"""A method as a value: a function with its name, what it asks for, and how tables and figures show it.

>>> import jax
>>> from dwalign.matching import chain, find_method, refine, weight_matching
>>> method = chain(weight_matching.using(restarts=5), refine)
>>> str(method), method.label, method.needs
('weight_matching@5+refine', 'weight matching (best of 5) + refinement', 'labels')
>>> find_method("weight_matching@5+refine") == method
True
"""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from dwalign.assignment import plain_refusal, refuse_unsolved
from dwalign.bounds import check, laws_of
from dwalign.kept import anew
from dwalign.matching.gauged import in_gauge, is_matched
from dwalign.matching.sizes import common_power, divided, refuse_vanished
from dwalign.memory import enough_memory
from dwalign.program import (
    CLASSIFICATION,
    Data,
    Network,
    Task,
    as_data,
    check_data,
    check_network,
    check_task,
    check_values,
    compiled,
    outputs_of,
    spec_of,
)
from dwalign.symmetry import Alignment, PermutationSpec, SpecError, as_arrays, check_key, check_perms, is_traced

PyTree = Any
NEEDS = ("nothing", "weights", "inputs", "labels", "aligner")
"""What a method asks for beside two networks, each with all before it."""
SIZED = ("weights", "inputs", "labels")
GIVEN = {"spec", "network", "a", "b", "key", "data", "task", "start", "features"}


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Method:
    """Made by `method`, the decorator of a method's function; immutable.

    It is called as `(network, a, b, *, key=None, data=None, task=CLASSIFICATION, start=None) -> Alignment`, where a
    `PermutationSpec` serves in place of the network if the method reads weights alone. Programs that it compiles are
    kept for each network, task, options, shapes and types; a method with `host` compiles nothing unless it is traced.

    Weights beyond 2^32 or below 2^-32 whose products no float holds are divided by a common power of two where weights
    alone are read and nothing is traced: scores and history are then those of the networks so divided.

    Attributes:
      name: by which it is found.
      function: `(spec or network, a, b, *, key, ...) -> Alignment`; its parameters `data`, `task` and `start` say
        whether it takes them, all others are options.
      title: its name in tables and figures.
      colour: in figures.
      asks: what it asks for itself, one of `NEEDS`.
      host: it runs in NumPy.
      count: the option that counts its iterations or the like, and how tables put it, `("steps", "{} steps")`.
      options: those that are set.
      first: the method that runs before this one and gives its start.
      features: `(spec or network, params, *, key, ...) -> {group: [*batch, n, d]}`, what it compares units by: its
        scores are their inner products. None for methods that look at both networks at once. Where the function has
        a parameter of this name, it takes those of a and of b in place of computing them; they then depend on no key.
    """

    name: str
    function: Callable[..., Alignment]
    title: str
    colour: str
    asks: str
    host: bool = False
    count: tuple[str, str] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    first: "Method | None" = None
    features: Callable[..., dict[str, jax.Array]] | None = None

    def __post_init__(self):
        object.__setattr__(self, "__doc__", self.function.__doc__)
        object.__setattr__(self, "__wrapped__", self.function)

    def __reduce__(self):
        return anew(self)

    def using(self, **options: Any) -> "Method":
        """The method with these options set.

        Raises:
          ValueError: it takes no such option, or a value that cannot be meant.
        """
        if not options:
            # the very same one: what is known of it is found again
            return self
        free = [name for name in _parameters(self.function) if name not in GIVEN]
        for name in options:
            if name not in free:
                raise ValueError(f"{self.name}: takes the options {free}, got {name!r}{_misplaced(name)}")
        check(self.name, laws_of(self.function), options)
        return dataclasses.replace(self, options={**self.options, **options})

    def after(self, first: "Method") -> "Method":
        """The method that starts from what `first` finds.

        Raises:
          ValueError: this one cannot start from another.
        """
        earliest = self
        while earliest.first is not None:
            earliest = earliest.first
        if "start" not in _parameters(earliest.function):
            raise ValueError(f"chain: {earliest.name} cannot start from another method and must come first")
        before = first if self.first is None else self.first.after(first)
        return dataclasses.replace(self, first=before)

    @property
    def parts(self) -> tuple["Method", ...]:
        """The methods of a chain, each alone; `chain(*parts)` is the method again."""
        return (*(self.first.parts if self.first else ()), self._alone)

    def __str__(self):
        """Names joined by `+`, each with `@` and its count where that is set."""
        own = self.name
        if self.count and self.count[0] in self.options:
            own += f"@{self.options[self.count[0]]}"
        return own if self.first is None else f"{self.first}+{own}"

    def __repr__(self):
        """`str` of it, and the options that this leaves out."""
        more = [
            f"{name}={value!r}"
            for part in self.parts
            for name, value in part.options.items()
            if part.count is None or name != part.count[0]
        ]
        return f"Method({', '.join([repr(str(self)), *more])})"

    @property
    def label(self) -> str:
        """What tables and figures call it, with its count and with what runs before it."""
        own = self.title
        if self.count and self.count[0] in self.options:
            own += f" ({self.count[1].format(self.options[self.count[0]])})"
        return own if self.first is None else f"{self.first.label} + {own}"

    @property
    def needs(self) -> str:
        """What the whole chain asks for, one of `NEEDS`."""
        return max([self.asks, *([self.first.needs] if self.first else [])], key=NEEDS.index)

    def check(
        self,
        network: Network | PermutationSpec,
        a: PyTree,
        b: PyTree,
        *,
        data: Data | None = None,
        task: Task = CLASSIFICATION,
        start: Alignment | None = None,
        key: jax.Array | None = None,
    ) -> None:
        """Raise `ValueError` (or `SpecError`, which is one) for the first argument that cannot be meant."""
        if self.first is not None:
            self.first.check(network, a, b, data=data, task=task, start=start, key=key)
            start = None
        spec = spec_of(self.name, network)
        spec.check_pair(a, b)
        if key is not None:
            check_key(self.name, key)
        parameters = _parameters(self.function)
        if "network" in parameters:
            check_network(self.name, network)
        if missing := [name for name in _needed(self.function) if name not in self.options]:
            raise ValueError(f"{self.name}: needs the option {missing[0]!r}, but got none{_whence(missing[0])}")
        if "data" in parameters:
            read = check_data(self.name, data, labels="task" in parameters)
            if "task" in parameters and isinstance(network, Network):
                check_task(self.name, task, network.apply, a, read)
            elif isinstance(network, Network) and _looks_other(network.example, read.inputs):
                outputs_of(self.name, network.apply, a, read.inputs)
        if start is not None:
            _check_start(self.name, spec, start, takes="start" in parameters)

    def check_values(self, network: Network | PermutationSpec, a: PyTree, data: Any, task: Task) -> None:
        """That part of `check` which shapes and types do not tell, the others having been seen."""
        for one in self.parts:
            parameters = _parameters(one.function)
            if "task" in parameters and isinstance(network, Network):
                check_task(one.name, task, network.apply, a, as_data(one.name, data))
            if "data" in parameters:
                check_values(one.name, data)

    def __call__(
        self,
        network: Network | PermutationSpec,
        a: PyTree,
        b: PyTree,
        *,
        key: jax.Array | None = None,
        data: Data | None = None,
        task: Task = CLASSIFICATION,
        start: Alignment | None = None,
        features: tuple[PyTree, PyTree] | None = None,
        checked: bool = False,
        power: int | None = None,
        **options: Any,
    ) -> Alignment:
        """Match the units of `b` to those of `a`.

        Args:
          network: or the spec of one, for methods that read weights alone.
          a, b: parameters.
          key: `jax.random.key(0)` by default.
          data: training data, for methods that need them.
          task: what the networks are for, for methods that need labels.
          start: what another method found.
          features: of a and of b, as `encode` of the first of `parts` gives them, where `reuses`; they are not computed
            again. For networks of which only the order of units is free.
          checked: `check` has seen these arguments.
          power: `common_power` of a and b, where it is known.
          options: of the method, as `using` takes them.

        Raises:
          ValueError: an argument that cannot be meant, or weights so small or large that the program tells no units
            apart; the message says what must hold.
        """
        if options:
            given: dict[str, Any] = dict(key=key, data=data, task=task, start=start, features=features)
            return self.using(**options)(network, a, b, **given)
        if features is not None and not (self.reuses and is_matched(spec_of(self.name, network))):
            raise ValueError(f"{self}: takes no features of single networks here; pass none, and they are computed")
        spec = spec_of(self.name, network)
        if not checked:
            self.check(network, a, b, data=data, task=task, start=start, key=key)
            power = common_power(spec, a, b, caller=self.name)
        data, start = as_data(self.name, data), as_arrays(start)
        if self.asks not in SIZED:
            power = 0
        elif power is None:
            power = common_power(spec, a, b)
        if power and self.asks == "weights":
            a, b = (divided(spec, params, power) for params in (a, b))
        if not is_matched(spec):
            settings: dict[str, Any] = dict(key=key, data=data, task=task, checked=True)
            of = lambda spec: dataclasses.replace(network, spec=spec) if isinstance(network, Network) else spec
            find = lambda spec, a, b, start: self(of(spec), a, b, start=start, **settings)
            return in_gauge(spec, a, b, start, find, narrow=self.needs != "aligner")
        if self.first is not None:
            first_key, key = jax.random.split(jax.random.key(0) if key is None else key)
            settings = dict(key=first_key, data=data, task=task, features=features, checked=True)
            start = self.first(network, a, b, start=start, **settings)
            features = None
        parameters = _parameters(self.function)
        known = {"data": data, "start": start, "features": features}
        given = {name: value for name, value in known.items() if name in parameters}
        if self.host:
            return self.function(network if "network" in parameters else spec, a, b, key=key, **given, **self.options)
        key = jax.random.key(0) if key is None else key
        defaults = {name: p.default for name, p in parameters.items()}
        with enough_memory(self.name, {**defaults, **self.options}), plain_refusal():
            found = _found(network, task if "task" in parameters else None, self._alone, a, b, key, given)
            # what goes wrong inside arrives here, and not where the result is looked at
            found = jax.block_until_ready(found)
        if jax.default_backend() != "cpu" and not is_traced(found):
            refuse_unsolved(found.perms)
        if power and self.asks != "weights":
            refuse_vanished(self.name, power, found)
        return found

    def encode(
        self, network: Network | PermutationSpec, params: PyTree, *, key: jax.Array, data: Data | None = None
    ) -> dict[str, jax.Array]:
        """Features `[*batch, n, d]` of all units of one network, whose inner products are the method's scores.

        The same `key` for all networks that are to be compared.

        Raises:
          ValueError: the method does not compare units by features of one network, or starts from another method.
        """
        if self.features is None or self.first is not None:
            able = [name for name, one in known_methods().items() if one.features is not None]
            raise ValueError(
                f"method: {str(self)!r} does not compare features of single networks; those that do are {able}"
            )
        return _encoded(
            network, self, params, key, as_data(self.name, data) if "data" in _parameters(self.features) else None
        )

    @property
    def reuses(self) -> bool:
        """Whether it takes the features of single networks, which are then computed once for many pairs."""
        return "features" in _parameters(self.parts[0].function)

    @functools.cached_property
    def _alone(self) -> "Method":
        """Without what runs before it."""
        return self if self.first is None else dataclasses.replace(self, first=None)

    @functools.cached_property
    def _flat(self):
        # arrays among the options are arguments of compiled programs
        dynamic = {name: value for name, value in self.options.items() if _is_arrays(value)}
        static = {name: value for name, value in self.options.items() if name not in dynamic}
        return (dynamic, self.first), (dataclasses.replace(self, options={}, first=None), tuple(sorted(static.items())))

    def tree_flatten(self):
        return self._flat

    @classmethod
    def tree_unflatten(cls, about, parts):
        bare, static = about
        dynamic, first = parts
        found = dataclasses.replace(bare, options={**dict(static), **dynamic}, first=first)
        # JAX puts into the places of arrays what does not look like one, and takes it out again
        found.__dict__["_flat"] = parts, about
        return found

    def __eq__(self, other):
        return self is other or (isinstance(other, Method) and self._key == other._key)

    def __hash__(self):
        return hash(self._key[:2])

    @functools.cached_property
    def _key(self):
        return self.function, self.name, dict(self.options), self.first


def method(
    title: str,
    colour: str,
    *,
    needs: str,
    name: str | None = None,
    host: bool = False,
    count: tuple[str, str] | None = None,
    features: Callable[..., dict[str, jax.Array]] | None = None,
) -> Callable[[Callable[..., Alignment]], Method]:
    """Declare a function as a method.

    Args:
      title, colour, host, count, features: see `Method`.
      needs: its `Method.asks`.
      name: by which it is found; that of the function by default.

    Raises:
      ValueError: there is a method of this name.

    >>> @method("reversed order", "#333333", needs="nothing", host=True)
    ... def reversed_order(spec, a, b, *, key=None):
    ...     return Alignment({group: np.arange(n)[::-1] for group, n in spec.sizes.items()})
    >>> find_method("reversed_order") is reversed_order
    True
    """

    def declare(function):
        own = name or function.__name__
        # pickle looks functions up by what they are called, and what is called like this one is the method
        function.__qualname__ += ".function"
        if own in _DECLARED and _DECLARED[own].function.__module__ != function.__module__:
            raise ValueError(f"method: names must be unique, but {_DECLARED[own].function.__module__} has a {own!r}")
        _DECLARED[own] = Method(own, function, title, colour, needs, host, count, features=features)
        return _DECLARED[own]

    return declare


_DECLARED: dict[str, Method] = {}


def known_methods() -> dict[str, Method]:
    """The declared methods by name, those that ask for least first."""
    return {one.name: one for one in sorted(_DECLARED.values(), key=lambda one: (NEEDS.index(one.asks), one.name))}


def chain(*methods: Method) -> Method:
    """One method after another, each from what the one before it finds.

    Raises:
      ValueError: a method that cannot start from another follows one, or there is none.
    """
    if not methods or not all(isinstance(one, Method) for one in methods):
        raise ValueError(f"chain: takes methods, such as chain(weight_matching, refine), got {methods!r}")
    return functools.reduce(lambda first, then: then.after(first), methods)


def find_method(text: str | Method) -> Method:
    """The method of a text such as "weight_matching@5+refine"; `str(method)` is the inverse.

    Raises:
      ValueError: no method of this name, or a count where it has none.
    """
    if isinstance(text, Method):
        return text
    if not isinstance(text, str):
        found = getattr(text, "__name__", type(text).__name__)
        hint = "; an aligner is used by deep_align.using(aligner=...)" if found == "Aligner" else ""
        raise ValueError(f"method: must be a method or its name, one of {list(known_methods())}, got {found}{hint}")
    return chain(*(_find_one(name.strip()) for name in text.split("+")))


def _find_one(text: str) -> Method:
    name, _, count = text.partition("@")
    if name not in _DECLARED:
        if name == "auto":
            raise ValueError(
                "method: 'auto' stands for a whole method, where the network is known that is to be aligned; here pass "
                "dwalign.choose_method(network, data).method"
            )
        near = difflib.get_close_matches(name, _DECLARED, 1)
        raise ValueError(
            f"method: must be one of {list(known_methods())}, or several joined by +, got {name!r}"
            f"{f'; did you mean {near[0]!r}?' if near else ''}"
        )
    found = _DECLARED[name]
    if not count:
        return found
    if found.count is None or not count.isdigit():
        raise ValueError(f"method: {text!r} must be {name!r} alone{', or with a number' if found.count else ''}")
    return found.using(**{found.count[0]: int(count)})


@compiled(2)
def _found(network, task, method, a, b, key, given) -> Alignment:
    parameters = _parameters(method.function)
    subject = network if "network" in parameters else spec_of(method.name, network)
    settings = {"task": task} if "task" in parameters else {}
    return method.function(subject, a, b, key=key, **settings, **given, **method.options)


@compiled(1)
def _encoded(network, method, params, key, data) -> dict[str, jax.Array]:
    subject = network if "network" in _parameters(method.features) else spec_of(method.name, network)
    settings = {} if data is None else {"data": data}
    taken = {name: value for name, value in method.options.items() if name in _parameters(method.features)}
    return method.features(subject, params, key=key, **settings, **taken)


def _looks_other(example: PyTree, inputs: PyTree) -> bool:
    # programs that take inputs of any size are asked what they make of these, which takes longer than all other checks
    shapes = lambda tree: [np.shape(leaf)[1:] for leaf in jax.tree.leaves(tree)]
    return shapes(example) != shapes(inputs)


def _check_start(caller: str, spec: PermutationSpec, start: Any, *, takes: bool) -> None:
    if not takes:
        raise ValueError(f"{caller}: cannot start from another method; pass no start")
    if not isinstance(start, Alignment):
        raise ValueError(
            f"{caller}: start must be an Alignment, the result of another method, got {type(start).__name__}"
        )
    check_perms(f"{caller}: start", spec, start.perms)
    if missing := set(spec.sizes) - set(start.perms):
        raise SpecError(f"{caller}: start must name every group of the spec, found none for {sorted(missing)}")


@functools.cache
def _parameters(function: Callable) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


@functools.cache
def _needed(function: Callable) -> tuple[str, ...]:
    """The options that have no default."""
    free = (p for name, p in _parameters(function).items() if name not in GIVEN)
    return tuple(p.name for p in free if p.default is inspect.Parameter.empty)


def _is_arrays(value: Any) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)


def _whence(name: str) -> str:
    if name != "aligner":
        return ""
    return '; dwalign.load_aligner("any", network=network) is the one that comes with the package'


def _misplaced(name: str) -> str:
    if name in ("apply", "capture", "program"):
        return "; what a network computes is told by dwalign.network(apply, params, inputs), the first argument"
    if name in ("batch", "inputs", "labels"):
        return "; pass data=Data(inputs, labels)"
    if name in ("loss", "hits"):
        return "; pass task=Task(loss, hits)"
    if name in _DECLARED:
        return f"; options of the parts of a chain are set on these, chain({name}.using(...), ...)"
    return ""
