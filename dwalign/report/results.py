"""results.json: what an experiment found, and the only source of the figures in documents."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwalign.evaluation import Measured, interval

METRICS = ("barrier", "auc", "midpoint_accuracy", "seconds_per_pair")
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "ott-jax", "numpy", "scipy")


class ResultsError(ValueError):
    """A results file that cannot be read, or is not one."""


class Target(NamedTuple):
    """`metric` of `method` is to be at most `factor` times that of the best of `others`."""

    method: str
    metric: str
    factor: float
    others: Sequence[str]


def environment() -> dict[str, Any]:
    """What the run ran on: versions, cores, platform."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def make_results(
    experiment: str,
    config: Mapping[str, Any],
    zoo: Mapping[str, Any],
    measured: Mapping[str, Sequence[Measured]],
    targets: Sequence[Target] = (),
) -> dict[str, Any]:
    """The content of results.json.

    Args:
      experiment: name, such as `mlp-digits`.
      config, zoo: JSON values.
      measured: for each method one benchmark an aligner seed; one where a method has no aligner.
      targets: figures to reach.
    """
    methods = {name: _method(runs) for name, runs in measured.items()}
    return {
        "experiment": experiment,
        "config": dict(config),
        "environment": environment(),
        "zoo": dict(zoo),
        "methods": methods,
        "targets": [_judge(target, methods) for target in targets],
    }


def _method(runs: Sequence[Measured]) -> dict[str, Any]:
    values = {
        "barrier": np.stack([run.curve.barrier for run in runs]),
        "auc": np.stack([run.curve.auc for run in runs]),
        "midpoint_accuracy": np.stack([run.curve.midpoint_accuracy for run in runs]),
        "seconds_per_pair": np.array([[run.seconds] for run in runs]),
    }
    out: dict[str, Any] = {}
    for name, table in values.items():
        mean, low, high = interval(table)
        out[name] = {"mean": mean, "ci95": [low, high], "values": np.round(table, 6).tolist()}
    mean_curve = {
        "lambdas": np.asarray(runs[0].curve.lambdas).reshape(-1, runs[0].curve.loss.shape[-1])[0],
        "loss": np.mean([run.curve.loss for run in runs], (0, 1)),
        "accuracy": np.mean([run.curve.accuracy for run in runs], (0, 1)),
    }
    out["curve"] = {name: np.round(line, 6).tolist() for name, line in mean_curve.items()}
    return out


def _judge(target: Target, methods: Mapping[str, Any]) -> dict[str, Any]:
    means = {name: methods[name][target.metric]["mean"] for name in (target.method, *target.others)}
    best = min(target.others, key=means.__getitem__)
    ratio = means[target.method] / means[best]
    return {
        "method": target.method,
        "metric": target.metric,
        "against": best,
        "factor": target.factor,
        "ratio": ratio,
        "met": bool(ratio <= target.factor),
    }


def write_results(file: str | Path, results: Mapping[str, Any]) -> None:
    """Write results.json so that it appears whole or not at all."""
    validate(results, str(file))
    file = Path(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(results, indent=1))
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def read_results(file: str | Path) -> dict[str, Any]:
    """Read and check results.json.

    Raises:
      ResultsError: missing, truncated or foreign file; the message says what was expected and where.
    """
    try:
        results = json.loads(Path(file).read_text())
    except OSError as error:
        raise ResultsError(f"{file} must be a results file: {error}") from error
    except json.JSONDecodeError as error:
        raise ResultsError(
            f"{file} must be whole JSON, but is broken at line {error.lineno}; run the experiment"
        ) from error
    validate(results, str(file))
    return results


def validate(results: Any, where: str) -> None:
    """Raise `ResultsError` unless `results` follows the schema."""
    keys = {"experiment", "config", "environment", "zoo", "methods"}
    if not isinstance(results, Mapping) or not keys <= set(results):
        found = sorted(results) if isinstance(results, Mapping) else type(results).__name__
        raise ResultsError(f"{where} must hold {sorted(keys)}, found {found}")
    for name, method in results["methods"].items():
        for metric in METRICS:
            if set(method.get(metric, ())) != {"mean", "ci95", "values"}:
                raise ResultsError(f"{where}: methods/{name}/{metric} must hold mean, ci95 and values")
