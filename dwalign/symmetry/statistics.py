"""Which arrays training computes from data rather than learns: batch statistics and other running averages."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

PyTree = Any
NAMES = frozenset(
    {
        "batch_stats",  # the collection of linen
        *("running_mean", "running_var", "num_batches_tracked"),  # torch
        *("moving_mean", "moving_variance"),  # Keras
        *("mean_ema", "var_ema"),  # Haiku: average, hidden and counter of each
    }
)
PAIR = {"mean": "var", "var": "mean"}


def find_statistics(tree: PyTree, given: PyTree | Callable[[str], bool] | None = None) -> tuple[str, ...]:
    """The paths of the statistics among the leaves of `tree`.

    Args:
      tree: parameters, or anything of their structure such as the axes of a spec.
      given: a predicate on paths (as in `spec.paths`), or a tree of bools, of which one may stand for a whole subtree.
        By default the conventions of linen, nnx, torch, Keras and Haiku decide: a name of `NAMES` on the path, an nnx
        `BatchStat`, or an array `mean` beside an array `var`.

    >>> find_statistics({"scale": 1, "mean": 2, "var": 3}), find_statistics({"a": 1, "b": 2}, {"a": True, "b": False})
    (("['mean']", "['var']"), ("['a']",))
    """
    if given is None:
        return tuple(_conventional(tree))
    paths = [path for path, _ in _leaves(tree)]
    if callable(given):
        return tuple(path for path in paths if given(path))
    try:
        flags = jax.tree.leaves(jax.tree.map(lambda flag, part: jax.tree.map(lambda _: flag, part), given, tree))
    except ValueError as error:
        raise ValueError(
            "statistics: must be a predicate on paths or a tree of bools with the structure of the parameters, of "
            f"which one may stand for a subtree; found {str(given)[:80]}: {error}"
        ) from error
    return tuple(path for path, flag in zip(paths, flags, strict=True) if flag)


def _conventional(tree: PyTree) -> Iterator[str]:
    words = {path: _words(path) for path, _ in _leaves(tree)}
    known = set(words.values())
    for path, typed in _leaves(tree):
        *parent, last = words[path] or ("",)
        paired = last in PAIR and (*parent, PAIR[last]) in known
        if typed or paired or NAMES & set(words[path]):
            yield path


def _words(path: str) -> tuple[str, ...]:
    """The names on a path; that of the value inside an nnx variable is none of them."""
    return tuple(word for word in re.findall(r"\w+", re.sub(r"\.(raw_)?value$", "", path)))


def _leaves(tree: PyTree) -> Iterator[tuple[str, bool]]:
    """The path of every leaf, and whether it lies in a variable that nnx calls a batch statistic."""
    typed = lambda node: any(kind.__name__ == "BatchStat" for kind in type(node).__mro__)
    for outer, node in jax.tree_util.tree_flatten_with_path(tree, is_leaf=typed)[0]:
        for inner, _ in jax.tree_util.tree_flatten_with_path(node)[0]:
            yield jax.tree_util.keystr((*outer, *inner)), typed(node)
