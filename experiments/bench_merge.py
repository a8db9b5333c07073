"""What memory and time `dwalign merge` takes of two large files.

    python experiments/bench_merge.py      half an hour on 2 CPU cores, three times 2 GB of disk

Two networks of torch, a deep MLP, the second a disturbed copy of the first with its units in another order, are merged
by weight matching with the command that anybody would type, in a process of its own. Memory is the largest that the
process had, less that of the same command on a small network, as a share of one file. Linux and macOS.
Writes runs/bench-merge/: config.json, results.json.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import study
import tyro

from dwalign import files, report

SOURCE = """
import numpy as np
import torch


def make():
    widths = [64] + [{width}] * {depth} + [10]
    layers = [torch.nn.Linear(*pair) for pair in zip(widths, widths[1:])]
    parts = [part for layer in layers for part in (layer, torch.nn.ReLU())]
    return torch.nn.Sequential(*parts[:-1]), np.zeros((2, 64), np.float32)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure a merge of large files."""

    width: int = 2048
    depth: int = 120
    noise: float = 0.3
    """of the second network, relative to its weights."""
    scratch: str | None = None
    """folder for the files; that of the system if not given."""
    out: str = "runs"


def write_pair(folder: Path, width: int, depth: int, noise: float) -> int:
    """Two files; the bytes of one."""
    widths = [64, *[width] * depth, 10]
    orders = [np.arange(64), *(np.random.default_rng([2, k]).permutation(width) for k in range(depth)), np.arange(10)]

    def drawn(seed: list[int], shape: tuple[int, ...], inputs: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(shape, np.float32) / np.float32(np.sqrt(inputs))

    def first(k: int, bias: bool) -> np.ndarray:
        shape = (widths[k + 1],) if bias else (widths[k + 1], widths[k])
        return drawn([int(bias), k], shape, widths[k])

    def second(k: int, bias: bool) -> np.ndarray:
        array = first(k, bias)
        array += np.float32(noise) * drawn([3, int(bias), k], array.shape, widths[k])
        moved = array[orders[k + 1]]
        return moved if bias else moved[:, orders[k]]

    for name, draw in (("a", first), ("b", second)):
        tensors = {}
        for k in range(depth + 1):
            tensors[f"{2 * k}.weight"] = files.LazyArray(
                (widths[k + 1], widths[k]), np.float32, partial(draw, k, False)
            )
            tensors[f"{2 * k}.bias"] = files.LazyArray((widths[k + 1],), np.float32, partial(draw, k, True))
        files.write_weights(folder / f"{name}.safetensors", tensors)
    (folder / "net.py").write_text(SOURCE.format(width=width, depth=depth))
    return (folder / "a.safetensors").stat().st_size


def merge(folder: Path) -> tuple[float, int]:
    """Seconds of the command, and the largest memory that it had, in bytes."""
    command = [sys.executable, "-m", "dwalign", "merge", "a.safetensors", "b.safetensors", "--network", "net.py:make"]
    watched = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    begin = time.perf_counter()
    # a small process between, for a child counts what its parent had
    done = subprocess.run(
        [sys.executable, "-c", watched, *command, "--method", "weight_matching", "-o", "merged.safetensors"],
        cwd=folder, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - begin, unit * int(done.stdout.split()[-1])


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("scratch", "out")}
    folder = report.open_run(Path(config.out) / "bench-merge", settings)
    temporary = partial(tempfile.TemporaryDirectory, dir=config.scratch)
    with temporary() as small, temporary() as large:
        write_pair(Path(small), 64, config.depth, config.noise)
        _, runtime = merge(Path(small))
        size = write_pair(Path(large), config.width, config.depth, config.noise)
        seconds, peak = merge(Path(large))
        # where every unit found its own, the mean differs from the first by half of the noise
        name = f"{2 * (config.depth // 2)}.weight"
        opened = (files.open_weights(Path(large) / f"{file}.safetensors") for file in ("a", "merged"))
        one, merged = (np.asarray(weights[name]) for weights in opened)
        apart = float(np.linalg.norm(merged - one) / np.linalg.norm(one))
    results = {
        "experiment": "bench-merge",
        "config": settings,
        "environment": report.environment(),
        "parameters": size // 4,
        "file_bytes": size,
        "runtime_bytes": runtime,
        "peak_bytes": peak,
        "of_one_file": round((peak - runtime) / size, 3),
        "seconds": round(seconds, 1),
        "apart": round(apart, 4),
        "apart_if_recovered": round(config.noise / 2, 4),
    }
    report.write_whole(folder / "results.json", json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))
    return results


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    return tyro.cli(Config, args=args, description=__doc__)


if __name__ == "__main__":
    study.run(main, read_config)
