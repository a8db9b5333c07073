"""What must hold for every program; what a spec misses is no fault, and is counted."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.matching import feature_matching, weight_matching
from dwalign.program import infer_spec
from dwalign.program.certificate import certify_each
from dwalign.program.trial import QUICK, difference
from dwalign.symmetry import PermutationSpec, inverse, permute, random_perms
from tests import drawn
from tests.fuzz.programs import Program, Realised, realise

# of results in double precision: programs are short, and rounding moves few of them by more than 1e-12
CLOSE = 1e-8
ROUNDING = 1e-10


class Seen(NamedTuple):
    """Attributes:
    groups: how many the spec of permutations has.
    larger: how many are of a larger kind.
    misses: what is free beyond the specs, by reason.
    planted: what found a hidden element of the spec of permutations.
    """

    groups: int
    larger: int
    misses: tuple[str, ...]
    planted: str


def restarted(spec: PermutationSpec, a: Any, b: Any, restarts: int) -> Any:
    return weight_matching(spec, a, b, key=jax.random.key(0), restarts=restarts)


# from the cheapest to the dearest
SEARCHES: dict[str, Callable[..., Any]] = {
    "weight matching": lambda spec, a, b: weight_matching(spec, a, b, key=None),
    **{f"{count} restarts": functools.partial(restarted, restarts=count) for count in (10, 100)},
    "random features": lambda spec, a, b: feature_matching(spec, a, b, key=jax.random.key(0)),
}


class Elsewhere(NamedTuple):
    """A program in double precision, at other weights and by other elements than those of its certificates.

    Attributes:
      points: arguments: with the weights, and with what the element of each spec makes of them.
    """

    program: Program
    apply: Callable
    points: list[tuple]


def judge(program: Program, seed: int = 0, later: list[Elsewhere] | None = None) -> Seen:
    """Whether all laws hold for the specs of one program; an exception says which does not.

    Args:
      later: takes what is left for `check_elsewhere`, which compiles many programs in less time than one by one.
    """
    realised = realise(program, seed)
    apply, params, inputs = realised
    specs = [infer_spec(apply, params, *inputs, kinds=kinds) for kinds in ("permutation", "all")]
    again = infer_spec(apply, params, *inputs)
    assert again == specs[0], "a second inference must give the same spec"
    for spec in specs:
        assert PermutationSpec.from_json(spec.to_json()) == spec, "a spec must survive JSON"
    certificates = certify_each(specs, apply, params, *inputs, complete=True, moderate=3)
    perms = drawn.perms(specs[0], seed)
    back = permute(specs[0], permute(specs[0], params, perms), inverse(specs[0], perms))
    assert all(np.array_equal(back[name], params[name]) for name in params), "the inverse must restore bit for bit"
    planted = find_planted(specs[0], params, perms)
    left = elsewhere(program, realised, specs, seed + 1)
    if later is None:
        check_elsewhere([left])
    else:
        later.append(left)
    kinds = [kind for kind in specs[1].kinds.values() if kind != "permutation"]
    misses = {reason(note.why) for one in certificates for note in one.missed}
    return Seen(len(specs[0].sizes), len(kinds), tuple(sorted(misses)), planted)


def find_planted(spec: PermutationSpec, params: dict[str, np.ndarray], perms: dict[str, np.ndarray]) -> str:
    """The first of the searches that leads from the permuted weights back to these, bit for bit.

    Which of several units that are alike goes where is left open: weights are compared, not permutations.
    """
    hidden = permute(spec, params, perms)
    for name, search in SEARCHES.items() if spec.sizes else ():
        back = permute(spec, hidden, search(spec, params, hidden).perms)
        if all(np.array_equal(back[leaf], params[leaf]) for leaf in params):
            return name
    assert not spec.sizes, "a search must find what was hidden"
    return "nothing to find"


def elsewhere(program: Program, realised: Realised, specs: Sequence[PermutationSpec], seed: int) -> Elsewhere:
    apply, params, inputs = realised
    rng = np.random.default_rng(seed)
    weights = {name: np.asarray(leaf) * rng.uniform(0.5, 1.5, leaf.shape) for name, leaf in params.items()}
    wide = [value.astype(np.float64) if value.dtype == np.float32 else value for value in inputs]
    elements: list[Any] = [random_perms(spec, rng) if spec.has_kinds else drawn.perms(spec, seed) for spec in specs]
    with jax.enable_x64(True):
        moved = [permute(spec, weights, element) for spec, element in zip(specs, elements, strict=True)]
        return Elsewhere(program, apply, [(jax.tree.map(np.asarray, one), *wide) for one in (weights, *moved)])


def check_elsewhere(ones: Sequence[Elsewhere]) -> None:
    """The functions themselves, all in one program: elements must not change them; an exception names the first."""
    if not ones:
        return
    with jax.enable_x64(True):
        every = lambda points: [one.apply(*point) for one, point in zip(ones, points, strict=True)]
        at = list(zip(*(one.points for one in ones), strict=True))
        run = jax.jit(every).lower(at[0]).compile(compiler_options=QUICK)
        found = [[np.asarray(result) for result in run(points)] for points in at]
    for one, before, *after in zip(ones, *found, strict=True):
        assert np.isfinite(before).all(), f"results must be finite: {one.program}"
        for again in after:
            change = difference([before], [again])
            # of a function that is zero but for rounding there is nothing else to compare
            same = change <= CLOSE or abs(again - before).max() <= ROUNDING
            assert same or is_torn(one), (
                f"an element must not change the function, but changed it by {change:.1e}: {one.program}"
            )


def is_torn(one: Elsewhere, tries: int = 20) -> bool:
    """Whether rounding alone tells which way the function goes, as an argmax does between sums of saturated units."""
    rng = np.random.default_rng(0)
    weights, *inputs = one.points[0]
    with jax.enable_x64(True):
        run = jax.jit(one.apply)
        before = run(weights, *inputs)
        for _ in range(tries):
            near = {name: leaf * (1 + 1e-14 * rng.standard_normal(leaf.shape)) for name, leaf in weights.items()}
            if difference([before], [run(near, *inputs)]) > CLOSE:
                return True
    return False


def reason(why: str) -> str:
    """A note without the names, numbers and lines of this program."""
    plain = re.sub(r" (at|in) \S+\.py:\d+( \(.*?\))?|, on .*| on \['.*", "", why)
    return re.sub(r"'\w+'|\d+", "_", plain).strip()
