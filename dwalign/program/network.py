"""A network: a program, its symmetries, and all else that is asked of it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.kept import Kept, anew, keep, kept_by
from dwalign.program.capture import Units, make_capture
from dwalign.program.data import as_examples, count_examples, take_examples
from dwalign.program.inference import infer_spec
from dwalign.program.inference.constants import with_masks
from dwalign.shown import brief
from dwalign.symmetry import PermutationSpec, SpecError

PyTree = Any
MOST_SHOWN = 8
Apply = Callable[[PyTree, PyTree], PyTree]


def _nobody_knows(key: jax.Array) -> PyTree:
    raise ValueError(
        "network: how parameters are initialised is not known; pass init=, key -> params, to dwalign.network"
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A network as pure functions, the first argument of everything that asks for more than weights.

    Attributes:
      apply: `(params, inputs) -> outputs`; several inputs are a tuple.
      spec: its permutation symmetries.
      params: the shapes and types of its parameters, a tree of `jax.ShapeDtypeStruct`; masks that are part of its
        structure (`infer_spec`) are there themselves.
      example: inputs `[1, ...]` that show the shape and the type it takes.
      own_capture: `capture` where it is not read off `apply`.
      train: `(params, inputs) -> (outputs, params)` as in training: batch normalisation uses the statistics of these
        inputs and puts them into the params that it returns. None where that makes no difference.
      init: `key -> params`; a network without one raises `ValueError` and cannot be trained into a zoo.
      config: what a registry needs to make it again, plain JSON values: `dwalign.networks.build` for those of this
        package. Empty where none can.
      notes: what a rewrite of the program (`fold_norms`) left as it was, and why.

    Networks are equal that have one program, one spec and one program in training: what was compiled or certified for
    one of them holds for the other, and is kept until the last of them is gone. What a program reads beside its
    arguments is read once, as under `jax.jit`.
    """

    apply: Apply
    spec: PermutationSpec
    params: PyTree
    example: PyTree
    own_capture: Callable[..., tuple[PyTree, Units]] | None = None
    train: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]] | None = None
    init: Callable[[jax.Array], PyTree] = _nobody_knows
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def capture(self) -> Callable[..., tuple[PyTree, Units]]:
        """`(params, inputs, readout=None) -> (outputs, Units)`: what its hidden units compute."""
        mixed = frozenset(g for g, kind in self.spec.kinds.items() if kind not in ("permutation", "scale"))
        return self.own_capture or _capture_of(self, mixed)

    def respond(self, params: PyTree, inputs: PyTree) -> PyTree:
        """Outputs, normalised by the batch statistics of the very inputs where the network has any.

        How a network is judged while its weights are still being mixed: stored statistics are those of other weights.
        """
        return self.apply(params, inputs) if self.train is None else self.train(params, inputs)[0]

    def __repr__(self):
        """How large it is; `spec.describe()` tells the rest."""
        leaves, sizes = jax.tree.leaves(self.params), self.spec.sizes
        groups = ", ".join(f"{group} {size}" for group, size in list(sizes.items())[:MOST_SHOWN])
        more = f" and {len(sizes) - MOST_SHOWN} more" if len(sizes) > MOST_SHOWN else ""
        numbers = sum(math.prod(leaf.shape) for leaf in leaves)
        return (
            f"Network({numbers:,} numbers in {len(leaves)} arrays, units {groups or 'none'}{more}, "
            f"example {brief(self.example)})"
        )

    def __eq__(self, other):
        return isinstance(other, Network) and self._key == other._key

    def __hash__(self):
        return hash(self._key)

    def __reduce__(self):
        return anew(self)

    @functools.cached_property
    def kept(self) -> Kept:
        """What was found out and compiled about its program, whatever the spec; see `dwalign.kept`."""
        return kept_by(self._key[:-1])

    @functools.cached_property
    def _key(self):
        return self.apply, self.own_capture, self.train, self.spec


