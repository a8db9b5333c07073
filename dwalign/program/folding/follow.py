"""Entries followed through a program: what only moves a value moves the numbers of its entries alike.

An abstract value is a tree whose NumPy arrays have the shape of the value and number entries of something: of the
parameters, of the results of a product. -1 is none, where a value was padded. So reshapes, slices, concatenations and
broadcasts in any number need no rules of their own.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from dwalign.program.inference.known import COMPUTED
from dwalign.program.inference.walk import scan_parts
from dwalign.program.interpret import interpret

MOVES: dict[str, Callable] = {
    name: COMPUTED[name]
    for name in "broadcast_in_dim concatenate rev slice stack transpose reshape squeeze expand_dims".split()
}
MOVES |= dict.fromkeys(
    ("convert_element_type", "copy", "copy_p", "stop_gradient", "reduce_precision", "sharding_constraint"),
    lambda params, aval, x: x,
)


def follow(
    program: ClosedJaxpr,
    values: Sequence,
    equation: Callable[[Any, Sequence], Sequence],
    *,
    rows: Callable[[Any], bool],
    leave: Callable[[Any], Any],
) -> list:
    """The abstract results of a program whose calls are written out.

    Args:
      values: of the arguments.
      equation: `(eqn, values) -> results`.
      rows: whether the rows of a value are followed; scans that run over one of these are unrolled, others are
        equations like any.
      leave: what is left of a value that cannot be followed into a loop, or out of it.
    """

    def step(eqn, ins):
        consts, carries = scan_parts(eqn) if eqn.primitive.name == "scan" else (0, 0)
        over = ins[consts + carries :]
        if eqn.primitive.name != "scan" or not any(map(rows, over)):
            return equation(eqn, ins)
        over = [one if rows(one) else leave(one) for one in over]
        run = interpret(eqn.params["jaxpr"], step, enter=lambda eqn: False)
        state, found = ins[consts : consts + carries], []
        turns = range(eqn.params["length"])
        for turn in reversed(turns) if eqn.params["reverse"] else turns:
            row = [mapped(lambda index, turn=turn: index[turn], one) if rows(one) else one for one in over]
            outs = run(*ins[:consts], *state, *row)
            state, found = outs[:carries], [leave(one) for one in outs[carries:]]
        return [*state, *found]

    return interpret(program, step, enter=lambda eqn: False)(*values)


def mapped(function: Callable, *trees: Any) -> Any:
    """The tree with the function applied to its arrays; None for trees that differ in anything else."""
    flat, structures = zip(*(jax.tree.flatten(tree) for tree in trees), strict=True)
    if any(structure != structures[0] for structure in structures):
        return None
    out = []
    for leaves in zip(*flat, strict=True):
        if isinstance(leaves[0], np.ndarray):
            out.append(function(*leaves))
        elif all(leaf == leaves[0] for leaf in leaves):
            out.append(leaves[0])
        else:
            return None
    return jax.tree.unflatten(structures[0], out)


def moved(eqn: Any, values: Sequence) -> list | None:
    """The results of an equation that only moves its operands, None for any other; what is padded on is a number."""
    name, params = eqn.primitive.name, eqn.params
    if name == "split":
        cuts = np.cumsum(params["sizes"])[:-1]
        pieces = range(len(params["sizes"]))
        return [mapped(lambda x, k=k: np.split(x, cuts, params["axis"])[k], values[0]) for k in pieces]
    if name == "pad" and all(low >= 0 and high >= 0 and not inner for low, high, inner in params["padding_config"]):
        around = [config[:2] for config in params["padding_config"]]
        return [mapped(lambda x: np.pad(x, around, constant_values=-1), values[0])]
    if name not in MOVES or not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact):
        return None
    (var,) = eqn.outvars
    out = mapped(lambda *arrays: MOVES[name](params, var.aval, *arrays), *values)
    return None if out is None else [out]


def count(shape: Sequence[int], start: int = 0) -> np.ndarray:
    """The numbers of the entries."""
    end = start + math.prod(shape)
    return np.arange(start, end, dtype=np.int32 if end < 1 << 31 else np.int64).reshape(shape)


class Product(NamedTuple):
    """A contraction with an array of parameters, as `[batch, contracted, free]` of numbers of its entries.

    Attributes:
      kernel: the array.
      made: of the shape of the result, which of `[batch, free]` each of its entries is.
      place: likewise, which row `[contracted]` of the other operand it is made of.
      read: an array of the shape of the other operand as `[batch, rest, contracted]`.
      padded: whether zeros are put around the other operand, or between its entries.
    """

    kernel: np.ndarray
    made: np.ndarray
    place: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    padded: bool


def product(eqn: Any, side: int, index: np.ndarray) -> Product | None:
    """The product in an equation whose operand `side` is the array of parameters `index`; None where there is none."""
    (var,) = eqn.outvars
    if eqn.primitive.name == "dot_general":
        return _dot(eqn, side, index, var.aval.shape)
    if eqn.primitive.name == "conv_general_dilated" and side == 1 and eqn.params["batch_group_count"] == 1:
        return _convolution(eqn, index, var.aval.shape)
    return None


def _dot(eqn, side: int, index: np.ndarray, shape: Sequence[int]) -> Product:
    contracted, batch = eqn.params["dimension_numbers"]

    def arranged(array: np.ndarray, side: int, last: bool) -> np.ndarray:
        free = [k for k in range(array.ndim) if k not in (*contracted[side], *batch[side])]
        middle, end = (free, contracted[side]) if last else (contracted[side], free)
        sizes = [math.prod(array.shape[k] for k in part) for part in (batch[side], middle, end)]
        return array.transpose([*batch[side], *middle, *end]).reshape(sizes)

    kernel = arranged(index, side, False)
    blocks, _, free = kernel.shape
    rest = math.prod(shape) // (blocks * free)

    def out(array: np.ndarray) -> np.ndarray:
        whole = np.broadcast_to(array, (blocks, rest, free))
        return (whole if side == 1 else whole.transpose(0, 2, 1)).reshape(shape)

    read = lambda array: arranged(array, 1 - side, True)
    return Product(kernel, out(count((blocks, 1, free))), out(count((blocks, rest, 1))), read, False)


def _convolution(eqn, index: np.ndarray, shape: Sequence[int]) -> Product:
    params = eqn.params
    left, right, out = params["dimension_numbers"]
    groups = params["feature_group_count"]
    kernel = index.transpose(right)
    outputs, inputs = kernel.shape[:2]
    window = math.prod(kernel.shape[2:])
    # a group's outputs lie side by side
    kernel = kernel.reshape(groups, outputs // groups, inputs * window).transpose(0, 2, 1)

    def read(array: np.ndarray) -> np.ndarray:
        array = array.transpose(left[1], left[0], *left[2:]).reshape(groups, inputs, -1)
        return np.repeat(array, window, axis=1).transpose(0, 2, 1)

    made = count([outputs if k == out[1] else 1 for k in range(len(shape))])
    place = count([groups if k == out[1] else n for k, n in enumerate(shape)]).repeat(outputs // groups, out[1])
    padded = any(map(any, params["padding"])) or any(step != 1 for step in params["lhs_dilation"])
    return Product(kernel, np.broadcast_to(made, shape), place, read, padded)


def common(array: np.ndarray, exact: bool = False) -> np.ndarray | None:
    """What all along the middle axis of `[batch, rest, n]` is the same; none (-1) goes with anything unless `exact`."""
    one = array.max(1)
    fits = (array == one[:, None]) | ((array == -1) & (not exact))
    return one if fits.all() and (one >= 0).all() else None


class Roles:
    """What each entry of the parameters is for; an entry that is for two things can be changed for none."""

    def __init__(self, entries: int) -> None:
        self._codes: dict[Any, int] = {}
        self._role = np.zeros(entries, np.int32)

    def give(self, index: np.ndarray, role: Any, *, once: bool = False) -> None:
        """With `once` an entry that `index` holds twice is for two things."""
        code = self._codes.setdefault(role, len(self._codes) + 1)
        if not once:
            # what was only broadcast
            index = index[tuple(slice(0, 1) if step == 0 else slice(None) for step in index.strides)]
        index = index[index >= 0]
        before = self._role[index]
        self._role[index] = np.where((before == 0) | (before == code), code, -1)
        if once and index.size:
            start, order = index.min(), np.arange(len(index))
            last = np.zeros(index.max() - start + 1, int)
            last[index - start] = order
            self._role[index[last[index - start] != order]] = -1

    def has(self, index: np.ndarray, role: Any) -> bool:
        """Whether all these entries are for this alone."""
        return bool((self._role[index] == self._codes.get(role, -2)).all())
