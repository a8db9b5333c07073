"""A function of the mean of two networks, one of them softly aligned, without making all of its weights.

With few inputs `x @ a + (x @ b) P^T` is less work than `x @ (a + b P^T)`, where the product of two matrices of weights
comes first. The program tells for which arrays; results are the same up to rounding.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.files import read_leaf
from dwalign.program.interpret import bind, interpret, trace
from dwalign.symmetry import (
    Block,
    PermutationSpec,
    Weight,
    interpolate,
    leaf_weights,
    permute,
    permute_block,
    restore_block,
)
from dwalign.symmetry.elements import is_hard, order_of
from dwalign.symmetry.powers import Power

PyTree = Any


class Along(NamedTuple):
    """The factors that a dimension is a product of, None for fixed ones."""

    factors: tuple[str | None, ...]
    sizes: tuple[int, ...]
    powers: tuple[Power, ...]


class Mean(NamedTuple):
    """The weights `(1 - weight) a + weight g.b` of leaf `number`, with their dimensions in some order."""

    number: int
    weight: Weight
    a: jax.Array
    b: jax.Array
    dims: tuple[Along, ...]


def on_average(
    function: Callable[[PyTree], PyTree],
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    elements: Mapping[str, Any],
    weight: Weight | Mapping[str, Weight] = 0.5,
) -> PyTree:
    """`function(interpolate(spec, a, permute(spec, b, elements), weight))`, in less work where the program allows.

    For use inside of `jax.jit`, which leaves out weights that nothing asks for. Gradients are those of the plain form.

    Args:
      function: of params, a JAX program; it is traced up to twice.
      elements: as for `permute`; only for soft ones there is something to save.
      weight: as for `interpolate`.

    >>> import jax.numpy as jnp
    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes(None, "h")}, {"h": 8})
    >>> a, b = {"w": jnp.ones((4, 8))}, {"w": jnp.zeros((4, 8))}
    >>> x, plan = jnp.ones((1, 4)), {"h": jnp.full((8, 8), 0.125)}
    >>> on_average(lambda params: (x @ params["w"]).sum(), spec, a, b, plan).item()
    16.0
    """
    a, b = jax.tree.map(read_leaf, (a, b))
    whole = interpolate(spec, a, permute(spec, b, elements), weight)
    given = (leaf_weights(spec, weight), *(spec.treedef.flatten_up_to(tree) for tree in (a, b, whole)))
    means = [_mean(spec, elements, number, *leaf) for number, leaf in enumerate(zip(*given, strict=True))]
    if not any(means):
        return function(whole)
    program, put = trace(function, whole)
    spared = _cheaper(spec, elements, program, means)
    if not spared:
        return function(whole)

    def equation(eqn, ins):
        places = [k for k, one in enumerate(ins) if isinstance(one, Mean)]
        if not places:
            return bind(eqn, ins)
        if eqn.primitive.name == "transpose":
            return [_turned(ins[0], eqn.params["permutation"])]
        return [_product(spec, elements, eqn, ins, *places)]

    values = [means[k] if k in spared else leaf for k, leaf in enumerate(jax.tree.leaves(whole))]
    return put(interpret(program, equation, enter=_is_jit)(*values))


def _is_jit(eqn: Any) -> bool:
    # loops would make products again and again; what has gradients of its own, or is computed twice, stays so
    return eqn.primitive.name in ("jit", "pjit")


def _mean(
    spec: PermutationSpec, elements: Mapping[str, Any], number: int, weight: Weight, a: Any, b: Any, whole: Any
) -> Mean | None:
    """None for what is not multiplied, of which parts move by themselves, or which is of another type than elements."""
    axes = spec.leaves[number]
    moved = [g for g in axes.names() if g in elements]
    if not moved or len(axes.dims) < 2 or any(g in spec.batch or is_hard(elements[g]) for g in moved):
        return None
    types = {jnp.result_type(x) for x in (a, b, whole, *(order_of(elements[g]) for g in moved))}
    if len(types) > 1 or len(axes.dimensions()) > 1:
        return None
    (block,), (places,) = spec.leaf_blocks(number, whole), axes.dimensions()
    factors = zip(block.factors, block.array.shape, block.powers or (Power(),) * len(places), strict=True)
    dims = [[] for _ in axes.dims]
    for place, factor in zip(places, factors, strict=True):
        dims[place].append(factor)
    return Mean(number, weight, a, b, tuple(Along(*zip(*dim, strict=True)) for dim in dims))


def _cheaper(
    spec: PermutationSpec, elements: Mapping[str, Any], program: Any, means: Sequence[Mean | None]
) -> set[int]:
    """The numbers of the leaves that are better not made."""
    work = lambda dims, entries: entries * sum(spec.sizes[f] for dim in dims for f in dim.factors if f in elements)
    costs = {mean.number: 0.0 for mean in means if mean is not None}

    def cost(eqn, ins, place):
        """Multiplications beyond those of a product with weights that are made."""
        mean, other = ins[place], eqn.invars[1 - place].aval if len(ins) == 2 else None
        if eqn.primitive.name != "dot_general" or isinstance(ins[1 - place], Mean):
            return math.inf
        summed, batch = eqn.params["dimension_numbers"]
        if batch[place]:
            return math.inf
        made = [k for k in range(len(mean.dims)) if k not in summed[place]]
        rows = math.prod(n for k, n in enumerate(other.shape) if k not in summed[1 - place])
        return (
            rows * math.prod(mean.a.shape)
            + work([mean.dims[k] for k in summed[place]], math.prod(other.shape))
            + work([mean.dims[k] for k in made], rows * math.prod(mean.a.shape[k] for k in made))
        )

    def equation(eqn, ins):
        if eqn.primitive.name == "transpose" and isinstance(ins[0], Mean):
            return [_turned(ins[0], eqn.params["permutation"])]
        for place, one in enumerate(ins):
            if isinstance(one, Mean):
                costs[one.number] += cost(eqn, ins, place)
        return [None] * len(eqn.outvars)

    # nothing but the weights is followed
    only = lambda value, _: value if isinstance(value, Mean) else None
    outs = interpret(program, equation, only, enter=_is_jit)(*means)
    costs.update((one.number, math.inf) for one in outs if isinstance(one, Mean))
    return {mean.number for mean in means if mean and costs[mean.number] < work(mean.dims, math.prod(mean.a.shape))}


def _turned(mean: Mean, order: Sequence[int]) -> Mean:
    a, b = (jax.lax.transpose(x, order) for x in (mean.a, mean.b))
    return mean._replace(a=a, b=b, dims=tuple(mean.dims[k] for k in order))


def _product(spec: PermutationSpec, elements: Mapping[str, Any], eqn: Any, ins: Sequence, place: int) -> jax.Array:
    """The result of an equation whose operand in `place` is weights that are not made."""
    mean, other = ins[place], ins[1 - place]
    summed, _ = eqn.params["dimension_numbers"]
    times = lambda weights, x: bind(eqn, [weights, x] if place == 0 else [x, weights])[0]

    def act(block_of, array, axis, dim):
        fill = lambda one, values: (*[one] * axis, *values, *[one] * (array.ndim - axis - 1))
        parts = array.reshape(*array.shape[:axis], *dim.sizes, *array.shape[axis + 1 :])
        block = Block("", fill(None, dim.factors), parts, powers=fill(Power(), dim.powers))
        return block_of(spec, block, elements).array.reshape(array.shape)

    moved = other
    for own, axis in zip(summed[place], summed[1 - place], strict=True):
        moved = act(restore_block, moved, axis, mean.dims[own])
    found, first = times(mean.b, moved), 0 if place == 0 else other.ndim - len(summed[place])
    for k, own in enumerate(k for k in range(mean.a.ndim) if k not in summed[place]):
        found = act(permute_block, found, first + k, mean.dims[own])
    # a weight may be of a wider type
    return ((1 - mean.weight) * times(mean.a, other) + mean.weight * found).astype(eqn.outvars[0].aval.dtype)
