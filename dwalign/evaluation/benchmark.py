"""Methods side by side: the same pairs, the same images, the same batching, compile time apart."""

import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, Points, bounded
from dwalign.deepalign import as_method
from dwalign.evaluation.interpolation import Curve, curve
from dwalign.extras import progress
from dwalign.matching import Method
from dwalign.matching.gauged import is_matched
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.symmetry import Alignment, check_finite, permute

PyTree = Any
# seconds; what a first call costs more than later ones is lost in a call that is longer
WARM_UP = 5.0


class Measured(NamedTuple):
    """One method on `p` pairs.

    Attributes:
      curve: the interpolation curves, leaves `[p, ...]`.
      seconds: for every call that aligned `chunk` pairs at once (methods on the host: one after the other) its
        wall-clock seconds a pair, `[p / chunk]`; without compilation.
      alignments: what the method found, leaves `[p, ...]`.
    """

    curve: Curve
    seconds: np.ndarray
    alignments: Alignment


@bounded
def benchmark(
    network: Network,
    methods: Sequence[str | Method],
    a: PyTree,
    b: PyTree,
    test: Data,
    *,
    key: jax.Array,
    data: Data | None = None,
    task: Task = CLASSIFICATION,
    chunk: Count = 10,
    points: Points = 25,
    renew: PyTree = None,
    per_pair: bool = False,
) -> dict[str, Measured]:
    """Align and judge the stacked pairs (a, b) with every method.

    Args:
      network: what is aligned.
      methods: or their names, "auto" for what `choose_method` chooses; evaluation never asks which one it got.
      a, b: stacked pairs, leaves `[p, ...]`.
      test: the full test set, inputs `[m, ...]` and labels `[m, ...]`.
      key: for methods that draw at random; each pair has its own.
      data: training data, for methods that need them.
      task: what the networks are for.
      chunk: pairs that are aligned at once (vmapped); must divide p.
      points, renew: of the interpolation curve.
      per_pair: each pair has data of its own (the signal that two networks represent): the leaves of `test` are
        `[p, m, ...]`, and methods are given those of their pair.

    Returns:
      what was measured, by `str(method)`.

    Raises:
      ValueError: `chunk` does not divide p, networks are not finite, or with `per_pair` `test` is not p data sets.
    """
    pairs = jax.tree.leaves(a)[0].shape[0]
    if pairs % chunk:
        raise ValueError(f"benchmark: chunk must divide the number of pairs, got {chunk} and {pairs} pairs")
    for name, params in (("a", a), ("b", b)):
        check_finite("benchmark", network.spec, params, name)
    keys = jax.random.split(key, pairs)
    own = {"data": Data(*test)} if per_pair else {}
    if counts := {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(own)} - {pairs}:
        raise ValueError(f"benchmark: test must hold a data set for each of the {pairs} pairs, found {min(counts)}")
    given = jax.tree.map(lambda leaf: leaf[0], own).get("data", data)
    methods = [as_method(network, one, given) for one in methods]
    parts = jax.block_until_ready(
        [jax.tree.map(lambda leaf, k=k: leaf[k : k + chunk], (a, b, own)) for k in range(0, pairs, chunk)]
    )

    # of random keys NumPy has no arrays
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    bring = lambda leaf: leaf if is_key(leaf) else np.asarray(leaf)
    on_host = [(*jax.tree.map(bring, part[:2]), part[2]) for part in parts]

    @jax.jit
    def judge(a, moved, own):
        def one(pair):
            a, moved, own = pair
            return curve(network, a, moved, own.get("data", test), task=task, points=points, renew=renew)

        return jax.lax.map(one, (a, moved, own))

    # inverses of maps are solved on the host: inside a program on CPUs they may wait for its threads forever
    move = (
        functools.partial(_moved_one_by_one, network.spec)
        if network.spec.has_kinds
        else jax.jit(jax.vmap(functools.partial(permute, network.spec)))
    )

    @jax.jit
    def solve(method, a, b, keys, own, start):
        def one(a, b, key, own, start):
            return method(network, a, b, key=key, data=own.get("data", data), task=task, start=start)

        return jax.vmap(one)(a, b, keys, own, start)

    programs: dict[Any, jax.stages.Compiled] = {}

    def run(method, k, keys):
        """What is found on the `k`th part of the pairs, and the seconds that it took."""
        start, spent = None, 0.0
        if method.first is not None and is_matched(network.spec):
            # as a chain does it, but what several chains have in common is compiled once
            first, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
            start, spent = run(method.first, k, first)
            method = method.parts[-1]
        # a method keeps what it compiles itself, and what runs on the host stays there
        if chunk == 1 or (method.host and method.first is None):
            a, b, own = on_host[k]
            given = method, network, a, b, keys, own, start, data, task
            begin = time.perf_counter()
            found = _one_by_one(*given)
        else:
            a, b, own = parts[k]
            given = method, a, b, keys, own, start
            leaves, treedef = jax.tree.flatten((method, start))
            like = treedef, tuple(map(jnp.shape, leaves))
            if like not in programs:
                programs[like] = solve.lower(*given).compile()
            begin = time.perf_counter()
            found = jax.block_until_ready(programs[like](*given))
        return found, spent + time.perf_counter() - begin

    measured = {}
    with progress(methods, desc="aligning held-out pairs", unit="method") as bar:
        for method in bar:
            bar.set_postfix_str(str(method))
            first = run(method, 0, keys[:chunk])
            if warm := first[1] < WARM_UP:
                first = run(method, 0, keys[:chunk])
            others = (run(method, k, keys[k * chunk : (k + 1) * chunk]) for k in range(1, len(parts)))
            found, seconds = zip(first, *others, strict=True)
            if chunk == 1 and not warm and len(seconds) > 1:
                # the first call has compiled
                seconds = seconds[1:]
            alignments = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
            curves = jax.tree.map(np.asarray, judge(a, move(b, alignments.perms), own))
            measured[str(method)] = Measured(curves, np.array(seconds) / chunk, alignments)
    return measured


def _moved_one_by_one(spec, b, perms) -> PyTree:
    b, perms = (jax.tree.map(np.asarray, tree) for tree in (b, perms))
    pairs = [jax.tree.map(lambda leaf, k=k: leaf[k], (b, perms)) for k in range(len(jax.tree.leaves(b)[0]))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(permute(spec, *pair) for pair in pairs))


def _one_by_one(method, network, a, b, keys, own, start, data, task) -> Alignment:
    """As vmap, on the host."""

    def solve(k, key):
        a_, b_, own_, start_ = jax.tree.map(lambda leaf: leaf[k], (a, b, own, start))
        return method(network, a_, b_, key=key, data=own_.get("data", data), task=task, start=start_)

    found = [solve(k, key) for k, key in enumerate(keys)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)
