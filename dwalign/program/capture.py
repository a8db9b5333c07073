"""What hidden units compute, read off the program: no hooks in the network, no names of layers.

A unit is observed where the next layer reads it: the operands of the contractions over its group. Its pre-activation is
found by walking back from there as long as a value depends on one other value alone, through non-linearities, pooling
and reshapes, and so ends at the bias or the normalisation before them.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from dwalign.kept import anew
from dwalign.program.data import as_arrays, count_examples, take_examples
from dwalign.program.inference import Program, read_program
from dwalign.program.inference.atoms import Atom, find, leaves
from dwalign.program.inference.calls import called, scan_parts
from dwalign.program.inference.constants import with_masks
from dwalign.program.inference.facts import Choice, Index, Occurrence, Place
from dwalign.program.inference.families import blocks
from dwalign.program.inference.structure import beside, pieces, spans
from dwalign.program.interpret import bind, going_on
from dwalign.symmetry.axes import SpecError
from dwalign.symmetry.compare import correspondence
from dwalign.symmetry.spec import PermutationSpec

PyTree = Any
MOVES = {"slice", "pad", "concatenate", "reshape", "transpose", "squeeze", "broadcast_in_dim", "split", "rev", "gather"}


class Units(NamedTuple):
    """What the hidden units compute: for each group arrays `[m, positions, *batch, n]` for m examples.

    Attributes:
      pre: before the non-linearity.
      post: where the next layers read them.
      sensitivity: gradients of a read-out of the outputs with respect to `pre`; None without a read-out.

    Positions are all other axes (places in an image, steps in time, several readers). Along axes of other groups, whose
    order means nothing, a unit answers with the mean and the root mean square; without the former where those units may
    be flipped or mixed, and without the latter, which does not flip or turn, where it may be itself. Units of an expert
    that an index passed over answer with zero. A complex number is two positions. Of a loop whose turns nothing counts
    the last one is seen, and what does not depend on the examples is the same for each of them.
    """

    pre: dict[str, jax.Array]
    post: dict[str, jax.Array]
    sensitivity: dict[str, jax.Array] | None = None


class Plan(NamedTuple):
    """A program, and for every group the values that are observed."""

    program: Program
    pre: dict[str, tuple[Occurrence, ...]]
    post: dict[str, tuple[Occurrence, ...]]
    mixed: frozenset[str]


def make_capture(
    apply: Callable, mixed: Collection[str] = (), spec: PermutationSpec | None = None, like: PyTree = None
) -> Callable[..., tuple[PyTree, Units]]:
    """The function `capture(params, inputs, readout=None) -> (outputs, Units)` for `apply(params, inputs)`.

    Args:
      apply: any JAX function; `inputs` is any tree, and the first axis of every array in it holds the
        examples.
      mixed: groups whose units may be flipped or mixed, so that their mean says nothing.
      spec: what the groups are called; by default what `infer_spec` calls them for as many examples as there are, which
        may take another order of computation.
      like: parameters that hold the masks of the network, where it has any (`infer_spec`).

    The result can be jitted, vmapped over params and differentiated. `readout(outputs)` is a scalar.
    """
    return Capture(apply, frozenset(mixed), spec, like)


@dataclasses.dataclass(frozen=True, eq=False)
class Capture:
    """What `make_capture` makes; it reads a program once for each structure, shapes and types."""

    apply: Callable
    mixed: frozenset[str]
    spec: PermutationSpec | None
    like: PyTree

    @functools.cached_property
    def plans(self) -> dict[Any, Plan]:
        return {}

    def __call__(self, params: PyTree, inputs: PyTree, readout: Callable | None = None) -> tuple[PyTree, Units]:
        inputs = as_arrays(inputs)
        if count_examples(inputs) == 1:
            # a dimension of size one cannot be told from none
            twice = take_examples(inputs, jnp.array([0, 0]))
            half = readout and (lambda outputs: readout(jax.tree.map(lambda leaf: leaf[:1], outputs)))
            return jax.tree.map(lambda leaf: leaf[:1], self(params, twice, half))
        shapes = jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), (params, inputs))
        key = jax.tree.structure((params, inputs)), str(jax.tree.leaves(shapes, is_leaf=lambda x: isinstance(x, tuple)))
        if key not in self.plans:
            self.plans[key] = _plan(self.apply, params, inputs, self.mixed, self.spec, self.like)
        return _run(self.plans[key], params, inputs, readout)

    def __reduce__(self):
        return anew(self)


def _plan(
    apply: Callable, params: PyTree, inputs: PyTree, mixed: Collection[str], spec: PermutationSpec | None, like: PyTree
) -> Plan:
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (params, inputs))
    program = _called_as_in(spec, read_program(apply, with_masks(abstract[0], like), abstract[1]))
    post = {program.groups.names[group]: _readings(program, group) for group in program.groups.batch}
    pre = {
        name: tuple({before.place: before for one in post[name] for before in [_before(program, one, group)]}.values())
        for group, name in program.groups.names.items()
        if group in program.groups.batch
    }
    return Plan(program, pre, post, frozenset(mixed))


def _called_as_in(spec: PermutationSpec | None, program: Program) -> Program:
    """With the names of a spec that describes the same."""
    if spec is None:
        return program
    known = correspondence(program.spec.with_statistics(spec.statistics), spec.with_kinds()) or {}
    names = {leaf: known.get(name, name) for leaf, name in program.groups.names.items()}
    return program._replace(groups=program.groups._replace(names=names))


def _constituents(program: Program, leaf: Atom) -> list[Atom]:
    """The leaves of the program that a group stands for: itself, or those that were merged into it."""
    for (one, two), whole in program.groups.merged.items():
        if whole is leaf:
            return [*_constituents(program, one), *_constituents(program, two)]
    return [leaf]


def _example_leaf(program: Program) -> Atom:
    inputs = program.facts.occurrences[len(program.params) : len(program.closed.jaxpr.invars)]
    atom = next((one.dims[0] for one in inputs if one.dims), None)
    if atom is None:
        raise SpecError("capture: the leading axis of the inputs must hold at least two examples")
    return leaves(atom)[0]


def _carried(one: Occurrence) -> list[Atom]:
    return [leaf for atom in (*one.dims, *one.loops) if atom is not None for leaf in leaves(atom)]


def _picked(program: Program, one: Occurrence, group: Atom) -> list[tuple[Choice, Index]]:
    """The indices that say of which expert, in each row, the units in a value are, where these can be observed."""
    needed = {leaf for h in program.groups.batch[group] for leaf in _constituents(program, h)}
    units, indexed = set(_constituents(program, group)), program.facts.indexed
    return [
        (choice, index)
        for choice in one.choices
        if (atom := one.dims[choice.axis]) is not None and units & {*leaves(atom)}
        if needed & {*leaves(choice.source)} and choice.number in indexed
        for index in [indexed[choice.number]]
        if index.value.place is not None and index.value.loops == one.loops
    ]


# what is observed: values for each example, such values in the last turn of a loop that nothing counts, what is
# computed once for all examples, weights themselves
EACH, LAST, ONCE, WEIGHTS = range(4)


def _usable(program: Program, one: Occurrence, group: Atom, how: int) -> bool:
    needed = [leaf for h in (group, *program.groups.batch[group]) for leaf in _constituents(program, h)]
    picked = [leaf for choice, _ in _picked(program, one, group) for leaf in leaves(choice.source)]
    if one.place is None or _examples(program, one) > how or not {*_carried(one), *picked}.issuperset(needed):
        return False
    # where units meet one another, as in attention, they are along two axes, and none answers by itself
    every = blocks([atom for atom in (*one.dims, *one.loops) if atom is not None])
    return any(all([*block, *picked].count(leaf) == 1 for leaf in needed) for block in every)


def _examples(program: Program, one: Occurrence) -> int:
    place = one.place or ()
    if len(place) == 2 and place[0] < 0:
        return WEIGHTS
    if not one.data or _example_leaf(program) not in _carried(one):
        return ONCE
    # the results of a loop lie one step below it, what a turn computes two
    is_inside = any(place[: len(loop)] == loop and len(place) > len(loop) + 1 for loop in program.facts.endless)
    return LAST if is_inside else EACH


def _readings(program: Program, group: Atom) -> tuple[Occurrence, ...]:
    members = set(_constituents(program, group))
    reads = [
        operand
        for reading in program.facts.reads
        if members & {leaf for atom in reading.atoms for leaf in leaves(atom)}
        for operand in reading.operands
    ]

    def seen(how):
        sources = [_source(program, program.facts.carried.get(one.place or (), one), group, how) for one in reads]
        found = {one.place: one for one in sources if _usable(program, one, group, how)}
        others = [one for one in program.facts.occurrences if _usable(program, one, group, how)]
        return list(found.values()) or others[-1:]

    # the weights themselves carry every group
    found = next(filter(None, map(seen, (EACH, LAST, ONCE, WEIGHTS))))
    return tuple(one._replace(dims=tuple(one.dims)) for one in found)


def _source(program: Program, one: Occurrence, group: Atom, how: int) -> Occurrence:
    """The value of which this one holds copies, such as the picture of which a convolution gathers the patches."""
    origin = program.facts.origins.get(one.place or ())
    if origin is None or origin.primitive not in MOVES:
        return one
    parts = [_source(program, part, group, how) for part in origin.operands if part.data == one.data]
    (source, *others) = {part.place: part for part in parts}.values()
    return one if others or source.loops != one.loops or not _usable(program, source, group, how) else source


def _before(program: Program, one: Occurrence, group: Atom) -> Occurrence:
    how = _examples(program, one)
    while one.place in program.facts.origins:
        arrays = [other for other in program.facts.origins[one.place].operands if other.dims]
        if len(arrays) > 1 and all(other.data for other in arrays):
            # such as the maximum of two slices of one value
            sources = [_source(program, part, group, how) for part in arrays]
            arrays = list({other.place: other for other in sources}.values())
        if len(arrays) != 1 or not _usable(program, arrays[0], group, how) or arrays[0].loops != one.loops:
            break
        if arrays[0].place in program.facts.carried:
            break
        one = arrays[0]._replace(dims=tuple(arrays[0].dims))
    return one


def _run(plan: Plan, params, inputs, readout) -> tuple[PyTree, Units]:
    closed = plan.program.closed
    arrays = [jnp.asarray(leaf) for leaf in jax.tree.leaves((params, inputs))]
    wanted = set()
    for name, one in ((name, one) for kind in (plan.pre, plan.post) for name, ones in kind.items() for one in ones):
        indices = _picked(plan.program, one, _group(plan.program, name))
        wanted |= {one.place, *(index.value.place for _, index in indices)}
    leaves_out, found = _evaluate(closed, arrays, wanted, {})
    found |= {(-1 - k, 0): array for k, array in enumerate(arrays)}
    outputs = plan.program.outputs.unflatten(leaves_out)
    pre, post = ({g: _units(plan, g, ones, found) for g, ones in kind.items()} for kind in (plan.pre, plan.post))
    if readout is None:
        return outputs, Units(pre, post)
    places = {one.place or () for ones in plan.pre.values() for one in ones}

    def read(shifts):
        return readout(plan.program.outputs.unflatten(_evaluate(closed, arrays, set(), shifts)[0]))

    gradients = jax.grad(read)({place: jnp.zeros_like(found[place]) for place in sorted(places)})
    # of a complex number JAX gives the conjugate of what its two parts have
    gradients = jax.tree.map(jnp.conj, gradients)
    sensitivity = {g: _units(plan, g, ones, found | gradients) for g, ones in plan.pre.items()}
    return outputs, Units(pre, post, sensitivity)


def _units(plan: Plan, name: str, ones: Sequence[Occurrence], found: Mapping[Place, jax.Array]) -> jax.Array:
    """`[m, positions, *batch, n]`."""
    group = _group(plan.program, name)
    arrays = [_spread(plan.program, group, one, found) for one in ones]
    real = [(dims, one) for dims, array in arrays for one in _real(array)]
    return jnp.concatenate([part for dims, array in real for part in _arranged(plan, group, dims, array)], axis=1)


def _real(array: jax.Array) -> list[jax.Array]:
    return [array.real, array.imag] if jnp.iscomplexobj(array) else [array]


def _group(program: Program, name: str) -> Atom:
    (group,) = (leaf for leaf in program.groups.batch if program.groups.names[leaf] == name)
    return group


def _spread(program: Program, group: Atom, one: Occurrence, found) -> tuple[list[Atom | None], jax.Array]:
    """The value with an axis more for each index that picked its units: zero but for the position that it names."""
    dims, array = [*one.loops, *one.dims], found[one.place]
    for choice, index in _picked(program, one, group):
        at = found[index.value.place] if index.column is None else found[index.value.place][..., index.column]
        along = [*range(len(one.loops)), *(None if k is None else len(one.loops) + k for k in choice.along)]
        at = at.squeeze([k for k, axis in enumerate(along) if axis is None])
        kept = [axis for axis in along if axis is not None]
        at = at.transpose(np.argsort(kept)).reshape([n if k in kept else 1 for k, n in enumerate(array.shape)])
        array = array[..., None] * jax.nn.one_hot(at, choice.source.size, dtype=array.dtype)
        dims.append(choice.source)
    if (examples := _example_leaf(program)) not in _carried(one):
        dims, array = [examples, *dims], jnp.broadcast_to(array, (examples.size, *array.shape))
    return dims, array


def _arranged(plan: Plan, group: Atom, dims: Sequence[Atom | None], array: jax.Array) -> list[jax.Array]:
    """Arrays `[m, positions, *batch, n]`."""
    program = plan.program
    outer = [_constituents(program, h) for h in program.groups.batch[group]]
    own = _constituents(program, group)
    behind = [*(leaf for leaves in outer for leaf in leaves), *own]
    names = program.groups.names
    permuted: dict[Atom | None, str] = {
        leaf: names[g] for g in program.groups.batch for leaf in _constituents(program, g)
    }
    out = []
    for factors, block in _unfold(array, dims):
        if any(factors.count(leaf) != 1 for leaf in [_example_leaf(program), *behind]):
            continue
        first = factors.index(_example_leaf(program))
        last = [factors.index(leaf) for leaf in behind]
        unordered = [k for k, leaf in enumerate(factors) if leaf in permuted and k not in last]
        rest = [k for k in range(len(factors)) if k not in (first, *last, *unordered)]
        x = block.transpose([first, *rest, *unordered, *last])
        x = x.reshape(x.shape[0], math.prod(block.shape[k] for k in rest), -1, *(block.shape[k] for k in last))
        shape = [math.prod(leaf.size for leaf in leaves) for leaves in outer]
        told = []
        if plan.mixed.isdisjoint(permuted[factors[k]] for k in unordered):
            told.append(x.mean(2) if unordered else x[:, :, 0])
        if unordered and names[group] not in plan.mixed:
            told.append(jnp.sqrt((x**2).mean(2) + 1e-12))
        # of units that may be mixed, beside others that may, nothing is told
        told = told or [jnp.zeros_like(x[:, :, 0])]
        out += [one.reshape(*one.shape[:2], *shape, math.prod(leaf.size for leaf in own)) for one in told]
    return out


def _unfold(array: jax.Array, dims: Sequence[Atom | None]) -> Iterator[tuple[list[Atom | None], jax.Array]]:
    """The array with one axis for every leaf, a block for every combination of concatenated parts."""
    for axis, dim in enumerate(dims):
        atom = None if dim is None else find(dim)
        if atom is None or atom.kind in ("leaf", "family"):
            continue
        before, after = dims[:axis], dims[axis + 1 :]
        if atom.kind == "product":
            split = array.reshape(
                *array.shape[:axis], *(child.size for child in atom.children), *array.shape[axis + 1 :]
            )
            yield from _unfold(split, (*before, *atom.children, *after))
        elif atom.kind == "turns":
            for k, child in enumerate(atom.children):
                own = jax.lax.slice_in_dim(array, k, None, len(atom.children), axis)
                yield from _unfold(own, (*before, child, *after))
        else:
            start = 0
            for child, on in zip(atom.children, spans(atom, [child.size for child in atom.children]), strict=True):
                piece = jax.lax.slice_in_dim(array, start, start + child.size, axis=axis)
                near = lambda other, on=on, atom=atom: other and beside(other, pieces(atom), on, create=False)
                yield from _unfold(piece, (*map(near, before), child, *map(near, after)))
                start += child.size
        return
    yield [None if dim is None else find(dim) for dim in dims], array


def _evaluate(closed: ClosedJaxpr, args, wanted, shifts, prefix: Place = ()) -> tuple[list, dict[Place, jax.Array]]:
    """Run a program; returns its outputs and the wanted values, to which `shifts` are added."""
    jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
    consts = closed.consts if isinstance(closed, ClosedJaxpr) else ()
    found: dict[Place, jax.Array] = {}
    env = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))
    places = {*wanted, *shifts}

    def read(var):
        return var.val if isinstance(var, Literal) else env[var]

    for number, eqn in enumerate(jaxpr.eqns):
        here = (*prefix, number)
        values = [read(var) for var in eqn.invars]
        inside = {place for place in places if place[: len(here)] == here and len(place) > len(here) + 1}
        if not inside:
            outs = bind(eqn, values)
        else:
            within = wanted & inside, {place: shifts[place] for place in inside & set(shifts)}
            if eqn.primitive.name in LOOPS:
                outs, more = LOOPS[eqn.primitive.name](eqn, values, *within, here)
            else:
                outs, more = _evaluate(called(eqn), values, *within, here)
            found |= more
        for k, var in enumerate(eqn.outvars):
            place = (*here, k)
            env[var] = outs[k] + shifts[place] if place in shifts else outs[k]
            if place in wanted:
                found[place] = env[var]
    return [read(var) for var in jaxpr.outvars], found


def _evaluate_scan(eqn, values, wanted, shifts, here: Place):
    consts, carries = scan_parts(eqn)
    fixed, carry, xs = values[:consts], values[consts : consts + carries], values[consts + carries :]

    def body(carry, row):
        row, moves = row
        outs, found = _evaluate(eqn.params["jaxpr"], [*fixed, *carry, *row], wanted, moves, here)
        return outs[:carries], (outs[carries:], found)

    carry, (ys, found) = jax.lax.scan(
        body, list(carry), (list(xs), shifts), length=eqn.params["length"], reverse=eqn.params["reverse"]
    )
    return [*carry, *ys], found


def _evaluate_while(eqn, values, wanted, shifts, here: Place):
    """What is wanted is that of the last turn."""
    tests, bodies = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test, fixed, state = values[:tests], values[tests : tests + bodies], values[tests + bodies :]

    def asked(now):
        return _evaluate(eqn.params["cond_jaxpr"], [*test, *now[0]], set(), {}, here)[0][0]

    def turn(now):
        outs, found = _evaluate(eqn.params["body_jaxpr"], [*fixed, *now[0]], wanted, shifts, here)
        return going_on(asked(now), outs, now[0]), found

    none = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), jax.eval_shape(turn, (state, {}))[1])
    return jax.lax.while_loop(lambda now: jnp.any(asked(now)), turn, (state, none))


LOOPS = {"scan": _evaluate_scan, "while": _evaluate_while}
