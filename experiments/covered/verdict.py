"""One model of others, judged: inferred, certified, tried in double precision, and a hidden permutation looked for."""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covered.case import Case, drawn
from dwalign import apply
from dwalign.program import CertificateError, certify, infer_spec, widen
from dwalign.symmetry import KINDS, PermutationSpec, permute, random_perms

# in double precision a right spec differs by rounding, about 1e-13
WRONG = 1e-6
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def judge(case: Case, *, recover: int) -> dict[str, Any]:
    """A row of results.json; a hidden permutation is looked for where there are at most `recover` groups.

    `verdict` is the worst that was found:

    - `complete`: certified, and nothing that was pinned can be permuted;
    - `missed`: certified, but something can;
    - `refused`: the certificate refuses a spec that double precision confirms;
    - `wrong`: double precision refutes the spec, whatever the certificate says.
    """
    params, key = drawn(case.params), jax.random.key(0)
    begin = time.perf_counter()
    spec = infer_spec(case.apply, params, *case.inputs)
    read = time.perf_counter()
    row: dict[str, Any] = {
        "groups": len(spec.sizes),
        "weights": sum(block.array.size for block in spec.blocks(params)),
        "moving": moving_share(spec, params),
        "seconds": {"infer_spec": round(read - begin, 3)},
        "unknown": dict(spec.unknown),
        "missed": [],
    }
    try:
        certificate = certify(spec, case.apply, params, *case.inputs, key=key, complete=True)
        row |= {"error": certificate.error, "missed": [note._asdict() for note in certificate.missed]}
    except CertificateError as error:
        row["message"] = str(error)
    row["seconds"]["certify"] = round(time.perf_counter() - read, 3)
    row["error_float64"] = double_error(case, spec, params)
    row["recovered"] = recovered(spec, params) if 0 < len(spec.sizes) <= recover else None
    row["pinned"] = pins(spec)
    row["verdict"] = _verdict(row)
    return row


def judge_kinds(case: Case, **_: Any) -> dict[str, Any]:
    """A row about the larger symmetries: how many groups are of each kind, and what reading them takes.

    `verdict` is `complete` where the certificate confirms all of them, otherwise `refused`. `free` counts the numbers
    by which weights may be changed without a change of the function: factors, and entries of maps.
    """
    params, key = drawn(case.params), jax.random.key(0)
    seconds = {}
    for kinds in ("permutation", "all"):
        begin = time.perf_counter()
        spec = infer_spec(case.apply, params, *case.inputs, kinds=kinds)
        seconds[kinds] = round(time.perf_counter() - begin, 3)
    row: dict[str, Any] = {
        "groups": len(spec.sizes),
        "weights": sum(block.array.size for block in spec.blocks(params)),
        "kinds": {kind: list(spec.kinds.values()).count(kind) for kind in KINDS},
        "free": sum(free_numbers(spec, group) for group in spec.sizes),
        "seconds": seconds,
        "verdict": "complete",
    }
    try:
        row["error"] = certify(spec, case.apply, params, *case.inputs, key=key).error
    except CertificateError as error:
        row |= {"verdict": "refused", "message": str(error)}
    return row


def free_numbers(spec: PermutationSpec, group: str) -> int:
    """The dimension of the continuous symmetries of a group."""
    n, copies = spec.sizes[group], math.prod(spec.batch_shape(group))
    of_one = {"linear": n * n, "orthogonal": n * (n - 1) // 2}.get(spec.kinds[group], n * spec.directions[group][0])
    return copies * of_one


def _verdict(row: dict[str, Any]) -> str:
    if not row["error_float64"] < WRONG:
        return "wrong"
    if "message" in row:
        return "refused"
    return "missed" if row["missed"] else "complete"


def moving_share(spec: PermutationSpec, params: Any) -> float:
    """The share of weights that lie on an axis which some group permutes."""
    sizes = [(block.array.size, not set(spec.sizes).isdisjoint(block.factors)) for block in spec.blocks(params)]
    return round(sum(n for n, moves in sizes if moves) / max(1, sum(n for n, _ in sizes)), 4)


def pins(spec: PermutationSpec) -> dict[str, int]:
    """For each reason, whatever line it arose at, how many dimensions it pins."""
    reasons = [note.why.split(" at ")[0] for note in spec.notes]
    return {why: reasons.count(why) for why in dict.fromkeys(reasons)}


def double_error(case: Case, spec: PermutationSpec, params: Any) -> float:
    """What a random element of the spec changes in double precision, relative to each output's root mean square."""
    moved = permute(spec, params, random_perms(spec, jax.random.key(7)))
    run = widen(jax.make_jaxpr(case.apply)(params, *case.inputs), np.float64, set())
    with jax.enable_x64(True):
        before, after = ([jnp.asarray(leaf) for leaf in jax.tree.leaves((one, case.inputs))] for one in (params, moved))
        # it runs twice: optimising takes longer
        compiled = jax.jit(run, keep_unused=True).lower(*before).compile(QUICK)
        outputs = zip(compiled(*before), compiled(*after), strict=True)
    worst = 0.0
    for one, two in ((np.asarray(x, np.complex128), np.asarray(y, np.complex128)) for x, y in outputs):
        scale = np.sqrt(np.mean(np.abs(one) ** 2)) if one.size else 0.0
        worst = max(worst, float(np.abs(one - two).max(initial=0) / (scale or 1.0)))
    return worst


def recovered(spec: PermutationSpec, params: Any) -> bool:
    """Whether a hidden permutation is found from weights alone, so that every weight is in its place again."""
    copy = permute(spec, params, random_perms(spec, jax.random.key(8)))
    found = apply.align(spec, params, copy, method="features", certified=False, rounds=2, channels=16)
    return float(apply.distance(spec, params, copy, perms=found.perms)) == 0.0
