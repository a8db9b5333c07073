"""The certificate: numbers that show that a spec describes symmetries of a function, and that it misses none."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.symmetry.action import inverse, permute, permute_block
from dwalign.symmetry.axes import SpecError
from dwalign.symmetry.inference import read_program
from dwalign.symmetry.spec import Note, PermutationSpec

PyTree = Any
# what optimising a program that runs twice would gain is less than what it costs
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


# a prime number of random values
POOL = 1_000_003


class CertificateError(SpecError):
    """A spec that is not a symmetry of the function."""


class Certificate(NamedTuple):
    """Attributes:
    error: largest difference of f(g.v) and f(v), relative to the root mean square of f(v).
    missed: pinned dimensions that can be permuted after all (sound but incomplete), if they were probed.
    """

    error: float
    missed: tuple[Note, ...] = ()


def certify(
    spec: PermutationSpec,
    apply: Callable,
    params: PyTree,
    *inputs: PyTree,
    key: jax.Array | None = None,
    tolerance: float = 1e-3,
    complete: bool = False,
    moderate: int = 8,
) -> Certificate:
    """Check that `f(g.v, x) = f(v, x)` for a random g, and that the inverse of g restores what g moved bit for bit.

    Weights and inputs are disturbed at random first: zero biases or an all-zero image would hide a wrong spec.

    Args:
      spec: what is checked.
      apply: `(params, *inputs) -> outputs`.
      params, inputs: arrays; `jax.ShapeDtypeStruct` is filled with random values.
      key: draws g and the disturbance.
      tolerance: relative; rounding of float32 sums in another order.
      complete: also probe the other direction. Reported are units that the program leaves free and `spec` does not
        declare, and pinned dimensions of at least `moderate` positions that, permuted by themselves wherever the
        program uses them, leave the function unchanged. Dimensions on two sides of a primitive without a rule
        (`spec.unknown` of an inferred spec) are permuted one at a time: a symmetry through it is not found.
      moderate: smaller pinned dimensions are not probed.

    Raises:
      CertificateError: naming the group, and the array that does not fit the others; or apply gives a different result
        each time, or values that are not finite.
      SpecError: params do not fit the spec.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.key(0) if key is None else key)).tolist())
    spec.check(params)
    params, inputs = _disturbed((params, inputs), rng)
    perms = _drawn_perms(spec, rng)
    _check_inverse(spec, params, perms)
    moved = permute(spec, params, perms)
    run = _compiled(apply, params, inputs)
    reference = run(params)
    if not all(np.isfinite(leaf).all() for leaf in reference):
        raise CertificateError("certify: apply must give finite values on these params and inputs, found NaN or inf")
    error = _error(reference, run(moved))
    if not error <= tolerance:
        _check_pure(reference, run(params))
        raise CertificateError(_blame(spec, run, params, perms, reference, tolerance, error))
    missed = _missed(spec, apply, params, inputs, run, reference, rng, moderate) if complete else ()
    return Certificate(error, tuple(missed))


def _compiled(apply, params, inputs) -> Callable[[PyTree], list[np.ndarray]]:
    flat, treedef = jax.tree.flatten(inputs)
    dynamic = [k for k, leaf in enumerate(flat) if hasattr(leaf, "shape")]

    def program(params, values):
        whole = list(flat)
        for k, value in zip(dynamic, values, strict=True):
            whole[k] = value
        return apply(params, *treedef.unflatten(whole))

    values = [flat[k] for k in dynamic]
    lowered = jax.jit(program).lower(params, values)
    try:
        compiled = lowered.compile(compiler_options=QUICK if jax.default_backend() == "cpu" else None)
    except jax.errors.JaxRuntimeError:
        # another version of XLA may know other options
        compiled = lowered.compile()
    precise = lambda leaf: np.asarray(leaf, np.complex128 if jnp.iscomplexobj(leaf) else np.float64)
    return lambda params: [precise(leaf) for leaf in jax.tree.leaves(compiled(params, values))]


def _check_inverse(spec: PermutationSpec, params: PyTree, perms: dict[str, np.ndarray]) -> None:
    """Bit for bit, on the smallest array that carries each group: to move all of a large model takes seconds."""
    back = inverse(spec, perms)
    blocks = spec.blocks(params)
    for group in spec.sizes:
        block = min((one for one in blocks if group in one.factors), key=lambda one: one.array.size)
        restored = permute_block(spec, permute_block(spec, block, perms), back)
        if not np.array_equal(block.array, restored.array, equal_nan=True):
            raise CertificateError(f"certify: the inverse must restore {block.path} bit for bit, but it does not")


def _drawn_perms(spec: PermutationSpec, rng: np.random.Generator) -> dict[str, np.ndarray]:
    # all on the host: compiling a shuffle for every size and a gather for every array takes longer than all else
    shapes = {g: (*spec.batch_shape(g), n) for g, n in spec.sizes.items()}
    return {g: rng.permuted(np.broadcast_to(np.arange(s[-1]), s), axis=-1) for g, s in shapes.items()}


