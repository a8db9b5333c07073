"""The door for pipelines: align, permute, interpolate, merge, distance.

>>> import jax
>>> from dwalign import apply, networks
>>> net = networks.mlp(8, (6, 5), 3)
>>> a = net.init(jax.random.key(0))
>>> b = apply.permute(net.spec, a, apply.random_perms(net.spec, jax.random.key(1)))
>>> found = apply.align(net.spec, a, b, method="weight_matching", key=jax.random.key(2))
>>> float(apply.distance(net.spec, a, b, perms=found.perms))
0.0

`permute`, `interpolate` and `distance` are pure and can be jitted, vmapped and differentiated; `align` and `merge`
check their arguments first, the methods in `dwalign.matching` and `dwalign.deepalign` are the pure functions behind
them.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.deepalign import deep_align
from dwalign.matching import (
    activation_matching,
    feature_matching,
    naive,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.symmetry import (
    Alignment,
    PermutationSpec,
    certify,
    compose,
    identity,
    infer_spec,
    inverse,
    permute,
    random_perms,
)

PyTree = Any
METHODS: dict[str, Callable[..., Alignment]] = {
    "naive": naive,
    "features": feature_matching,
    "weight_matching": weight_matching,
    "activation_matching": activation_matching,
    "straight_through": straight_through,
    "sinkhorn": sinkhorn_rebasin,
    "refine": refine,
    "deep_align": deep_align,
}

__all__ = [
    "METHODS",
    "Alignment",
    "align",
    "certify",
    "compose",
    "distance",
    "identity",
    "infer_spec",
    "interpolate",
    "inverse",
    "merge",
    "permute",
    "random_perms",
]


def align(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    method: str = "weight_matching",
    key: jax.Array | None = None,
    certified: bool = True,
    **options,
) -> Alignment:
    """Match the hidden units of `b` to those of `a`.

    Args:
      spec: what may be permuted.
      a, b: parameters of two networks of the same architecture; all values must be finite.
      method: one of `METHODS`. Methods joined by `+` start from one another, `"weight_matching+refine"`.
      key: random key; `jax.random.key(0)` by default.
      certified: check once for each spec and network that permuting does not change the function, where the options
        name one (`apply` or `capture`, with `batch`).
      options: of the method (with `+`: a dictionary for each name, `weight_matching=dict(restarts=5)`); those that need
        data take `apply` or `capture` and `batch`, `deep_align` takes `aligner`.

    Returns:
      an `Alignment` with `method` and `seconds` (wall clock, compilation included) filled in.

    Raises:
      SpecError: a or b does not fit the spec; the message names the array.
      CertificateError: the spec does not describe symmetries of the network; the message names group and array.
      ValueError: unknown method, NaN or infinite weights.
    """
    names = method.split("+")
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"align: method must be one of {sorted(METHODS)}, or several joined by +, got {unknown[0]!r}")
    for name, params in (("a", a), ("b", b)):
        spec.check(params, name)
        _check_finite(params, name)
    if certified:
        for chosen in [options] if len(names) == 1 else options.values():
            _certify(spec, a, chosen)
    key = jax.random.key(0) if key is None else key
    begin = time.perf_counter()
    found: Any = None
    for name, stage in zip(names, jax.random.split(key, len(names)), strict=True):
        chosen = options if len(names) == 1 else options.get(name, {})
        start = {} if found is None else {"start": found}
        found = METHODS[name](spec, a, b, key=stage, **chosen, **start)
    jax.block_until_ready(found)
    return found._replace(method=method, seconds=time.perf_counter() - begin)


def interpolate(
    spec: PermutationSpec, a: PyTree, b: PyTree, weight: float | jax.Array, *, perms: Mapping | None = None
):
    """`(1 - weight) a + weight P.b`; without `perms` b is taken as it is."""
    moved = b if perms is None else permute(spec, b, dict(perms))
    return jax.tree.map(lambda x, y: (1 - weight) * x + weight * y, a, moved)


def merge(spec: PermutationSpec, a: PyTree, b: PyTree, *, weight: float = 0.5, **options) -> PyTree:
    """Align b to a and average: `interpolate` at `weight` after `align(**options)`."""
    return interpolate(spec, a, b, weight, perms=align(spec, a, b, **options).perms)


def distance(spec: PermutationSpec, a: PyTree, b: PyTree, *, perms: Mapping | None = None) -> jax.Array:
    """The Euclidean distance |a - P.b| over all weights; without `perms` b is taken as it is."""
    moved = b if perms is None else permute(spec, b, dict(perms))
    return jnp.sqrt(sum(jnp.sum((x - y) ** 2) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(moved), strict=True)))


def _certify(spec: PermutationSpec, params: PyTree, options: Mapping[str, Any]) -> None:
    batch = options.get("batch")
    if batch is None or not ({"apply", "capture"} & set(options)):
        return
    inputs = jax.tree.map(lambda leaf: leaf[:4], batch[0])
    leaves, treedef = jax.tree.flatten((params, inputs))
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    _certify_once(spec, options.get("apply"), options.get("capture"), treedef, shapes)


@functools.lru_cache(maxsize=128)
def _certify_once(spec, apply, capture, treedef, shapes) -> None:
    params, inputs = treedef.unflatten([jax.ShapeDtypeStruct(*shape) for shape in shapes])
    certify(spec, apply or (lambda params, inputs: capture(params, inputs)[0]), params, inputs)


def _check_finite(params: PyTree, name: str) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        bad = int(jnp.sum(~jnp.isfinite(leaf)))
        if bad:
            raise ValueError(
                f"align: all weights must be finite, but {name}{jax.tree_util.keystr(path)} holds {bad} NaN or "
                "infinite values; did its training diverge?"
            )
