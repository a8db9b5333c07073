"""results.json: what an experiment found, and the only source of the figures in documents."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dwalign.evaluation import Measured, interval
from dwalign.files import FileError, sealed, unsealed, write_bytes
from dwalign.report.schema import ResultsError, validate
from dwalign.report.targets import Target, judge

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ott-jax", "numpy", "scipy")
DIGITS = 6


def environment() -> dict[str, Any]:
    """What the run ran on: versions, the cores it may use, platform, load; no paths and no names of machines."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "backend": jax.default_backend(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        # of the whole machine: above the cores of this run, something else ran beside it
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
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

    Raises:
      ValueError: losses that are not finite, or a target on a method that was not measured.
    """
    methods = {}
    for name, runs in measured.items():
        try:
            methods[name] = _method(runs)
        except ValueError as error:
            raise ValueError(f"results of {name}: {error}") from error
    return {
        "experiment": experiment,
        "config": dict(config),
        "environment": environment(),
        "zoo": dict(zoo),
        "methods": methods,
        "targets": [judge(target, methods) for target in targets],
    }


def _method(runs: Sequence[Measured]) -> dict[str, Any]:
    values = {
        "barrier": [run.curve.barrier for run in runs],
        "auc": [run.curve.auc for run in runs],
        "midpoint_accuracy": [run.curve.midpoint_accuracy for run in runs],
        "seconds_per_pair": [np.atleast_1d(run.seconds) for run in runs],
    }
    out: dict[str, Any] = {}
    for name, per_seed in values.items():
        table = np.stack(per_seed)
        mean, low, high = interval(table)
        out[name] = {"mean": mean, "ci95": [low, high], "values": _rounded(table)}
    out["curve"] = {"lambdas": _rounded(np.asarray(runs[0].curve.lambdas).reshape(-1, runs[0].curve.loss.shape[-1])[0])}
    for name in ("loss", "accuracy"):
        lines = np.stack([getattr(run.curve, name) for run in runs])
        points = [interval(lines[:, :, k], resamples=500) for k in range(lines.shape[2])]
        out["curve"][name] = _rounded([point.mean for point in points])
        out["curve"][f"{name}_ci95"] = [_rounded([point.low for point in points]), _rounded([p.high for p in points])]
    return out


def _rounded(values) -> list:
    """Nested lists with as many significant digits as anyone reads."""
    values = np.asarray(values, np.float64)
    return np.array([float(f"{value:.{DIGITS}g}") for value in values.flat]).reshape(values.shape).tolist()


def write_results(file: str | Path, results: Mapping[str, Any]) -> None:
    """Write results.json so that it appears whole or not at all.

    Raises:
      ResultsError: `results` breaks the schema, or the file cannot be written; nothing is left behind.
    """
    validate(results, str(file))
    try:
        json.dumps(results, allow_nan=False)
    except ValueError as error:
        raise ResultsError(f"{file}: all numbers must be finite: {error}") from error
    write_json(file, results)


def write_json(file: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with a checksum, so that it appears whole or not at all; `read_json` compares it.

    Raises:
      ResultsError: the file cannot be written; nothing is left behind.
    """
    on_one_line = lambda numbers: "[" + " ".join(numbers[1].split()) + "]"
    text = json.dumps(sealed(content), indent=1)
    write_whole(file, re.sub(r"\[(\n[^\[\]{}\"]*)\]", on_one_line, text) + "\n")


def write_whole(file: str | Path, content: str | bytes) -> None:
    """Replace a file in one step: readers see the old content or the new, and a failure leaves the old."""
    try:
        write_bytes(Path(file).resolve(), content.encode() if isinstance(content, str) else content)
    except FileError as error:
        raise ResultsError(f"{file} must be a file that can be written: {error}") from error


def read_results(file: str | Path) -> dict[str, Any]:
    """Read and check results.json.

    Raises:
      ResultsError: missing, truncated or foreign file; the message says what was expected, what was found and where.
    """
    results = read_json(file)
    validate(results, str(file))
    return results


def read_json(file: str | Path) -> Any:
    """Read a results file of any kind.

    Raises:
      ResultsError: it is missing or truncated, no JSON, or its checksum is of other content.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{file} must be a results file that can be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{file} must be a results file (JSON text), found bytes that are not text") from error
    except json.JSONDecodeError as error:
        raise ResultsError(
            f"{file} must be whole JSON, but breaks off or is broken at line {error.lineno}, column {error.colno} "
            f"({error.msg}); run its experiment again"
        ) from error
    try:
        return unsealed(content)
    except ValueError as error:
        raise ResultsError(f"{file} must be as it was written, but {error}") from error
