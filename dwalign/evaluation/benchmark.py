"""Methods side by side: the same pairs, the same images, the same batching, compile time apart."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from dwalign.evaluation.interpolation import Curve, correct, curve
from dwalign.matching.objective import cross_entropy
from dwalign.symmetry import Alignment, PermutationSpec, permute

PyTree = Any
# seconds; what a first call costs more than later ones is lost in a call that is longer
WARM_UP = 5.0


class Measured(NamedTuple):
    """One method on `p` pairs.

    Attributes:
      curve: the interpolation curves, leaves `[p, ...]`.
      seconds: `[p / chunk]`, for every call that aligned `chunk` pairs at once its wall-clock seconds a pair, without
        compilation.
      alignments: what the method found, leaves `[p, ...]`.
    """

    curve: Curve
    seconds: np.ndarray
    alignments: Alignment


def benchmark(
    spec: PermutationSpec,
    apply: Callable,
    methods: Mapping[str, Callable[..., Alignment]],
    a: PyTree,
    b: PyTree,
    test: tuple[jax.Array, jax.Array],
    *,
    key: jax.Array,
    chunk: int = 10,
    points: int = 25,
    loss: Callable = cross_entropy,
    hits: Callable = correct,
    prepare: Callable = lambda params: params,
    per_pair: bool = False,
) -> dict[str, Measured]:
    """Align and judge the stacked pairs (a, b) with every method.

    Args:
      spec, apply: of the networks.
      methods: name to `method(a, b, key=key)` for one pair; evaluation never asks which one it got.
      a, b: stacked pairs, leaves `[p, ...]`.
      test: the full test set, inputs `[m, ...]` and labels `[m, ...]`.
      key: for methods that draw at random; each pair has its own.
      chunk: pairs that are aligned at once (vmapped); must divide p.
      points, loss, hits, prepare: of the interpolation curve.
      per_pair: each pair has a task of its own (the signal that two networks represent): the leaves of `test` are
        `[p, m, ...]`, and methods are called `method(a, b, key=key, data=...)` with those of their pair.

    Raises:
      ValueError: `chunk` does not divide p, or `per_pair` and `test` does not hold p data sets.
    """
    pairs = jax.tree.leaves(a)[0].shape[0]
    if pairs % chunk:
        raise ValueError(f"benchmark: chunk must divide the number of pairs, got {chunk} and {pairs} pairs")
    keys = jax.random.split(key, pairs)
    own = {"data": test} if per_pair else {}
    if counts := {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(own)} - {pairs}:
        raise ValueError(f"benchmark: test must hold a data set for each of the {pairs} pairs, found {min(counts)}")
    parts = jax.block_until_ready(
        [jax.tree.map(lambda leaf, k=k: leaf[k : k + chunk], (a, b, keys, own)) for k in range(0, pairs, chunk)]
    )

    @jax.jit
    def judge(a, b, perms, own):
        def one(pair):
            a, b, perms, own = pair
            on = own.get("data", test)
            moved = permute(spec, b, perms)
            return curve(apply, a, moved, on, points=points, loss=loss, hits=hits, prepare=prepare, spec=spec)

        return jax.lax.map(one, (a, b, perms, own))

    def timed(compiled, part):
        begin = time.perf_counter()
        found = jax.block_until_ready(compiled(*part))
        return found, time.perf_counter() - begin

    measured = {}
    with tqdm(methods.items(), desc="aligning held-out pairs", unit="method") as bar:
        for name, method in bar:
            bar.set_postfix_str(name)
            solve = jax.jit(jax.vmap(lambda a, b, k, own, method=method: method(a, b, key=k, **own)))
            compiled = solve.lower(*parts[0]).compile()
            first = timed(compiled, parts[0])
            if first[1] < WARM_UP:
                first = timed(compiled, parts[0])
            found, seconds = zip(first, *(timed(compiled, part) for part in parts[1:]), strict=True)
            alignments = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)
            curves = jax.tree.map(np.asarray, judge(a, b, alignments.perms, own))
            measured[name] = Measured(curves, np.array(seconds) / chunk, alignments)
    return measured
