"""What networks are for: the loss that is lowered, and the examples that count as right."""

import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwalign.program.capture import Units
from dwalign.program.data import Data, check_data
from dwalign.symmetry import dtype_of, with_lists

PyTree = Any
# what sums of probabilities in bfloat16 may be off by
HALF = 1e-2


@with_lists
def cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy in nats; outputs `[m, ..., classes]`, integer labels `[m, ...]`."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


@with_lists
def as_logits(outputs: jax.Array) -> jax.Array:
    """Outputs `[..., classes]` of a classifier that may end in a softmax, as those of Keras do, as logits in float32.

    They are probabilities where none is negative and they sum to one, to what half precision holds of that, in every
    row; else they are logits.

    >>> print(jax.nn.softmax(as_logits(np.float32([[0.5, 0.25, 0.25]]))), as_logits(np.float32([[0.5, 0.25]])))
    [[0.5  0.25 0.25]] [[0.5  0.25]]
    """
    wide = outputs.astype(jnp.float32)
    probable = (wide >= 0).all() & (abs(wide.sum(-1) - 1) < HALF).all()
    return jnp.where(probable, jnp.log(jnp.maximum(wide, jnp.finfo(jnp.float32).tiny)), wide)


@with_lists
def log_loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """`cross_entropy` of outputs that may be probabilities, see `as_logits`."""
    return cross_entropy(as_logits(outputs), labels)


@with_lists
def mean_squared_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over examples and values; outputs and labels `[m, d]`."""
    return ((outputs - labels) ** 2).mean()


@with_lists
def correct(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Which predictions are right, `[m]`; outputs `[m, ..., classes]`, integer labels `[m, ...]`.

    An example of many labels, such as the tokens of a sequence, counts as right by the share of them that are.
    """
    right = jnp.argmax(outputs, -1) == labels
    return right.mean(tuple(range(1, right.ndim)))


@with_lists
def within(outputs: jax.Array, labels: jax.Array, *, tolerance: float = 0.1) -> jax.Array:
    """Which examples are met to `tolerance` in every value, `[m]`; outputs and labels `[m, d]`."""
    return jnp.abs(outputs - labels).max(-1) <= tolerance


class Task(NamedTuple):
    """What networks are for; functions of the module, so that programs compiled for a task are found again.

    Attributes:
      loss: `(outputs, labels) -> scalar`, a mean over examples.
      hits: `(outputs, labels) -> [m]`, the examples that count as right, or shares of them.
    """

    loss: Callable[[PyTree, PyTree], jax.Array] = cross_entropy
    hits: Callable[[PyTree, PyTree], jax.Array] = correct

    def lost(self, outputs: PyTree, labels: PyTree) -> jax.Array:
        """The loss as a float32 scalar, whatever the network computes in."""
        return jnp.asarray(self.loss(outputs, labels), jnp.float32)


CLASSIFICATION = Task()
"""Cross-entropy of classes, and the share of right ones."""
ANSWERS = Task(log_loss, correct)
"""The same of networks that give logits or probabilities."""
REGRESSION = Task(mean_squared_error, within)
"""Squared error, and the share of examples that are met closely."""


def check_task(
    caller: str,
    task: Any,
    apply: Callable,
    params: PyTree,
    data: Data,
    *,
    advice: str = "pass task=Task(loss, hits) where the task is another",
) -> None:
    """Raise `ValueError` unless the task can judge `apply(params, inputs)` by the labels.

    Args:
      caller: named in errors.
      task: what was given.
      apply: `(params, inputs) -> outputs`.
      params: of one network.
      data: as `check_data` gives them.
      advice: where labels are not those of cross-entropy.
    """
    if not isinstance(task, Task) or not all(callable(part) for part in task):
        raise ValueError(f"{caller}: task must be a Task(loss, hits) of two functions, got {_shown(task)}")
    outputs = outputs_of(caller, apply, params, data.inputs)
    if isinstance(outputs, tuple) and any(isinstance(part, Units) for part in outputs):
        raise ValueError(f"{caller}: apply must give the outputs alone, found outputs and Units; pass network.apply")
    if task.loss in (cross_entropy, log_loss):
        _check_labels(caller, outputs, data.labels, f"; {advice}")
    if task.loss is mean_squared_error:
        _check_values(caller, outputs, data.labels)
    try:
        found = _shapes(task.loss, outputs, data.labels)
    except Exception as error:  # whatever somebody's loss raises
        shapes = " and ".join(str(jax.tree.map(jnp.shape, part)) for part in (outputs, data.labels))
        raise ValueError(
            f"{caller}: loss(outputs, labels) must take what the network gives and these labels, {shapes}, but raised "
            f"{type(error).__name__}: {_in_short(error)}"
        ) from error
    if found is None or jnp.shape(found):
        raise ValueError(
            f"{caller}: loss(outputs, labels) must be a scalar, found {found and jnp.shape(found)}; take the mean over "
            "examples"
        )


