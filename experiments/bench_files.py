"""What memory it takes to merge two files of weights tensor by tensor.

    python experiments/bench_files.py      some minutes, three times 2 GB of disk

Two files of random weights are averaged into a third, in every format that is written in pieces. Memory is the peak of
the process beyond what it had before, with the libraries loaded, as a share of one file; files that are mapped count
while they are in memory, though the system may take it back. Linux only.
Writes runs/bench-files/: config.json, results.json.
"""

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import study
import tyro

from dwalign import files, report
from dwalign.bounds import Count, settings


@settings
class Config:
    """Measure the memory of a merge on disk."""

    out: str = "runs"
    scratch: str | None = None
    parameters: Count = 500_000_000
    tensors: Count = 50
    suffixes: tuple[str, ...] = (".safetensors", ".npz", ".msgpack", ".weights.h5", ".pt")


def merge(folder: str, suffix: str, config: Config) -> dict[str, float]:
    """Average two files; seconds, and the peak of memory as a share of one."""
    size = config.parameters // config.tensors
    a, b, out, warm = (Path(folder) / f"{name}{suffix}" for name in ("a", "b", "out", "warm"))
    for seed, file in enumerate((a, b)):
        draw = lambda k, seed=seed: np.random.default_rng([seed, k]).standard_normal(size, np.float32)
        made = [files.LazyArray((size,), np.float32, partial(draw, k)) for k in range(config.tensors)]
        files.write_weights(file, {f"layer_{k:03d}/kernel": tensor for k, tensor in enumerate(made)})
    # loads the libraries
    files.write_weights(warm, {"w": np.ones(3, np.float32)})
    np.asarray(files.open_weights(warm)["w"])
    opened = files.open_weights(a), files.open_weights(b)

    def middle(name: str) -> np.ndarray:
        total = np.asarray(opened[0][name])
        total += np.asarray(opened[1][name])
        total *= np.float32(0.5)
        return total

    merged = {
        name: files.LazyArray(tensor.shape, tensor.dtype, partial(middle, name)) for name, tensor in opened[0].items()
    }
    Path("/proc/self/clear_refs").write_text("5")  # peaks begin here
    before, begin = _memory("VmRSS"), time.perf_counter()
    files.write_weights(out, merged, like=opened[0], inputs=[a, b])
    spent, peak = time.perf_counter() - begin, _memory("VmHWM") - before
    last = files.open_weights(out)
    wrong = [name for name in (min(merged), max(merged)) if not np.array_equal(last[name], middle(name))]
    if wrong:
        raise RuntimeError(f"{out} must hold the mean of both files, but differs in {wrong}")
    return {"seconds": spent, "of one file": peak / a.stat().st_size, "tensors": peak / (4 * size)}


def _memory(name: str) -> int:
    """Bytes of memory of this process, as Linux counts them."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def panels(found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """As `report.series_table` shows them."""
    of = lambda figure: {suffix: report.point([[row[figure]]]) for suffix, row in found.items()}
    titles = {"seconds": "seconds", "of one file": "memory, of one file", "tensors": "memory, in tensors"}
    return {title: {title: of(figure)} for figure, title in titles.items()}


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    run = report.open_run(Path(config.out) / "bench-files", dataclasses.asdict(config))
    found = {}
    for suffix in config.suffixes:
        # a process of its own each, for its own peak
        process = multiprocessing.get_context("spawn").Pool(1)
        with tempfile.TemporaryDirectory(dir=config.scratch) as folder, process as pool:
            found[suffix] = pool.apply(merge, (folder, suffix, config))
        print(suffix, found[suffix], flush=True)
    results = {
        "experiment": "bench-files",
        "config": {"parameters": config.parameters, "tensors": config.tensors},
        "environment": report.environment(),
        "axis": "format",
        "settings": list(found),
        "panels": panels(found),
        "measured": found,
        "caption": f"bench-files: {config.parameters:,} float32 in {config.tensors} tensors a file; one merge of each.",
    }
    report.write_json(run / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
