"""Arrays that are looked up in at one place and multiplied with at another, given apart.

A language model often reads its stream with the table that its stream begins with. What is folded into the matrix must
not change the table, so each becomes an array of its own; and as the matrix has no bias, it gets one, of zeros.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from dwalign.program.folding.follow import MOVES
from dwalign.program.folding.simplify import is_plain_call
from dwalign.program.interpret import bind, interpret
from dwalign.program.network import Network, network as make_network

PyTree = Any
# what looks its first operand up
LOOKUPS = ("gather", "dynamic_slice")


class Leaf(NamedTuple):
    """The array of parameters of this number, or what has only been moved or converted of it."""

    number: int


class Apart(NamedTuple):
    """Attributes:
    table: what is looked up in.
    matrix: what is multiplied with, and all else.
    bias: what is added to the product, if there is only one.
    """

    table: Any
    matrix: Any
    bias: Any


def find_tied(program: ClosedJaxpr, arguments: int) -> dict[int, tuple[int, ...] | None]:
    """Of the first `arguments` inputs, by number, those that are table and matrix, with the shape of a bias.

    None for those that are in more than one product.
    """
    tables: set[int] = set()
    products: dict[int, list[tuple[int, ...] | None]] = {}

    def equation(eqn, ins):
        for side, one in enumerate(ins):
            if isinstance(one, Leaf) and (use := _use(eqn, side)) == "moved":
                return [one]
            if isinstance(one, Leaf) and use == "looked up":
                tables.add(one.number)
            elif isinstance(one, Leaf):
                products.setdefault(one.number, []).append(_free(eqn, side))
        return [None] * len(eqn.outvars)

    is_number = lambda var: jnp.issubdtype(var.aval.dtype, jnp.floating)
    leaves = [Leaf(k) if is_number(var) else None for k, var in enumerate(program.jaxpr.invars[:arguments])]
    inputs = [None] * (len(program.jaxpr.invars) - arguments)
    interpret(program, equation, enter=is_plain_call)(*leaves, *inputs)
    return {k: found[0] if len(found) == 1 else None for k, found in sorted(products.items()) if k in tables}


def untie(network: Network, params: PyTree) -> tuple[Network, PyTree]:
    """The same function of `{"params": params, "untied": {path: {"matrix": ..., "bias": ...}}}`.

    The network and its params as they are where no array is table and matrix.
    """
    two = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype) if x.ndim else x, network.example)
    tied = find_tied(jax.make_jaxpr(network.apply)(params, two), len(jax.tree.leaves(params)))
    if not tied:
        return network, params
    leaves = jax.tree_util.tree_leaves_with_path(params)

    def own(number, shape):
        leaf = leaves[number][1]
        return {"matrix": leaf} | ({} if shape is None else {"bias": jnp.zeros(shape, leaf.dtype)})

    paths = [jax.tree_util.keystr(leaves[number][0]) for number in tied]
    more = {path: own(*one) for path, one in zip(paths, tied.items(), strict=True)}
    statistics = {f"['params']{path}" for path in network.spec.statistics}
    out = make_network(
        _Untied(network.apply, tuple(zip(tied, paths, strict=True))),
        params := {"params": params, "untied": more},
        network.example,
        statistics=lambda path: path in statistics,
        kinds="all" if network.spec.has_kinds else "permutation",
    )
    return out, params


@dataclasses.dataclass(frozen=True)
class _Untied:
    """A function with some of its arrays, `(number, path)`, apart; of one function they are equal."""

    apply: Callable
    tied: tuple[tuple[int, str], ...]

    def __call__(self, params: PyTree, inputs: PyTree) -> PyTree:
        program, out = jax.make_jaxpr(self.apply, return_shape=True)(params["params"], inputs)
        values: list[Any] = jax.tree.leaves((params["params"], inputs))
        for number, path in self.tied:
            own = params["untied"][path]
            values[number] = Apart(values[number], own["matrix"], own.get("bias"))
        outs = interpret(program, _equation, enter=is_plain_call)(*values)
        return jax.tree.structure(out).unflatten([_matrix(one) for one in outs])


def _equation(eqn: Any, ins: Sequence) -> list:
    sides = [side for side, one in enumerate(ins) if isinstance(one, Apart)]
    uses = {side: _use(eqn, side) for side in sides}
    if "moved" in uses.values():
        (one,) = ins
        return [Apart(bind(eqn, [one.table])[0], bind(eqn, [one.matrix])[0], one.bias)]
    given = [one.table if uses.get(side) == "looked up" else _matrix(one) for side, one in enumerate(ins)]
    outs = bind(eqn, given)
    for side in sides:
        if ins[side].bias is not None and (free := _free(eqn, side)) is not None:
            start = 0 if side == 0 else outs[0].ndim - len(free)
            bias = ins[side].bias.astype(outs[0].dtype)
            added = jax.lax.broadcast_in_dim(bias, outs[0].shape, range(start, start + len(free)))
            outs = [outs[0] + added]
    return outs


def _matrix(one: Any) -> Any:
    return one.matrix if isinstance(one, Apart) else one


def _use(eqn: Any, side: int) -> str:
    if eqn.primitive.name in MOVES and len(eqn.invars) == 1:
        return "moved"
    return "looked up" if eqn.primitive.name in LOOKUPS and side == 0 else "multiplied"


def _free(eqn: Any, side: int) -> tuple[int, ...] | None:
    """The shape of a bias: the axes of the result of a product that are of the operand `side`."""
    if eqn.primitive.name != "dot_general":
        return None
    contracted, batch = eqn.params["dimension_numbers"]
    shape = eqn.invars[side].aval.shape
    return None if batch[side] else tuple(n for k, n in enumerate(shape) if k not in contracted[side])
