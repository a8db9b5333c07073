"""What results.json must hold, checked with errors that say what was expected, what was found and where."""

import math
from collections.abc import Mapping
from typing import Any

METRICS = ("barrier", "auc", "midpoint_accuracy", "seconds_per_pair")
KEYS = ("experiment", "config", "environment", "zoo", "methods")
ENVIRONMENT = ("python", "platform", "cores", "packages")
TARGET_KEYS = ("method", "metric", "against", "factor", "ratio", "met")


class ResultsError(ValueError):
    """A results file that cannot be read or written, or is not one."""


def validate(results: Any, where: str) -> None:
    """Raise `ResultsError` unless `results` follows the schema; `where` names the file in the message."""
    _need(results, KEYS, where)
    _need(results["environment"], ENVIRONMENT, f"{where}: environment")
    _need(results["methods"], (), f"{where}: methods")
    if not isinstance(results["experiment"], str):
        raise ResultsError(f"{where}: experiment must be a name, found {_kind(results['experiment'])}")
    for name, method in results["methods"].items():
        at = f"{where}: methods/{name}"
        _need(method, (*METRICS, "curve"), at)
        for metric in METRICS:
            _check_metric(method[metric], f"{at}/{metric}")
        _check_curve(method["curve"], f"{at}/curve")
    targets = results.get("targets", [])
    if not isinstance(targets, list):
        raise ResultsError(f"{where}: targets must be a list, found {_kind(targets)}")
    for k, target in enumerate(targets):
        at = f"{where}: targets/{k}"
        _need(target, TARGET_KEYS, at)
        if not (_number(target["factor"]) and (target["ratio"] is None or _number(target["ratio"]))):
            raise ResultsError(f"{at}: factor and ratio must be numbers, found {target['factor']}, {target['ratio']}")
        if target["metric"] not in METRICS:
            raise ResultsError(f"{at}: metric must be one of {list(METRICS)}, found {target['metric']!r}")


def _check_metric(metric: Any, where: str) -> None:
    _need(metric, ("mean", "ci95", "values"), where)
    if not _number(metric["mean"]):
        raise ResultsError(f"{where}/mean must be a finite number, found {metric['mean']!r}")
    if not _numbers(metric["ci95"]) or len(metric["ci95"]) != 2:
        raise ResultsError(f"{where}/ci95 must be two finite numbers, low and high, found {metric['ci95']!r}")
    values = metric["values"]
    if not isinstance(values, list) or not values or not all(_numbers(row) and row for row in values):
        raise ResultsError(f"{where}/values must be lists of finite numbers, one list a seed and one number a pair")


def _check_curve(curve: Any, where: str) -> None:
    _need(curve, ("lambdas", "loss", "accuracy"), where)
    lines = {key: curve[key] for key in ("lambdas", "loss", "accuracy")}
    for key in ("loss_ci95", "accuracy_ci95"):
        if key in curve:
            if not isinstance(curve[key], list) or len(curve[key]) != 2:
                raise ResultsError(f"{where}/{key} must be two lists, low and high, found {_kind(curve[key])}")
            lines |= {f"{key}/{side}": line for side, line in enumerate(curve[key])}
    for key, line in lines.items():
        if not _numbers(line):
            raise ResultsError(f"{where}/{key} must be a list of finite numbers, found {_kind(line)}")
    lengths = {key: len(line) for key, line in lines.items()}
    if len(set(lengths.values())) > 1:
        raise ResultsError(f"{where}: all lines must have one value a point, found {lengths}")


def _need(value: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(value, Mapping):
        raise ResultsError(f"{where} must be an object with the keys {list(keys)}, found {_kind(value)}")
    if missing := [key for key in keys if key not in value]:
        raise ResultsError(f"{where} must hold {list(keys)}, but {missing} are missing; found {sorted(value)}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(_number(item) for item in value)


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of length {len(value)}" if isinstance(value, list | str) else type(value).__name__