def network(
    apply: Callable[..., PyTree],
    params: PyTree,
    *inputs: PyTree,
    train: Callable[..., tuple[PyTree, PyTree]] | None = None,
    init: Callable[[jax.Array], PyTree] | None = None,
    config: Mapping[str, Any] | None = None,
    statistics: PyTree | Callable[[str], bool] | None = None,
    kinds: str = "permutation",
) -> Network:
    """The network of any JAX program: its symmetries and its hidden units are read off it, nothing is run.

    Args:
      apply: `(params, *inputs) -> outputs`.
      params: its parameters, or their shapes and types.
      inputs: examples `[m, ...]` of any content, or their shapes and types. A program of several inputs is one of a
        tuple of them everywhere else: `Data((tokens, mask), labels)`.
      train: `(params, *inputs) -> (outputs, params)`, of a network with batch statistics; see `Network`.
      init, config: see `Network`.
      statistics: which arrays are batch statistics, see `dwalign.symmetry.find_statistics`; by default those that are
        named as such.
      kinds: "all" for more than the order of units, see `infer_spec`.

    Raises:
      InferenceError: apply fails on the inputs, returns things that are not arrays, or ignores all its parameters.

    >>> params = {"up": jnp.ones((3, 4)), "down": jnp.ones((4, 2))}
    >>> net = network(lambda params, x: jax.nn.relu(x @ params["up"]) @ params["down"], params, jnp.ones((1, 3)))
    >>> dict(net.spec.sizes)
    {'h0': 4}
    """
    if not inputs:
        raise SpecError("network: inputs must be given, an example of what apply takes beside params, got none")
    # what was compiled for them is found by their hash; the call of an object that has none is of that one alone
    hashed = lambda function: isinstance(function, Hashable) or not callable(function)
    known: Any = lambda function: function if hashed(function) else function.__call__
    apply, train = known(apply), known(train)
    inputs = as_examples(inputs)
    example = inputs[0] if len(inputs) == 1 else inputs
    if count_examples(example) == 1:
        # a single example has no axis to tell from the others
        twice = lambda leaf: jax.ShapeDtypeStruct((2, *jnp.shape(leaf)[1:]), jnp.result_type(leaf))
        inputs = jax.tree.map(lambda leaf: twice(leaf) if jnp.ndim(leaf) else leaf, inputs)
    unpack = len(inputs) != 1
    shape = lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
    return Network(
        _OfOne(apply) if unpack else apply,
        infer_spec(apply, params, *inputs, statistics=statistics, kinds=kinds),
        with_masks(jax.tree.map(shape, params), params),
        take_examples(example, slice(1)) if count_examples(example) else example,
        train=_OfOne(train) if unpack and train else train,
        init=init or _nobody_knows,
        config=config or {},
    )


def spec_of(caller: str, network: Any) -> PermutationSpec:
    """The spec of a network, or the spec itself; `SpecError` for what is neither."""
    spec = network.spec if isinstance(network, Network) else network
    if not isinstance(spec, PermutationSpec):
        found = "a function" if callable(spec) else type(spec).__name__
        raise SpecError(
            f"{caller}: the first argument must be a Network or a PermutationSpec, got {found}; the "
            "order is (network, a, b), and dwalign.network(apply, params, inputs) makes a network of any program"
        )
    return spec


def check_network(caller: str, network: Any) -> None:
    """Raise `SpecError` where more is needed than the spec that was given."""
    spec_of(caller, network)
    if not isinstance(network, Network):
        raise SpecError(
            f"{caller}: needs the network, not only its spec; dwalign.network(apply, params, inputs) makes one of any "
            "program"
        )


@dataclasses.dataclass(frozen=True)
class _OfOne:
    """A function of several inputs as one of a tuple of them; of one function they are equal."""

    function: Callable

    def __call__(self, params: PyTree, inputs: PyTree) -> PyTree:
        return self.function(params, *inputs)


@keep
def _capture_of(network: Network, mixed: frozenset[str]) -> Callable:
    # kept, for a capture keeps what it has read off the program
    return make_capture(network.apply, mixed, network.spec, network.params)
