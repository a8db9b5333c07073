"""`infer_spec`: the permutation spec of any JAX function of parameters and inputs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from dwalign.program.data import as_arrays
from dwalign.program.inference.atoms import Atom, factors, find, leaves
from dwalign.program.inference.constants import masks_of
from dwalign.program.inference.facts import Dims, Facts, raised_at
from dwalign.program.inference.families import Layout, terms
from dwalign.program.inference.groups import Groups, find_groups, replace_merged
from dwalign.program.inference.hints import hint
from dwalign.program.inference.kinds import find_kinds
from dwalign.program.inference.mirrors import mirrored
from dwalign.program.inference.reading import reading
from dwalign.program.inference.structure import parts
from dwalign.program.inference.walk import OUTPUT, STATE, walk_program
from dwalign.symmetry.axes import Axes, SpecError, Sum, Turns
from dwalign.symmetry.spec import Note, PermutationSpec
from dwalign.symmetry.statistics import find_statistics

PyTree = Any


class InferenceError(SpecError):
    """A function whose symmetries cannot be read off."""


class Program(NamedTuple):
    """A traced function, the facts about it and its spec."""

    closed: ClosedJaxpr
    params: list[Dims]
    facts: Facts
    groups: Groups
    spec: PermutationSpec
    outputs: jax.tree_util.PyTreeDef


def infer_spec(
    apply: Callable,
    params: PyTree,
    *inputs: PyTree,
    statistics: PyTree | Callable[[str], bool] | None = None,
    kinds: str = "permutation",
) -> PermutationSpec:
    """Read the symmetries of a function off its program.

    The function is traced to a jaxpr and never run. Every dimension of every parameter starts as one atom; the walk
    over the program finds which dimensions are the same, how they are divided and concatenated, and which see an
    operation that depends on the order of their positions. What remains free is a group of interchangeable units;
    it is batched over what it always occurs with. A primitive without a rule pins what it touches and is listed in the
    notes of the spec: nothing is guessed. `certify` checks the result on numbers. Arrays that the program ignores but
    that go with others (moments, averages) take their axes; `inference/mirrors.py` has the two rules. Masks among the
    parameters that treat units alike, side by side or in turns, as those of autoregressive networks do, are structure
    and stay as they are: only units of the same connections are exchanged. Other masks go with their units.

    Args:
      apply: `(params, *inputs) -> outputs`, any JAX program, such as `model.apply` of a linen module.
      params: a tree of arrays or of `jax.ShapeDtypeStruct`: all that carries unit axes, batch statistics too.
      inputs: likewise. Use a batch of at least two examples: a dimension of size one has nothing to permute.
      statistics: which arrays training computes from data instead of learning them, a predicate on paths or a tree of
        bools. By default those that are named so (`dwalign.symmetry.statistics`), and arrays that carry units although
        the program ignores them, such as the moments of an optimiser.
      kinds: "permutation" for the order of units alone, "all" for the largest kind of every group: signs, scales,
        orthogonal and linear maps (`PermutationSpec.kinds`).

    Returns:
      the spec; its groups are `h0`, `h1`, ... in the order of computation, `spec.describe()` shows what was pinned and
      by which primitive at which line.

    Raises:
      InferenceError: apply fails on the inputs, returns things that are not arrays, or ignores all its parameters.
    """
    if kinds not in ("permutation", "all"):
        raise InferenceError(f'infer_spec: kinds must be "permutation" or "all", found {kinds!r}')
    program = read_program(apply, params, *inputs, kinds=kinds)
    found = find_statistics(params, statistics)
    return program.spec.with_statistics({*found, *(_ignored(program) if statistics is None else ())})


def _ignored(program: Program) -> list[str]:
    """The arrays that carry groups without entering the program."""
    spec, jaxpr = program.spec, program.closed.jaxpr
    used = {id(var) for eqn in jaxpr.eqns for var in eqn.invars} | {id(var) for var in jaxpr.outvars}
    leaves = zip(spec.paths, spec.leaves, jaxpr.invars, strict=False)
    return [path for path, axes, var in leaves if axes.names() & set(spec.sizes) and id(var) not in used]


def read_program(apply: Callable, params: PyTree, *inputs: PyTree, kinds: str = "permutation") -> Program:
    """`infer_spec` with all that was found on the way."""
    if not callable(apply):
        raise InferenceError(f"infer_spec: apply must be a function, not a {type(apply).__name__}{hint(apply, params)}")
    inputs = as_arrays(inputs)
    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    for path, leaf in paths:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise InferenceError(
                f"infer_spec: params must be a tree of arrays, but {jax.tree_util.keystr(path)} is a "
                f"{type(leaf).__name__}; make numbers arrays (np.asarray), and leave out all else{hint(params)}"
            )
    closed, outputs, used = _traced(apply, params, inputs)
    returned = jax.tree_util.tree_flatten_with_path(outputs)[0]
    whys = [STATE if _is_state(one, paths) else OUTPUT for one in returned]
    facts, dims = walk_program(closed, len(paths), whys, masks_of(params))
    groups = find_groups(facts, dims)
    axes, larger = [_axes(one, groups) for one in groups.layouts], {}
    if kinds == "all":
        axes, *found = find_kinds(facts, groups, axes)
        larger = dict(zip(("kinds", "bounds"), found, strict=True))
    shapes = [tuple(leaf.shape) for _, leaf in paths]
    carrying = [any(leaf in groups.batch for leaf in _named(one, groups)) for one in dims]
    follows = mirrored([path for path, _ in paths], shapes, used, carrying)
    orders = reading(facts, facts.occurrences[: len(paths)])
    for k, other in follows.items():
        axes[k] = axes[other]
        if other in orders:
            orders[k] = orders[other]
    free = {leaf: name for leaf, name in groups.names.items() if leaf in groups.batch}
    notes = [
        Note(jax.tree_util.keystr(path), d, leaf.size, str(leaf.reason))
        for k, ((path, _), one) in enumerate(zip(paths, dims, strict=True))
        if k not in follows
        for d, atom in enumerate(one)
        if atom is not None
        for leaf in dict.fromkeys(leaves(atom))
        if leaf.reason is not None and leaf.size > 1
    ]
    spec = PermutationSpec(
        treedef.unflatten(axes),
        {name: leaf.size for leaf, name in free.items()},
        batch={name: tuple(groups.names[h] for h in groups.batch[leaf]) for leaf, name in free.items()},
        fixed={name: leaf.size for leaf, name in groups.names.items() if leaf not in free},
        notes=notes,
        reading={jax.tree_util.keystr(paths[k][0]): order for k, order in orders.items()},
        unknown={name: str(why) for name, why in facts.unknown.items()},
        **larger,
    )
    return Program(closed, dims, facts, groups, spec, jax.tree.structure(outputs))


def _named(dims: Dims, groups: Groups) -> list[Atom]:
    """The leaves of all dimensions, those that are one group replaced by it."""
    return [leaf for atom in dims if atom is not None for leaf in replace_merged(leaves(atom), groups.merged)]


def _is_state(returned: tuple, paths: Sequence[tuple]) -> bool:
    """Whether an output is one of the arrays that came in, under the name that it has there."""
    path, one = returned
    return len(path) > 1 and any(
        path[-2:] == given[-2:] and len(given) > 1 and one.shape == leaf.shape and one.shape for given, leaf in paths
    )


def _traced(apply, params, inputs) -> tuple[ClosedJaxpr, PyTree, list[bool]]:
    """The program, the shapes that it returns, and which params it uses."""
    # arguments that are no arrays (flags, strings) are settings and stay as they are
    flat, treedef = jax.tree.flatten(inputs)
    dynamic = [k for k, leaf in enumerate(flat) if hasattr(leaf, "shape")]

    def program(params, values):
        whole = list(flat)
        for k, value in zip(dynamic, values, strict=True):
            whole[k] = value
        return apply(params, *treedef.unflatten(whole))

    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.result_type(leaf)), params)
    try:
        closed, shapes = jax.make_jaxpr(program, return_shape=True)(abstract, [flat[k] for k in dynamic])
    except SpecError:
        raise
    except Exception as error:
        if "not a valid JAX type" in str(error):
            raise InferenceError(
                f"infer_spec: apply must return arrays (and take them as inputs), but tracing it says: {error}"
            ) from error
        # a module or its state that reached apply as it is, or a function called as another library calls it
        foreign = hint(apply) or (hint(params) if _is_foreign(error) else "")
        raise InferenceError(
            f"infer_spec: apply could not be traced on these params and inputs: {error}{raised_at(error)}{foreign}"
        ) from error
    read = {id(var) for eqn in closed.jaxpr.eqns for var in eqn.invars} | {id(var) for var in closed.jaxpr.outvars}
    used = [id(var) in read for var in closed.jaxpr.invars[: len(jax.tree.leaves(params))]]
    if not any(used):
        raise InferenceError(
            "infer_spec: apply(params, *inputs) must use its params, but none of them enters the result; "
            "does it close over the weights instead?"
        )
    return closed, shapes, used


def _is_foreign(error: Exception) -> bool:
    """Whether a program fails for what its model is rather than for the shapes of arrays."""
    return type(error).__module__.startswith("flax") or any(
        sign in str(error) for sign in ("NoneType", "not callable", "positional argument", "has no attribute")
    )


def _axes(one: Layout, groups: Groups, cut: Sequence[int] = ()) -> Axes:
    """The axes of an array; sizes along dimensions of which it is a piece are written out."""
    if one.axis is not None:
        return Axes.concatenate(one.axis, *(_axes(piece, groups, (*cut, one.axis)) for piece in one.pieces))
    dims = [[(1,)] if atom is None else _joined(_terms(parts(atom), groups)) for atom in one.dims]
    return Axes(
        *(None if len(dim) == 1 and _plain(dim[0]) and d not in cut else Sum(*dim) for d, dim in enumerate(dims))
    )


def _terms(found: Sequence[Atom], groups: Groups) -> list[tuple]:
    """Each of these products in names and numbers."""
    out: list[tuple] = []
    for part in found:
        named: list = []
        for leaf in replace_merged([find(factor) for factor in factors(part)], groups.merged):
            factor: Any = groups.names.get(leaf, leaf.size)
            if leaf.kind in ("sum", "turns") and not all(map(_plain, inner := _terms(terms(leaf), groups))):
                factor = Turns(*inner) if leaf.kind == "turns" else Sum(*_joined(inner))
            if isinstance(factor, int) and named and isinstance(named[-1], int):
                named[-1] *= factor
            elif factor != 1:
                named.append(factor)
        out.append(tuple(named) or (1,))
    return out


def _joined(products: Sequence[tuple]) -> list[tuple]:
    """Neighbours that are mere numbers are one."""
    out: list[tuple] = []
    for product in products:
        if out and _plain(product) and _plain(out[-1]):
            out[-1] = (out[-1][0] + product[0],)
        else:
            out.append(product)
    return out


def _plain(product: tuple) -> bool:
    return all(isinstance(factor, int) for factor in product)