def check_inputs(caller: str, apply: Callable, params: PyTree, inputs: PyTree) -> PyTree:
    """Inputs `[m, ...]` as arrays; raise `ValueError` unless they are numbers that the program takes.

    Args:
      caller: named in errors.
      apply: `(params, inputs) -> outputs`.
      params: of one network.
      inputs: what was given.
    """
    if isinstance(inputs, Data) or callable(inputs):
        found = "Data; pass its .inputs" if isinstance(inputs, Data) else "a function; pass training inputs"
        raise ValueError(f"{caller}: inputs must be arrays [m, ...] alone, found {found}")
    inputs = check_data(caller, Data(inputs)).inputs
    outputs_of(caller, apply, params, inputs)
    return inputs


def outputs_of(caller: str, apply: Callable, params: PyTree, inputs: PyTree) -> PyTree:
    """The shapes of `apply(params, inputs)`; raise `ValueError` where the program does not take these."""
    try:
        return _shapes(apply, params, inputs)
    except Exception as error:  # whatever the program raises on what it was not made for
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(inputs))
        raise ValueError(
            f"{caller}: inputs and params must be those that the network takes, but for the inputs found, {shapes}, it "
            f"raised {type(error).__name__}: {_in_short(error)}{_for_one(apply, params, inputs)}"
        ) from error


def _for_one(apply: Callable, params: PyTree, inputs: PyTree) -> str:
    """What to do with a program of one example, which has no axis of examples; nothing where it is none."""
    takes_one = False
    with contextlib.suppress(Exception):
        takes_one = _shapes(jax.vmap(apply, (None, 0)), params, inputs) is not None
    # of an example that was taken for many one number is left
    if not takes_one and any(jnp.ndim(leaf) != 1 for leaf in jax.tree.leaves(inputs)):
        return ""
    return (
        "; the first axis of inputs counts examples: make the network of jax.vmap(apply, (None, 0)) where apply takes "
        "one example"
    )


def _shapes(function: Callable, *args: PyTree) -> PyTree:
    """`jax.eval_shape`, remembered: every call of a method asks, and tracing takes longer than some methods do."""
    leaves, treedef = jax.tree.flatten(args)
    known = tuple([(np.shape(leaf), dtype_of(leaf)) for leaf in leaves])
    seen = _SEEN.setdefault(function, {})
    about = treedef, known, jax.config.jax_enable_x64
    if about not in seen:
        seen[about] = _shapes_for(function, treedef, known)
    return seen[about]


_SEEN: weakref.WeakKeyDictionary[Callable, dict] = weakref.WeakKeyDictionary()


def _shapes_for(function: Callable, treedef: Any, known: tuple) -> PyTree:
    # as arguments of a program become: newer versions of JAX warn where NumPy's integers are wider than these
    narrowed = functools.partial(jax.dtypes.canonicalize_dtype, allow_extended_dtype=True)
    leaves = [jax.ShapeDtypeStruct(shape, narrowed(dtype)) for shape, dtype in known]
    return jax.eval_shape(function, *treedef.unflatten(leaves))


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _shown(task: Any) -> str:
    return f"Task({', '.join(map(repr, task))})" if isinstance(task, Task) else repr(task)


def _check_values(caller: str, outputs: PyTree, labels: PyTree) -> None:
    """Values that broadcast would be compared with others than their own."""
    shape = lambda tree: jax.tree.map(jnp.shape, tree)
    if shape(outputs) != shape(labels):
        raise ValueError(
            f"{caller}: squared error needs labels of the shape of the outputs, {shape(outputs)}, found "
            f"{shape(labels)}; classes are integers [m], values [m, d]"
        )


def _check_labels(caller: str, outputs: PyTree, labels: PyTree, fit: str) -> None:
    one = lambda tree: jax.tree.structure(tree) == jax.tree.structure(0)
    if not one(outputs) or not one(labels):
        raise ValueError(f"{caller}: cross-entropy needs one array of outputs and one of labels, found trees{fit}")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"{caller}: cross-entropy needs outputs of real numbers, found {outputs.dtype}{fit}")
    dtype, shape = jnp.result_type(labels), jnp.shape(labels)
    if not jnp.issubdtype(dtype, jnp.integer) or not outputs.shape or shape != outputs.shape[:-1]:
        raise ValueError(
            f"{caller}: cross-entropy needs integer labels of shape {outputs.shape[:-1]} for outputs {outputs.shape}, "
            f"found {dtype} {shape}{fit}"
        )
    if isinstance(labels, jax.core.Tracer):
        return
    known = np.asarray(labels)  # of NumPy, for inside a traced function JAX would trace what it computes
    least, most = int(known.min()), int(known.max())
    if least < 0 or most >= outputs.shape[-1]:
        raise ValueError(
            f"{caller}: labels must be classes of the outputs, 0 to {outputs.shape[-1] - 1}, found {least} to "
            f"{most}{fit}"
        )
