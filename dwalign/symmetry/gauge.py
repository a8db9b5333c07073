"""One representative of all networks that differ by factors and maps alone: of all of these the smallest.

What the sum of squares of all weights is smallest in is the same for all of them, and it is unique up to what leaves
the sum as it is: signs, orders and orthogonal maps (Kempf & Ness 1979). For scales that makes the norms of what writes
a unit and of what reads it equal; for linear maps it makes both factors of a product alike. Groups share arrays, so
that each has a say in what the others ask for: all take turns until nothing changes, and as the sum is convex along
the group they meet in the one minimum. One factor for all units of a group is found for all groups at once, since
that would spread through a deep network only layer by layer.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.symmetry.action import Perms, identity, moves, permute
from dwalign.symmetry.axes import namespace
from dwalign.symmetry.balance import alike, left_free, newton_step, positive, solve_signs
from dwalign.symmetry.dtypes import is_traced
from dwalign.symmetry.elements import Monomial, act, factors_at, spread
from dwalign.symmetry.guards import check_spec
from dwalign.symmetry.powers import SCALED, SIGNED, Power
from dwalign.symmetry.spec import Block, PermutationSpec
from dwalign.symmetry.weights import check_finite, weight_blocks

PyTree = Any
ROUNDS = 100
# what still moves after so many rounds, and by so much in one, has no smallest norm
LATE, MUCH = 40, 0.1
# changes of a round that count as none, and how many units of the precision these are at least
SMALL, ROUNDING = 1e-9, 64


class Place(NamedTuple):
    """Attributes:
    block: the number of a block.
    axis: the one that carries the group.
    batch: those that the group is batched over.
    power: of the group's factors.
    times: how often the block carries the group.
    """

    block: int
    axis: int
    batch: tuple[int, ...]
    power: Power
    times: int


class State(NamedTuple):
    """Attributes:
    arrays: the blocks as they are by now.
    scales: logarithms of the factors of each group, `[*batch, n, directions]`.
    maps: of each linear group.
    round: how many there were.
    """

    arrays: list[Any]
    scales: dict[str, Any]
    maps: dict[str, Any]
    round: Any


def canonical(spec: PermutationSpec, params: PyTree, *, basis: bool = True) -> PyTree:
    """The network that stands for all that differ from this one by factors and maps: the same function, fixed scales.

    Two networks are closer in one gauge before any matching, and their average means more. `gauge` says what is fixed
    and what is left to a matching; what is returned is `permute(spec, params, gauge(spec, params))`.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"up": Axes("h", None), "down": Axes(None, "h^-1")}, {"h": 2}, kinds={"h": "scale"})
    >>> balanced = canonical(spec, {"up": np.array([[8.0], [1.0]]), "down": np.array([[2.0, 0.0]])})
    >>> balanced["up"].round(6).tolist(), balanced["down"].round(6).tolist()
    ([[4.0], [1.0]], [[4.0, 0.0]])
    """
    element = gauge(spec, params, basis=basis)
    return permute(spec, params, {g: one for g, one in element.items() if spec.kinds[g] in {*SCALED, *SIGNED}})


def gauge(spec: PermutationSpec, params: PyTree, *, basis: bool = True) -> Perms:
    """The element that brings a network into the gauge of smallest weights: factors and maps, no order of units.

    Only weights vote; statistics move along. By kind of the group:

    - scale, monomial: positive factors that make the sum of squares smallest. For powers 1 and -1 in- and outgoing
      norm of each unit are equal then. Where no factor is best, as for a unit that nothing reads, it is 1, and what
      depends on it has no say in other factors.
    - sign, monomial: signs that an array determines that carries the group alone, one number a unit, if all of these
      are further from zero than the standard deviation of their sizes: gains of norms are, and become positive. Biases
      are not: their signs are left to the matching.
    - linear: `M x x' M' = M^-T y y' M^-1`, diagonal and falling, where x is what changes by M and y what changes by its
      dual. Equal values leave the basis open, and so does a product without full rank, of which the rest is rotated.
      Groups that an array carries twice keep their basis.
    - orthogonal, permutation: nothing, for they leave all norms as they are.

    Args:
      spec: of all kinds (`infer_spec(..., kinds="all")`); one of permutations alone leaves nothing to do.
      params: a tree that fits the spec. What is not traced is computed on the host, in double precision.
      basis: False for the linear map closest to none that makes both sides alike, instead of that to the singular
        vectors: what is left between two networks is an orthogonal map, which a matching may find.

    Returns:
      an element for every group, as `permute` takes it, of NumPy arrays unless traced; the identity where nothing is
      to do.

    Works under `jit` and `vmap`. Raises `SpecError` if params does not fit the spec, `ValueError` if it holds NaN or
    infinite weights and is not traced.
    """
    check_spec("gauge", spec)
    spec.check(params)
    element = identity(spec)
    # what lies in files is not read for nothing
    if not spec.has_kinds:
        return element
    check_finite("gauge", spec, params, "params")
    blocks = weight_blocks(spec, params)
    places = _places(spec, blocks)
    if not any(places.values()):
        return element
    # a program of so many small steps takes longer to compile than to run
    traced = is_traced([block.array for block in blocks])
    dtype = jnp.result_type(*(block.array for block in blocks)) if traced else np.float64
    arrays = [jnp.astype(block.array, dtype) if traced else np.asarray(block.array, dtype) for block in blocks]
    with jax.default_matmul_precision("highest"):
        scales, maps, signs = _gauge(spec, places, arrays)
    for g in places:
        if g in maps:
            element[g] = maps[g] if basis else positive(maps[g])
        elif g in scales or g in signs:
            element[g] = Monomial(element[g], scales.get(g), signs.get(g))
    return element


def free_signs(spec: PermutationSpec, *networks: PyTree) -> dict[str, np.ndarray]:
    """What is left of signs between networks in their gauge: no flip of what it made positive in all of them.

    Args:
      spec: of any kinds.
      networks: each as `canonical` returns it; arrays that are not traced.

    Returns:
      for each group with signs directions of which each is some of its own together, `[left, directions]` of 0 and 1,
      as `PermutationSpec.with_signs` takes them.
    """
    shared = {g: np.eye(spec.directions[g][1], dtype=np.int32) for g in spec.sizes if spec.directions[g][1]}
    blocks = [weight_blocks(spec, params) for params in networks]
    for g, own in _places(spec, blocks[0]).items():
        if g in shared:
            alone = _alone([block.array for block in blocks[0]], own)
            made = [p for p in alone if all(_is_positive(np.asarray(of[p.block].array)) for of in blocks)]
            shared[g] = left_free(np.array([p.power.sign for p in made], np.int32).reshape(-1, len(shared[g])))
    return shared


def _is_positive(numbers: np.ndarray) -> bool:
    return bool((numbers > 0).all() and _is_sure(numbers.reshape(1, -1))[0])


def _places(spec: PermutationSpec, blocks: Sequence[Block]) -> dict[str, list[Place]]:
    """Where groups with factors or maps are; none of linear groups that an array carries twice."""
    found: dict[str, list[Place]] = {g: [] for g, kind in spec.kinds.items() if kind in {*SCALED, *SIGNED}}
    for number, block in enumerate(blocks):
        for group, axis, batch in moves(spec, block.factors):
            if group in found:
                found[group].append(Place(number, axis, batch, block.powers[axis], block.factors.count(group)))
    twice = lambda g: spec.kinds[g] == "linear" and any(place.times > 1 for place in found[g])
    return {g: [] if twice(g) else own for g, own in found.items()}


def _gauge(spec, places, arrays):
    xp, dtype = namespace(*arrays), arrays[0].dtype
    scaled, linear = _scaled(spec, places), _linear(spec, places)
    shape = lambda g, *more: (*spec.batch_shape(g), spec.sizes[g], *more)
    none = {g: xp.zeros(shape(g, spec.directions[g][0]), dtype) for g in scaled}
    same = {g: xp.broadcast_to(xp.eye(spec.sizes[g], dtype=dtype), shape(g, spec.sizes[g])) for g in linear}

    def turn(state: State) -> tuple[State, Any]:
        arrays, scales, maps, changes = list(state.arrays), dict(state.scales), dict(state.maps), []
        for g, own in linear.items():
            step, maps[g] = _balance(arrays, own, maps[g])
            # a rotation changes no norm
            changes.append(abs(step @ step.swapaxes(-1, -2) - same[g]).max())
        for g, own in scaled.items():
            step = _equalise(arrays, own, state.round > LATE)
            scales[g] = scales[g] + step
            changes.append(abs(step).max())
        for g, step in _together(arrays, scaled).items():
            scales[g] = scales[g] + xp.broadcast_to(step, scales[g].shape)
            changes.append(abs(step).max())
        return State(arrays, scales, maps, state.round + 1), xp.stack(changes).max()

    state = State(list(arrays), none, same, 0)
    # of maps that share no array each is in place at once, which comes last
    if scaled or _share(linear):
        state = _until_settled(turn, state, max(SMALL, ROUNDING * float(np.finfo(dtype).eps)))
    scales = {g: xp.exp(_needed(_norms(state.arrays, own), own, state.scales[g])) for g, own in scaled.items()}
    maps, signs, arrays = dict(state.maps), {}, list(arrays)
    for g, own in scaled.items():
        _multiply(arrays, own, Monomial(None, scales[g]))
    for g, own in places.items():
        if (sign := _signs(arrays, own, spec.directions[g][1])) is not None:
            signs[g] = sign
            _multiply(arrays, own, Monomial(None, None, sign))
    # the basis goes by the signs, and no unit is left out of it
    for g, own in linear.items():
        _map(arrays, own, maps[g])
    for g, own in linear.items():
        maps[g] = _balance(arrays, own, maps[g])[1]
    return scales, maps, signs


def _scaled(spec, places) -> dict[str, list[Place]]:
    """The places at which groups have positive factors."""
    groups = [g for g in places if spec.kinds[g] != "linear" and spec.directions[g][0]]
    found = {g: [place for place in places[g] if any(place.power.scale)] for g in groups}
    return {g: own for g, own in found.items() if own}


def _linear(spec, places) -> dict[str, list[Place]]:
    """Those of linear groups that have a side and a dual side."""
    return {g: own for g, own in places.items() if spec.kinds[g] == "linear" and len({p.power for p in own}) == 2}


def _share(places: dict[str, list[Place]]) -> bool:
    """Whether some array carries two of these groups."""
    blocks = [number for own in places.values() for number in {place.block for place in own}]
    return len(set(blocks)) < len(blocks)


def _until_settled(turn: Callable, state: State, small: float) -> State:
    if namespace(*state.arrays) is np:
        for _ in range(ROUNDS):
            state, change = turn(state)
            if change <= small:
                break
        return state
    going = lambda carry: (carry[1] > small) & (carry[0].round < ROUNDS)
    # any change at all, of the type of the others
    first = jnp.full((), jnp.inf, state.arrays[0].dtype)
    return jax.lax.while_loop(going, lambda carry: turn(carry[0]), (state, first))[0]


# positive factors


def _powers(own: Sequence[Place], dtype) -> np.ndarray:
    return np.array([[float(power) for power in place.power.scale] for place in own], dtype)


def _norms(arrays, own: Sequence[Place]) -> Any:
    """The sum of squares of each unit at each place, `[*batch, n, places]`."""
    out = []
    for place in own:
        array = arrays[place.block]
        kept = (*place.batch, place.axis)
        squares = (array * array).sum(tuple(d for d in range(array.ndim) if d not in kept))
        out.append(squares.transpose([sorted(kept).index(d) for d in kept]))
    return namespace(*out).stack(out, -1)


def _determined(norms, own: Sequence[Place]) -> Any:
    """Whether a factor is best, by unit and direction: where some place grows with it and another shrinks."""
    powers, some = _powers(own, norms.dtype), (norms > 0).astype(norms.dtype)
    return (some @ (powers > 0).astype(norms.dtype) > 0) & (some @ (powers < 0).astype(norms.dtype) > 0)


def _needed(norms, own: Sequence[Place], logarithms) -> Any:
    """The smallest logarithms that do the same at all places that are not left out."""
    some = (norms > 0).astype(norms.dtype)[..., None]
    powers = some * _powers(own, norms.dtype).reshape((1,) * (norms.ndim - 1) + (len(own), -1))
    return (namespace(norms).linalg.pinv(powers) @ (powers @ logarithms[..., None]))[..., 0]


def _equalise(arrays: list, own: Sequence[Place], late: Any) -> Any:
    """Change the factors of one group; what depends on a factor that nothing determines is left out of `arrays`.

    Where an array carries the group twice, a mean bounds the product of both factors from above.
    """
    xp = namespace(*arrays)
    norms = _norms(arrays, own)
    powers, times = _powers(own, norms.dtype), np.array([place.times for place in own], norms.dtype)
    loose = (~_determined(norms, own)).astype(norms.dtype)
    votes = loose @ (powers != 0).astype(norms.dtype).T == 0
    norms = xp.where(votes, norms, 0) / xp.broadcast_to(times, norms.shape)
    step = newton_step(norms, powers * times[:, None])
    moved = step @ powers.T
    factors = xp.where(votes & ~(late & (abs(moved) > MUCH)), xp.exp(moved), 0)
    for k, place in enumerate(own):
        arrays[place.block] = _times(arrays[place.block], place, factors[..., k])
    return step


def _together(arrays: list, scaled: dict[str, list[Place]]) -> dict[str, Any]:
    """Change all factors of a group alike, for all groups at once."""
    if not scaled:
        return {}
    xp, dtype = namespace(*arrays), arrays[0].dtype
    counts = {g: len(own[0].power.scale) for g, own in scaled.items()}
    ends = dict(zip(counts, np.cumsum(list(counts.values())).tolist(), strict=True))
    powers = np.zeros((len(arrays), sum(counts.values())), dtype)
    for g, own in scaled.items():
        for place, power in zip(own, _powers(own, dtype), strict=True):
            powers[place.block, ends[g] - counts[g] : ends[g]] += power
    moved = np.flatnonzero(powers.any(1)).tolist()
    step = newton_step(xp.stack([(arrays[k] * arrays[k]).sum() for k in moved]), powers[moved])
    for k, factor in zip(moved, xp.exp(powers[moved] @ step), strict=True):
        arrays[k] = arrays[k] * factor
    return {g: step[ends[g] - counts[g] : ends[g]] for g in scaled}


def _times(array, place: Place, factors) -> Any:
    return array * spread(namespace(array), factors, array.ndim, (*place.batch, place.axis))


def _multiply(arrays: list, own: Sequence[Place], element: Monomial) -> None:
    for place in own:
        if (factors := factors_at(element, place.power)) is not None:
            arrays[place.block] = _times(arrays[place.block], place, factors)


# signs


def _signs(arrays, own: Sequence[Place], directions: int) -> Any:
    """Those that make positive what is surely not zero, `[*batch, n, directions]`; None where no array tells."""
    alone = _alone(arrays, own)
    if not (directions and alone):
        return None
    xp = namespace(*arrays)
    numbers = xp.stack([arrays[p.block].transpose((*p.batch, p.axis)) for p in alone])
    powers = np.array([p.power.sign for p in alone], np.int32)
    found = solve_signs(powers, numbers < 0, _is_sure(numbers.reshape(len(alone), -1)))
    return (1 - 2 * found).astype(numbers.dtype)


def _alone(arrays, own: Sequence[Place]) -> list[Place]:
    """The places of arrays that carry the group alone, and change with its signs."""
    return [p for p in own if any(p.power.sign) and arrays[p.block].ndim == len(p.batch) + 1]


def _is_sure(numbers) -> Any:
    """Whether all numbers of each row are further from zero than their sizes differ."""
    sizes = abs(numbers)
    return sizes.min(1) > sizes.std(1)


# linear maps


def _map(arrays: list, own: Sequence[Place], matrix: Any) -> None:
    for place in own:
        arrays[place.block] = act(arrays[place.block], place.axis, place.batch, matrix, "linear", place.power)


def _balance(arrays: list, own: Sequence[Place], before: Any) -> tuple[Any, Any]:
    """Make both sides alike; the map, and what it makes of the map before it."""
    xp = namespace(*arrays)

    def side(power):
        out = []
        for p in own:
            if p.power.scale == (power,):
                array = arrays[p.block]
                first = (*p.batch, p.axis)
                array = array.transpose((*first, *(d for d in range(array.ndim) if d not in first)))
                out.append(array.reshape((*array.shape[: len(first)], -1)))
        return xp.concatenate(out, -1)

    step = alike(side(1), side(-1))
    _map(arrays, own, step)
    return step, step @ before
