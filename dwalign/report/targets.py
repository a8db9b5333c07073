"""Figures to reach, judged on the means of the methods."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dwalign.report.methods import display_name

LOWER_IS_BETTER = {"barrier": "barrier", "auc": "AUC", "seconds_per_pair": "seconds a pair"}


class Target(NamedTuple):
    """`metric` of `method` is to be at most `factor` times that of the best of `others`."""

    method: str
    metric: str
    factor: float
    others: Sequence[str]


def judge(target: Target, methods: Mapping[str, Any]) -> dict[str, Any]:
    """A target and what was reached, as results.json holds it.

    Args:
      target: what is asked.
      methods: for each method `{metric: {"mean": ...}}`.

    Returns:
      `value`, the method's mean; `limit`, the largest that meets the target; `ratio`, value to the mean of `against`
      (None where that is 0); `met`; the target itself, as text and in parts.

    Raises:
      ValueError: a method that was not measured, or a metric of which more is better.
    """
    method, metric, factor, others = target
    if metric not in LOWER_IS_BETTER:
        raise ValueError(f"target: metric must be one of {sorted(LOWER_IS_BETTER)}, got {metric!r}")
    if missing := [name for name in (method, *others) if name not in methods]:
        raise ValueError(f"target: {missing} must be among the measured methods {sorted(methods)}")
    best = min(others, key=lambda name: methods[name][metric]["mean"])
    value, reference = methods[method][metric]["mean"], methods[best][metric]["mean"]
    return {
        "text": f"{LOWER_IS_BETTER[metric]} of {display_name(method)}: at most {factor:g} x {display_name(best)}",
        "method": method,
        "metric": metric,
        "against": best,
        "factor": factor,
        "ratio": value / reference if reference else None,
        "limit": factor * reference,
        "value": value,
        "met": bool(value <= factor * reference),
    }
