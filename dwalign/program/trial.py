"""A function at generic points, run in double precision, and how far rounding moves its results."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from dwalign.program.data import as_arrays
from dwalign.program.domain import positive_arguments
from dwalign.program.double import widen, wider
from dwalign.program.operations import count_equations, count_operations
from dwalign.program.points import FRESH, GENERIC, point, points

PyTree = Any
# what optimising a program that runs a few dozen times would gain is less than what it costs; so is what splitting it
# for many cores would. One that runs hundreds of times is optimised a little, which makes convolutions faster by far
# and takes a fraction of the time of all that can be done, which would gain no more
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if jax.__version_info__ < (0, 11):  # later ones have no other emitters, and refuse the option
    QUICK["xla_cpu_use_fusion_emitters"] = False
# changes of so many times what rounding does are rounding
ROUNDED = 30.0
# operations of a program that is worth that
LONG = 2e5
# beyond so many parameters double precision asks for too much memory
MOST_DOUBLE = 2**28


class Examined(NamedTuple):
    """A traced function that is compiled once and run at many points.

    Attributes:
      run: flat arguments to flat results, as float64 or complex128.
      leaves: its arguments as they were given, the first `weights` of them parameters of the structure `treedef`.
      positive: the numbers of arguments that must be positive.
      eps: of the least precise type that it is computed in.
      seconds: an estimate of the time of a run; the same in every process.
    """

    run: Callable[..., list[np.ndarray]]
    leaves: list
    weights: int
    treedef: Any
    positive: frozenset[int]
    eps: float
    seconds: float


class Trial(NamedTuple):
    """An examined function at one point.

    Attributes:
      of: the function.
      params, inputs: the point; a tree, and a list.
      reference: its results there.
      scales: of these, see `difference`.
      rounding: how far the results move when every parameter is rounded another way; measured when asked for.
    """

    of: Examined
    params: PyTree
    inputs: list
    reference: list[np.ndarray]
    scales: list[float]
    rounding: Callable[[], float]

    @property
    def floor(self) -> float:
        """Changes up to here are rounding: half-way, in powers of ten, from the precision to what mathematics does."""
        return self.of.eps**0.6

    @property
    def wide(self) -> PyTree:
        """The parameters in the precision that is computed in: what is multiplied with factors is rounded as finely."""
        widened = lambda leaf: leaf if _extended(leaf) else np.asarray(leaf, wider(leaf.dtype, np.float64))
        return jax.tree.map(widened, self.params)

    def run(self, params: PyTree) -> list[np.ndarray]:
        return self.of.run([*jax.tree.leaves(params), *self.inputs])

    def change(self, params: PyTree) -> float:
        """How far these parameters change the results, see `difference`."""
        return difference(self.reference, self.run(params), self.scales)


def examine(apply: Callable, params: PyTree, *inputs: PyTree, often: bool = False) -> Examined:
    """Trace and compile a function of arrays or abstract shapes; what is no array among the inputs is a setting.

    It is compiled for runs that are few, or for hundreds of them (`often`).
    """
    flat, structure = jax.tree.flatten(as_arrays(inputs))
    dynamic = [k for k, leaf in enumerate(flat) if hasattr(leaf, "shape")]
    weights, treedef = jax.tree.flatten(params)

    def program(weights, values):
        whole = list(flat)
        for k, value in zip(dynamic, values, strict=True):
            whole[k] = value
        return apply(treedef.unflatten(weights), *structure.unflatten(whole))

    leaves = [*weights, *(flat[k] for k in dynamic)]
    leaves = [leaf if hasattr(leaf, "dtype") else np.asarray(leaf, jnp.result_type(leaf)) for leaf in leaves]
    closed = jax.make_jaxpr(program)(leaves[: len(weights)], leaves[len(weights) :])
    work = count_operations(closed)
    run, eps = _runner(closed, leaves, len(weights), often and work > LONG)
    seconds = 5e-10 * work + 2e-5 * count_equations(closed)
    return Examined(run, leaves, len(weights), treedef, positive_arguments(closed), eps, seconds)


def trials(examined: Examined, rng: np.random.Generator) -> Iterator[Trial]:
    """The function at points from the most generic to the one that was given, where it gives finite results."""
    for leaves in points(examined.leaves, examined.weights, examined.positive, rng):
        yield from _finite(examined, leaves)


def fresh_trials(examined: Examined, rng: np.random.Generator) -> Iterator[Trial]:
    """One trial with weights that were drawn anew, or none."""
    yield from _accepted(examined, point(examined.leaves, examined.weights, examined.positive, rng, FRESH))


def large_trials(examined: Examined, times: float, rng: np.random.Generator) -> Iterator[Trial]:
    """One trial whose weights are so many times those of a generic point, or none."""
    leaves = point(examined.leaves, examined.weights, examined.positive, rng, GENERIC)
    for k, leaf in enumerate(leaves[: examined.weights]):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            leaves[k] = (leaf * times).astype(leaf.dtype)
    yield from _accepted(examined, leaves)


def _accepted(examined: Examined, leaves: list) -> Iterator[Trial]:
    # programs may refuse numbers that they were not made for
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        yield from _finite(examined, leaves)


def _finite(examined: Examined, leaves: list) -> Iterator[Trial]:
    reference = examined.run(leaves)
    if all(np.isfinite(one).all() for one in reference):
        params = examined.treedef.unflatten(leaves[: examined.weights])
        scales = scales_of(reference)
        rounding = functools.cache(lambda: difference(reference, examined.run(leaves, jiggled=True), scales))
        yield Trial(examined, params, leaves[examined.weights :], reference, scales, rounding)


def difference(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], scales: Sequence[float] | None = None
) -> float:
    """The largest difference, relative to the value and to the typical value of its output, whichever is larger.

    Each output has a scale of its own, `scales_of(first)`: beside a large one a wrong small one would go unseen. So has
    each value: beside a mask of -1e30 all others would.
    """
    errors = [
        np.max(np.abs(one - two) / np.maximum(np.abs(one), scale), initial=0)
        for one, two, scale in zip(first, second, scales or scales_of(first), strict=True)
    ]
    # with NaN if there is one
    return float(np.max(errors, initial=0))


def scales_of(results: Sequence[np.ndarray]) -> list[float]:
    """What is typical of each output; what is nothing but rounding of larger outputs has no scale of its own."""
    scales = [typical(one) for one in results]
    least = 1e-12 * max(scales, default=0.0) or 1.0
    return [max(scale, least) for scale in scales]


def typical(values: np.ndarray) -> float:
    """The median, masks of huge numbers left out."""
    sizes = np.abs(values[values != 0])
    return float(np.median(sizes[sizes <= 1e6 * np.quantile(sizes, 0.05)])) if sizes.size else 0.0


def _runner(closed: ClosedJaxpr, leaves: Sequence, weights: int, optimised: bool):
    """`run(leaves, jiggled=False)`, and the precision of its numbers."""
    large = sum(math.prod(leaf.shape) for leaf in leaves[:weights]) > MOST_DOUBLE
    wides = [np.float32] if large else [np.float64, np.float32]
    *attempts, last = wides
    narrow: set[np.dtype] = set()
    for wide in attempts:
        # another device may know no double precision
        with contextlib.suppress(jax.errors.JaxRuntimeError, NotImplementedError):
            program = _compiled(closed, leaves, wide, narrow, optimised)
            break
    else:
        wide = last
        program = _compiled(closed, leaves, wide, narrow, optimised)
    eps = max(float(jnp.finfo(dtype).eps) for dtype in {np.dtype(wide), *narrow})
    types = [None if _extended(leaf) else wider(leaf.dtype, wide) for leaf in leaves]

    def run(leaves, jiggled=False):
        values = [leaf if to is None else np.asarray(leaf, to) for leaf, to in zip(leaves, types, strict=True)]
        if jiggled:
            values[:weights] = [_jiggled(value, eps) for value in values[:weights]]
        with _world(wide):
            results = program(*values)
        return [np.asarray(one, np.result_type(one.dtype, np.float64)) for one in results]

    return run, eps


def _compiled(closed, leaves, wide, narrow, optimised):
    # widened on the host: a cast for each argument would be compiled too, and another program to move them by rounding
    arguments = [jax.ShapeDtypeStruct(leaf.shape, wider(leaf.dtype, wide)) for leaf in leaves]
    with _world(wide):
        lowered = jax.jit(widen(closed, wide, narrow), keep_unused=True).lower(*arguments)
        if jax.default_backend() == "cpu":
            options = QUICK | {"xla_backend_optimization_level": int(optimised)}
            # another version of XLA may know other options
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                return lowered.compile(compiler_options=options)
        return lowered.compile()


def _extended(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.extended)


def _jiggled(value, size):
    """Every number of a parameter moved by so much of itself, up or down."""
    if _extended(value) or not np.issubdtype(value.dtype, np.inexact):
        return value
    waves = np.cos(12.9898 * np.arange(value.size)).reshape(value.shape)
    return (value * (1 + size * np.sign(waves))).astype(value.dtype)


@contextlib.contextmanager
def _world(wide):
    with jax.enable_x64(wide == np.float64), jax.default_matmul_precision("highest"):
        yield