def _check_pure(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    if _error(first, second) > 0:
        raise CertificateError(
            "certify: apply must be a pure function, but gave two results on the same params and inputs; "
            "pass random keys as inputs, and switch dropout off"
        )


def _error(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    # each output has a scale of its own: beside a large one a wrong small one would go unseen
    squares = [float(np.mean(np.abs(leaf) ** 2)) if leaf.size else 0.0 for leaf in first]
    least = 1e-6 * np.sqrt(max(squares, default=0.0)) + 1e-12
    return max(
        (
            float(np.abs(one - two).max(initial=0)) / max(float(np.sqrt(square)), least)
            for one, two, square in zip(first, second, squares, strict=True)
        ),
        default=0.0,
    )


def _blame(spec, run, params, perms, reference, tolerance, error) -> str:
    """The first group that alone changes the function, and the array without which it would not."""
    what = f"certify: permuting must not change the function, but changed it by {error:.1e} (relative)"
    for group, perm in perms.items():
        moved = permute(spec, params, {group: perm})
        if _error(reference, run(moved)) <= tolerance:
            continue
        carriers = [k for k, axes in enumerate(spec.leaves) if group in axes.names()]
        leaves, treedef = jax.tree.flatten(moved)
        before = jax.tree.leaves(params)
        for k in carriers:
            trial = treedef.unflatten([*leaves[:k], before[k], *leaves[k + 1 :]])
            if _error(reference, run(trial)) <= tolerance:
                return f"{what}: group {group!r} must not be on {spec.paths[k]} ({spec.leaves[k]}), all others fit"
        found = ", ".join(f"{spec.paths[k]} ({spec.leaves[k]})" for k in carriers)
        return f"{what}: group {group!r} is not a symmetry as declared; it is on {found}. Compare with infer_spec"
    return f"{what}: each group fits by itself but not all together; look at how {dict(spec.batch)} are batched"


def _missed(spec, apply, params, inputs, run, reference, rng, moderate):
    program = read_program(apply, params, *inputs)
    yield from _undeclared(spec, program.spec)
    leaves, treedef = jax.tree.flatten(params)
    for note, places in program.pinned(moderate):
        # a cycle through all positions, which leaves none in its place
        cycle = rng.permutation(note.size)
        order = np.empty_like(cycle)
        order[cycle] = np.roll(cycle, 1)
        moved = list(leaves)
        for k, axis, outer, inner in places:
            shape = moved[k].shape
            split = moved[k].reshape(*shape[:axis], outer, note.size, inner, *shape[axis + 1 :])
            moved[k] = np.take(split, order, axis=axis + 1).reshape(shape)
        if _error(reference, run(treedef.unflatten(moved))) <= 1e-6:
            yield note


def _undeclared(spec: PermutationSpec, inferred: PermutationSpec):
    """The dimensions of which the program leaves more free than `spec` says, in units or in how they are batched."""

    def groups(of, leaf, d):
        names = [f for f in leaf.carried(d) if f in of.sizes]
        return Counter((of.sizes[g], math.prod(of.batch_shape(g))) for g in names)

    for path, mine, found in zip(spec.paths, spec.leaves, inferred.leaves, strict=True):
        for d in range(len(found.dims)):
            for size, times in groups(inferred, found, d) - groups(spec, mine, d):
                copies = f" in {times} independent copies" if times > 1 else ""
                yield Note(path, d, size, f"not declared: the program leaves {size} units free{copies}")


def _disturbed(tree: PyTree, rng: np.random.Generator) -> PyTree:
    leaves, treedef = jax.tree.flatten(tree)
    out = []
    for leaf in leaves:
        if not hasattr(leaf, "shape") or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            out.append(leaf)
            continue
        known = not isinstance(leaf, jax.ShapeDtypeStruct)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            # tokens of any vocabulary lie in this range
            out.append(np.asarray(leaf) if known else rng.integers(0, 2, leaf.shape).astype(leaf.dtype))
            continue
        if not known:
            out.append(_drawn(rng, leaf.shape).astype(leaf.dtype))
            continue
        value = np.asarray(leaf, np.float32)
        noise = _pooled(rng.standard_normal, leaf.shape)
        if value.size and value.min() > 0:
            value = value * np.exp(0.3 * noise)  # variances and scales stay positive
        else:
            value = value + 0.3 * noise * (np.sqrt(np.mean(value**2)) or 1.0)
        out.append(value.astype(leaf.dtype))
    return treedef.unflatten(out)


def _pooled(draw, shape) -> np.ndarray:
    """Random values; those of large arrays repeat with a prime period, so that no two rows or columns are alike."""
    count = math.prod(shape)
    return np.resize(draw(min(count, POOL), np.float32), shape) if count else np.zeros(shape, np.float32)


def _drawn(rng, shape) -> np.ndarray:
    # vectors are biases, scales and variances: positive is safe for each of them
    if len(shape) < 2:
        return np.exp(0.3 * rng.standard_normal(shape, np.float32))
    # uniform of variance 1 / fan-in; normal values would take three times as long
    values = _pooled(rng.random, shape)
    values -= 0.5
    values *= np.sqrt(12 / np.prod(shape[:-1]), dtype=np.float32)
    return values
