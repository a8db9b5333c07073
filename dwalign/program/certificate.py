"""The certificate: numbers that show that a spec describes symmetries of a function, and that it misses none."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.program.completeness import CLEAR, find_missed
from dwalign.program.inference import Program, read_program
from dwalign.program.missed_kinds import find_missed_kinds
from dwalign.program.trial import ROUNDED, Examined, Trial, examine, fresh_trials, trials
from dwalign.symmetry.action import inverse, permute, permute_block, random_perms
from dwalign.symmetry.axes import SpecError
from dwalign.symmetry.elements import Monomial
from dwalign.symmetry.guards import check_spec
from dwalign.symmetry.spec import Note, PermutationSpec

PyTree = Any
Element = dict[str, Any]
# what rounding leaves of an array that factors or maps moved and moved back, relative to its largest number
UNDONE = 1e-9
# results that rounding moves by more than this cannot tell right from wrong
USELESS = 0.03
# units, of which a cycle may be all that a function is symmetric under
FEW = 8
# seconds for what takes a run for every array: which are seen, which belong together
PATIENCE = {False: 1.0, True: 60.0}


class CertificateError(SpecError):
    """A spec that is not a symmetry of the function."""


class Certificate(NamedTuple):
    """Attributes:
    error: largest difference of f(g.v) and f(v), relative to what is typical of f(v), in double precision.
    missed: what can be permuted beyond the spec (sound but incomplete), if it was probed.
    unseen: arrays that carry groups and of which no effect on the results could be found, so that nothing is known
      about them: not used, or switched off by others. None where this was not measured.
    tolerance: what passed as rounding.
    """

    error: float
    missed: tuple[Note, ...] = ()
    unseen: tuple[str, ...] | None = None
    tolerance: float = 0.0


def certify(
    spec: PermutationSpec,
    apply: Callable,
    params: PyTree,
    *inputs: PyTree,
    key: jax.Array | None = None,
    tolerance: float | None = None,
    complete: bool = False,
    moderate: int = 8,
) -> Certificate:
    """Check that `f(g.v, x) = f(v, x)` for a random g, and that the inverse of g restores what g moved bit for bit.

    The equations of the function run in double precision, whatever types it computes in, at a generic point inside its
    domain: zero biases, an all-zero image or a factor of 1e-6 would hide a wrong spec. Where values are not finite
    there, points nearer to the given one are tried, at last that one itself. Where arrays are not seen, weights drawn
    anew are tried too.

    Args:
      spec: what is checked.
      apply: `(params, *inputs) -> outputs`.
      params, inputs: arrays; `jax.ShapeDtypeStruct` is filled with random values.
      key: draws g and the point.
      tolerance: relative change of the results that passes as rounding; by default what the precision of the program
        asks for, 4e-10 unless kernels or callbacks compute in types of their own, or what is measured if that is more.
      complete: also probe the other direction. Reported are units that the program leaves free and `spec` does not
        declare, pinned dimensions or parts of concatenations of at least `moderate` positions that, permuted by
        themselves wherever the program uses them, leave the function unchanged, and places of a group that can be
        permuted without its others. Dimensions on two sides of a primitive without a rule (`spec.unknown` of an
        inferred spec) are permuted one at a time: a symmetry through it is not found.
        In a spec with larger kinds also reported are scales, signs and maps of single groups that are free beside the
        declared ones.
      moderate: smaller pinned dimensions are not probed.

    Raises:
      CertificateError: naming the group, and the array that does not fit the others; or apply gives a different result
        each time, or values that are not finite.
      SpecError: params do not fit the spec.
    """
    options: Any = dict(key=key, tolerance=tolerance, complete=complete, moderate=moderate)
    return certify_each([spec], apply, params, *inputs, **options)[0]


def certify_each(
    specs: Sequence[PermutationSpec],
    apply: Callable,
    params: PyTree,
    *inputs: PyTree,
    key: jax.Array | None = None,
    tolerance: float | None = None,
    complete: bool = False,
    moderate: int = 8,
) -> list[Certificate]:
    """`certify` for several specs of one function, which is traced and compiled once."""
    words = _words(key)
    for spec in specs:
        check_spec("certify", spec)
        spec.check(params)
    found = examine(apply, params, *inputs, often=complete)
    program = read_program(apply, params, *inputs) if complete else None
    return [_certified(spec, found, program, np.random.default_rng(words), tolerance, moderate) for spec in specs]


def _certified(
    spec: PermutationSpec,
    found: Examined,
    program: Program | None,
    rng: np.random.Generator,
    tolerance: float | None,
    moderate: int,
) -> Certificate:
    """Of one spec; complete where the program is given."""
    patience = PATIENCE[program is not None]
    elements = drawn_elements(spec, rng)
    trial, limit, error = _judged(spec, elements, trials(found, rng), tolerance)
    _check_inverse(spec, trial.params, elements[0])
    if spec.has_kinds:
        _check_inverse(spec, trial.wide, elements[1], UNDONE)
    carriers = {path for path, axes in zip(spec.paths, spec.leaves, strict=True) if axes.names() & set(spec.sizes)}
    if tolerance is None and limit > USELESS:
        return Certificate(error, (), tuple(path for path in spec.paths if path in carriers), limit)
    unseen = None
    if len(carriers) * found.seconds < patience:
        unseen = _unseen(spec, trial, elements[0], limit, carriers)
        for other in fresh_trials(found, rng) if unseen else ():
            # a symmetry holds for all weights: for those too
            _, limit_there, error_there = _judged(spec, elements, [other], tolerance)
            error, limit = max(error, error_there), max(limit, limit_there)
            unseen = _unseen(spec, other, elements[0], limit_there, unseen)
    missed: Iterable[Note] = ()
    if program is not None:
        missed = (
            *find_missed(spec, program, trial, limit, moderate, rng, patience),
            *find_missed_kinds(spec, trial, limit, rng, patience),
        )
    order = None if unseen is None else tuple(path for path in spec.paths if path in unseen)
    return Certificate(error, tuple(missed), order, limit)


def _words(key: jax.Array | None) -> list[int]:
    """The numbers of a key; those of `jax.random.key(0)` without one, for which a program would be compiled.

    All else is done in NumPy and by programs that are compiled, also while a program around it is traced. They are
    traced outside of the block below: inside, Flax would draw all parameters to see their shapes.
    """
    if key is None:
        return [0, 0]
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.key_data(key)).tolist()


def accepts(
    spec: PermutationSpec, trial: Trial, elements: Sequence[Element], tolerance: float | None = None
) -> tuple[bool, float, float]:
    """Do these elements leave the function unchanged at this point? With the change, and with what passes as rounding.

    What `certify` asks, for those who ask it of many specs of one function: `examine` traces and compiles it, `trials`
    gives points at which it is finite, `drawn_elements` elements.

    >>> import jax.numpy as jnp
    >>> from dwalign.program import drawn_elements, examine, trials
    >>> from dwalign.symmetry import Axes
    >>> rng = np.random.default_rng(0)
    >>> f = lambda params, x: jnp.tanh(x @ params["up"]) @ params["down"]
    >>> params, x = {"up": jnp.ones((2, 4)), "down": jnp.ones((4, 3))}, jnp.ones((5, 2))
    >>> trial = next(trials(examine(f, params, x), rng))
    >>> for down in (Axes("h", None), Axes(None, None)):
    ...     spec = PermutationSpec({"up": Axes(None, "h"), "down": down}, {"h": 4})
    ...     accepts(spec, trial, drawn_elements(spec, rng))[0]
    True
    False
    """
    at = trial.wide if spec.has_kinds else trial.params
    errors = [trial.change(permute(spec, at, element)) for element in elements]
    limit = trial.floor if tolerance is None else tolerance
    error = float(np.max(errors, initial=0.0))
    if tolerance is None and not error <= limit:
        limit = max(limit, ROUNDED * trial.rounding())
    return error <= limit, error, limit


def _judged(spec, elements, points: Iterable[Trial], tolerance) -> tuple[Trial, float, float]:
    """The first of these points at which rounding leaves something to be seen, with what it allows and the error."""
    trial = None
    for trial in points:
        fits, error, limit = accepts(spec, trial, elements, tolerance)
        if not fits or limit > trial.floor:
            _check_pure(trial)
        if limit > USELESS and tolerance is None:
            continue
        if not fits:
            raise CertificateError(_blame(spec, trial, elements, limit, error))
        break
    if trial is None:
        raise CertificateError(
            "certify: apply must give finite values on these params and inputs, found NaN or inf; a network is tried "
            "on single examples along the first axis of its inputs: nodes of one graph, which meet, need an axis "
            "before theirs (jax.vmap)"
        )
    return trial, limit, error


def drawn_elements(spec: PermutationSpec, rng: np.random.Generator) -> list[Element]:
    """Random elements that generate all: one moves every unit around a cycle, others exchange two units of few.

    Of few units a function may well be symmetric under a cycle alone, and two groups of few units may get the same
    permutation; of many neither happens by chance. So each small group is told from every other by one of the
    exchanges, in which one of the two takes part: those of its number's binary digits. So is each direction of its
    signs, of which one unit is turned: random signs of few may well be none. One more element has the factors and maps
    of larger kinds. Drawn on the host: compiling a shuffle for every size and a gather for every array takes longer
    than all else.
    """
    orders = {g: rng.permuted(_identity(spec, g), axis=-1) for g in spec.sizes}
    cycles = {g: _placed(order, order, np.roll(order, 1, axis=-1)) for g, order in orders.items()}
    few = [g for g, n in spec.sizes.items() if n < FEW]
    exchanges, flips = {}, {}
    for group in few:
        # of a batched group one row is moved and one is not, so that the rows are seen to be independent
        shape = spec.batch_shape(group)
        rows = rng.permutation(np.arange(math.prod(shape)) % 2 == 0).reshape(shape)[..., None]
        pair = orders[group][..., :2]
        exchanges[group] = _placed(_identity(spec, group), pair, np.where(rows, pair[..., ::-1], pair))
        flips[group] = _placed(np.ones((*shape, spec.sizes[group])), pair[..., :1], np.where(rows, -1.0, 1.0))
    single = [(g, None) for g in few] + [(g, k) for g in few for k in range(spec.directions[g][1])]
    digits = range(len(single).bit_length())
    larger = random_perms(spec, rng) if spec.has_kinds else {}
    factors = {g: _mixed(element) for g, element in larger.items() if spec.kinds[g] != "permutation"}

    def generator(group: str, chosen: set[int | None]) -> Any:
        order = exchanges[group] if None in chosen else _identity(spec, group)
        if chosen == {None}:
            return order
        scales, signs = spec.directions[group]
        sign = np.stack([flips[group] if k in chosen else np.ones(order.shape) for k in range(signs)], axis=-1)
        return Monomial(order, np.ones((*order.shape, scales)) if scales else None, sign)

    return [
        cycles,
        *([factors] if factors else []),
        *(
            {g: generator(g, {k for h, k in part if h == g}) for g in dict.fromkeys(g for g, _ in part)}
            for digit in digits
            if (part := [one for number, one in enumerate(single, 1) if number >> digit & 1])
        ),
    ]


def _identity(spec: PermutationSpec, group: str) -> np.ndarray:
    n = spec.sizes[group]
    return np.broadcast_to(np.arange(n), (*spec.batch_shape(group), n))


def _mixed(element: Any) -> Any:
    """With both signs, which random ones need not have: the first unit is turned, the second is not."""
    if not isinstance(element, Monomial) or element.sign is None or element.sign.shape[-2] < 2:
        return element
    sign = np.array(element.sign)
    sign[..., 0, :], sign[..., 1, :] = -1, 1
    return element._replace(sign=sign)


def _placed(array: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = array.copy()
    np.put_along_axis(out, index, values, axis=-1)
    return out


def _check_inverse(spec: PermutationSpec, params: PyTree, perms: Element, undone: float = 0.0) -> None:
    """On the smallest array that carries each group: to move all of a large model takes seconds.

    Bit for bit where units only change places; `undone` is what rounding may leave of others.
    """
    back = inverse(spec, perms)
    blocks = spec.blocks(params)
    for group in perms:
        block = min((one for one in blocks if group in one.factors), key=lambda one: one.array.size)
        one, two = block.array, permute_block(spec, permute_block(spec, block, perms), back).array
        if undone:
            fits = np.allclose(one, two, rtol=0, atol=undone * np.max(np.abs(one), initial=0), equal_nan=True)
        else:
            fits = np.array_equal(one, two, equal_nan=True)
        if not fits:
            raise CertificateError(f"certify: the inverse must restore {block.path}, but it does not")


def _check_pure(trial: Trial) -> None:
    if trial.change(trial.params) > trial.floor:
        raise CertificateError(
            "certify: apply must be a pure function, but gave two results on the same params and inputs; "
            "pass random keys as inputs, and switch dropout off"
        )


def _unseen(spec, trial: Trial, element: Element, limit: float, carriers) -> set[str]:
    """The arrays that can be left behind when all others move, and nobody notices."""
    moved, treedef = jax.tree.flatten(permute(spec, trial.params, element))
    before = jax.tree.leaves(trial.params)
    left = {
        path: treedef.unflatten([*moved[:k], before[k], *moved[k + 1 :]])
        for k, path in enumerate(spec.paths)
        if path in carriers
    }
    return {path for path, params in left.items() if trial.change(params) <= CLEAR * limit}


def _blame(spec, trial: Trial, elements, limit, error) -> str:
    """The first group that alone changes the function, and the array without which it would not."""
    what = f"certify: permuting must not change the function, but changed it by {error:.1e} (relative)"
    for group, perm in ((group, element[group]) for group in spec.sizes for element in elements if group in element):
        moved = permute(spec, trial.wide if spec.has_kinds else trial.params, {group: perm})
        if trial.change(moved) <= limit:
            continue
        carriers = [k for k, axes in enumerate(spec.leaves) if group in axes.names()]
        leaves, treedef = jax.tree.flatten(moved)
        before = jax.tree.leaves(trial.params)
        for k in carriers:
            left = treedef.unflatten([*leaves[:k], before[k], *leaves[k + 1 :]])
            if trial.change(left) <= limit:
                return f"{what}: group {group!r} must not be on {spec.paths[k]} ({spec.leaves[k]}), all others fit"
        found = ", ".join(f"{spec.paths[k]} ({spec.leaves[k]})" for k in carriers)
        return f"{what}: group {group!r} is not a symmetry as declared; it is on {found}. Compare with infer_spec"
    return f"{what}: each group fits by itself but not all together; look at how {dict(spec.batch)} are batched"
