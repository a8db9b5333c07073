"""The door for pipelines: align, permute, interpolate, merge, distance.

>>> import jax
>>> from dwalign import apply, networks
>>> net = networks.mlp(8, (6, 5), 3)
>>> a = net.init(jax.random.key(0))
>>> b = apply.permute(net.spec, a, apply.random_perms(net.spec, jax.random.key(1)))
>>> found = apply.align(net.spec, a, b, method="weight_matching", key=jax.random.key(2))
>>> float(apply.distance(net.spec, a, b, perms=found.perms))
0.0

All of them work under `jit` and `vmap`; `permute`, `interpolate` and `distance` can be differentiated too. What only
numbers can tell, whether all weights are finite and how long it took, is left out there. The methods in
`dwalign.matching` and `dwalign.deepalign` are the pure functions behind `align`.
"""

import functools
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dwalign import symmetry
from dwalign.deepalign import deep_align
from dwalign.matching import (
    activation_matching,
    feature_matching,
    naive,
    read_stages,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.program import Units, certify, count_examples, infer_spec, take_examples
from dwalign.symmetry import (
    Alignment,
    PermutationSpec,
    check_spec,
    compose,
    identity,
    inverse,
    leaf_roles,
    permute,
    random_perms,
)

PyTree = Any
METHODS: dict[str, Callable[..., Alignment]] = {
    "naive": naive,
    "features": feature_matching,
    "weight_matching": weight_matching,
    "activation_matching": activation_matching,
    "activation_matching_correlation": functools.partial(activation_matching, correlation=True),
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
    program: tuple[Any, ...] | None = None,
    tolerance: float | None = None,
    **options,
) -> Alignment:
    """Match the hidden units of `b` to those of `a`.

    Args:
      spec: what may be permuted.
      a, b: parameters of two networks of the same architecture; all values must be finite.
      method: one of `METHODS`. Methods joined by `+` start from one another, `"weight_matching+refine"`.
      key: random key; `jax.random.key(0)` by default.
      certified: check once for each spec and network that permuting does not change the function, where `program` or
        the options of a method (`apply` or `capture`, with `batch`) say which function that is.
      program: `(apply, *inputs)`, where the outputs are `apply(params, *inputs)`, for methods that look at weights
        alone.
      tolerance: relative change of the results that passes as rounding in that check; by default what the precision of
        the network asks for, see `certify`.
      options: of the method (with `+`: a dictionary for each name, `weight_matching=dict(restarts=5)`); those that need
        data take `apply` or `capture` and `batch`, `deep_align` takes `aligner`.

    Returns:
      an `Alignment` with `method` and `seconds` (wall clock, compilation included) filled in; under `jit` and `vmap`,
      which can return arrays only, both are None.

    Raises:
      SpecError: a or b does not fit the spec, or their shapes differ; the message names the array.
      CertificateError: the spec does not describe symmetries of the network; the message names group and array.
      ValueError: unknown method, options that it does not take or lacks, NaN or infinite weights (not under `jit` and
        `vmap`).
    """
    check_spec("align", spec)
    stages = read_stages(METHODS, method, options)
    spec.check_pair(a, b)
    key = jax.random.key(0) if key is None else key
    if not isinstance(key, jax.Array):
        raise ValueError(f"align: key must be a random key, jax.random.key(0) for one, got {type(key).__name__}")
    if program is not None and not (isinstance(program, tuple) and len(program) > 1 and callable(program[0])):
        raise ValueError(f"align: program must be a tuple (apply, *inputs), got {type(program).__name__}")
    for name, params in (("a", a), ("b", b)):
        _check_finite(spec, params, name)
    if certified:
        own = [] if program is None else [{"apply": _of_one(program[0]), "batch": (program[1:], None)}]
        for named in (*own, *(stage.options for stage in stages)):
            _certify(spec, a, named, tolerance)
    begin = time.perf_counter()
    found: Any = None
    for stage, stage_key in zip(stages, jax.random.split(key, len(stages)), strict=True):
        start = {} if found is None else {"start": found}
        found = stage.run(spec, a, b, key=stage_key, **stage.options, **start)
    if _traced((a, b, key, options, found)):
        return found
    jax.block_until_ready(found)
    return found._replace(method=method, seconds=time.perf_counter() - begin)


def interpolate(
    spec: PermutationSpec, a: PyTree, b: PyTree, weight: float | jax.Array, *, perms: Mapping | None = None
) -> PyTree:
    """`(1 - weight) a + weight P.b`; without `perms` b is taken as it is.

    Computed in float32 or wider, stored in the types of a; integers that carry a group (quantised weights) are rounded
    to the nearest, masks, keys and counters are those of a. Batch statistics are averaged too, but have to be renewed:
    see `merge`.

    Raises `SpecError` if a or b does not fit the spec, or their shapes or kinds of numbers differ.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h0")}, {"h0": 2})
    >>> a, b, swap = {"w": jnp.array([0.0, 4.0])}, {"w": jnp.array([8.0, 0.0])}, {"h0": jnp.array([1, 0])}
    >>> interpolate(spec, a, b, 0.25)["w"].tolist(), interpolate(spec, a, b, 0.25, perms=swap)["w"].tolist()
    ([2.0, 3.0], [0.0, 5.0])
    """
    return symmetry.interpolate(spec, a, _aligned(spec, a, b, perms), weight)


def merge(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    weight: float = 0.5,
    renew: Callable[[PyTree], PyTree] | None = None,
    **options,
) -> PyTree:
    """Align b to a and average: `interpolate` at `weight` after `align(**options)`.

    Args:
      spec, a, b: what is merged.
      weight: of b.
      renew: params to params, done to the result: batch statistics of averaged weights are not the average of those
        of the two networks (Jordan et al. 2023, REPAIR). For networks of `dwalign.networks` that is
        `lambda params: networks.reset_statistics(network, params, inputs)`; a function that changes nothing says that
        the average is wanted.

    Warns:
      UserWarning: the networks have statistics of units, and `renew` is not given.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h0")}, {"h0": 2})
    >>> merge(spec, {"w": jnp.array([0.0, 4.0])}, {"w": jnp.array([8.0, 0.0])}, method="weight_matching")["w"].tolist()
    [0.0, 6.0]
    """
    merged = interpolate(spec, a, b, weight, perms=align(spec, a, b, **options).perms)
    if renew is not None:
        return renew(merged)
    leaves = zip(spec.paths, spec.leaves, leaf_roles(spec, a), strict=True)
    if stale := [path for path, axes, role in leaves if role == "statistic" and axes.names() & set(spec.sizes)]:
        more = f" and {len(stale) - 3} more" if len(stale) > 3 else ""
        warnings.warn(
            f"merge: the statistics {', '.join(stale[:3])}{more} are the average of those of a and b, but must be "
            "renewed for the merged weights: pass renew=lambda params: networks.reset_statistics(network, params, "
            "inputs), or your own function of params that computes them on training inputs (renew=lambda params: "
            "params keeps the average)",
            stacklevel=2,
        )
    return merged


def distance(spec: PermutationSpec, a: PyTree, b: PyTree, *, perms: Mapping | None = None) -> jax.Array:
    """The Euclidean distance |a - P.b| over all weights; without `perms` b is taken as it is.

    Statistics, counters, masks and keys do not count; quantised weights count as numbers. Its gradient is 0 where the
    networks are equal. Raises `SpecError` if a or b does not fit the spec, or their shapes or kinds of numbers differ.
    """
    return symmetry.distance(spec, a, _aligned(spec, a, b, perms))


def _aligned(spec: PermutationSpec, a: PyTree, b: PyTree, perms: Mapping | None) -> PyTree:
    check_spec("dwalign", spec)
    spec.check_pair(a, b)
    return b if perms is None else permute(spec, b, perms)


def _certify(spec: PermutationSpec, params: PyTree, options: Mapping[str, Any], tolerance: float | None) -> None:
    batch = options.get("batch")
    if batch is None or not ({"apply", "capture"} & set(options)):
        return
    # arrays of several lengths are no examples of one another: all of them are kept whole
    inputs = batch[0] if count_examples(batch[0]) is None else take_examples(batch[0], slice(4))
    point = params, inputs
    leaves, treedef = jax.tree.flatten(point)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    _certify_once(spec, options.get("apply"), options.get("capture"), treedef, shapes, tolerance, _Point(point))


class _Point:
    """The weights and inputs at hand: where a check that is made once takes place, and no reason to make it again."""

    def __init__(self, value: PyTree):
        self.value: PyTree = value

    def __eq__(self, other):
        return isinstance(other, _Point)

    def __hash__(self):
        return 0


@functools.lru_cache(maxsize=128)
def _of_one(apply: Callable) -> Callable:
    """`apply` as a function of one tree of inputs; the same one each time, so that it is certified once."""
    return lambda params, inputs: apply(params, *inputs)


def _outputs_of(apply: Callable | None, capture: Callable | None) -> Callable:
    def outputs(params, inputs):
        found = (apply or capture)(params, inputs)
        units = isinstance(found, tuple) and any(isinstance(part, Units) for part in found)
        if units and apply:
            raise ValueError("align: apply must give the outputs alone, found outputs and Units; pass network.apply")
        if not (units or apply):
            raise ValueError(
                "align: capture must give (outputs, Units); a function that gives outputs alone is passed as apply"
            )
        return found if apply else found[0]

    return outputs


@functools.lru_cache(maxsize=128)
def _certify_once(spec, apply, capture, treedef, shapes, tolerance, point: _Point) -> None:
    known = [
        jax.ShapeDtypeStruct(*shape) if _traced(leaf) else leaf
        for leaf, shape in zip(treedef.flatten_up_to(point.value), shapes, strict=True)
    ]
    # the cache keeps the key, not what was checked
    point.value = None
    params, inputs = treedef.unflatten(known)
    # the check is made of numbers, also while a program around it is traced
    with jax.ensure_compile_time_eval():
        certify(spec, _outputs_of(apply, capture), params, inputs, tolerance=tolerance)


def _traced(tree: PyTree) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def _check_finite(spec: PermutationSpec, params: PyTree, name: str) -> None:
    # a mask of minus infinity is no weight
    wrong = {"weight": lambda x: ~jnp.isfinite(x), "fixed": jnp.isnan, "statistic": jnp.isnan}
    for path, role, leaf in zip(spec.paths, leaf_roles(spec, params), jax.tree.leaves(params), strict=True):
        if role == "carried" or _traced(leaf):
            continue
        with jax.ensure_compile_time_eval():
            bad = int(jnp.sum(wrong[role](leaf)))
        if bad:
            raise ValueError(
                f"align: all weights must be finite, but {name}{path} holds {bad} NaN or infinite values; did its "
                "training diverge?"
            )
