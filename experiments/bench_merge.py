"""What memory and time `dwalign merge` takes of two large files.

    python experiments/bench_merge.py      some minutes on 2 CPU cores, three times 2 GB of disk

Two networks of torch, MLPs side by side, the second a disturbed copy of the first with its units in another order, are
merged by weight matching with the command that anybody would type, in a process of its own. Memory is the largest that
the process had, less that of the same command on a small network, as a share of one file. Linux and macOS.
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
from dwalign.bounds import Count, Strength, settings

SOURCE = """
import numpy as np
import torch


class Branches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("up", "down"):
            layers = [torch.nn.Linear({width}, {width}) for _ in range({branches})]
            setattr(self, name, torch.nn.ModuleList(layers))

    def forward(self, x):
        return sum(down(torch.relu(up(x))) for up, down in zip(self.up, self.down))


def make():
    return Branches(), np.zeros((2, {width}), np.float32)
"""


@settings
class Config:
    """Measure a merge of large files."""

    width: Count = 2048
    branches: Count = 60
    noise: Strength = 0.3
    """of the second network, relative to its weights."""
    scratch: str | None = None
    """folder for the files; that of the system if not given."""
    out: str = "runs"


def write_pair(folder: Path, width: int, branches: int, noise: float) -> int:
    """Two files; the bytes of one."""
    orders = [np.random.default_rng([2, k]).permutation(width) for k in range(branches)]

    def drawn(*seed: int, bias: bool) -> np.ndarray:
        shape = (width,) if bias else (width, width)
        return np.random.default_rng(seed).standard_normal(shape, np.float32) / np.float32(np.sqrt(width))

    def first(up: bool, k: int, bias: bool) -> np.ndarray:
        return drawn(int(up), int(bias), k, bias=bias)

    def second(up: bool, k: int, bias: bool) -> np.ndarray:
        array = first(up, k, bias)
        array += np.float32(noise) * drawn(3, int(up), int(bias), k, bias=bias)
        return array[orders[k]] if up else array if bias else array[:, orders[k]]

    for name, draw in (("a", first), ("b", second)):
        tensors = {
            f"{'up' if up else 'down'}.{k}.{'bias' if bias else 'weight'}": files.LazyArray(
                (width,) if bias else (width, width), np.float32, partial(draw, up, k, bias)
            )
            for up in (True, False)
            for k in range(branches)
            for bias in (False, True)
        }
        files.write_weights(folder / f"{name}.safetensors", tensors)
    (folder / "net.py").write_text(SOURCE.format(width=width, branches=branches))
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
        write_pair(Path(small), 64, config.branches, config.noise)
        _, runtime = merge(Path(small))
        size = write_pair(Path(large), config.width, config.branches, config.noise)
        seconds, peak = merge(Path(large))
        # where every unit found its own, the mean differs from the first by half of the noise
        name = f"up.{config.branches // 2}.weight"
        opened = (files.open_weights(Path(large) / f"{file}.safetensors") for file in ("a", "merged"))
        one, merged = (np.asarray(weights[name]) for weights in opened)
        apart = float(np.linalg.norm(merged - one) / np.linalg.norm(one))
    what = f"{size // 4:,} numbers"
    figures = {"memory, of one file": (peak - runtime) / size, "seconds": seconds}
    results = {
        "experiment": "bench-merge",
        "config": settings,
        "environment": report.environment(),
        "axis": "each file",
        "settings": [what],
        "panels": {title: {title: {what: report.point([[value]])}} for title, value in figures.items()},
        "caption": "bench-merge: memory beyond that of the same command on a small network; the relative distance of "
        f"the result from the first file is {apart:.3f}, half of the noise, {config.noise / 2:.3f}, if all was found.",
        "file_bytes": size,
        "runtime_bytes": runtime,
        "peak_bytes": peak,
        "apart": round(apart, 4),
    }
    report.write_json(folder / "results.json", results)
    print(json.dumps(results, indent=1))
    return results


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    return tyro.cli(Config, args=args, description=__doc__)


if __name__ == "__main__":
    study.run(main, read_config)
