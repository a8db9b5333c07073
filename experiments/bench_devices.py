"""What one of several devices does in a training step, beside its share of what a single one does.

    python experiments/bench_devices.py      some minutes, all of them compilation

The step of an MNIST-sized aligner is compiled for 1 to 8 devices, into which this process divides the processor. Work
is what XLA counts in the program of one device: operations on numbers, and bytes read and written, less what a kernel
that takes a slice of an array leaves unread of it; seconds would say nothing where cores are fewer than devices. Ideal
is the work of one device alone divided by the number of devices; the sum of the gradients is exchanged once a step.
Writes runs/bench-devices/: config.json, results.json.
"""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import study
import tyro
from jax.sharding import AxisType

from dwalign import deepalign, report
from dwalign.bounds import Count, settings
from dwalign.networks import mlp
from dwalign.program import Data


@settings
class Config:
    """Count the work of devices."""

    devices: tuple[Count, ...] = (1, 2, 4, 8)
    batch: Count = 32
    """pairs in a step, of all devices together."""
    inputs: Count = 784
    width: Count = 128
    channels: Count = 64
    images: Count = 64
    out: str = "runs"


HEAD = re.compile(r"(?:ENTRY )?%(\S+) \(.* -> .* \{")
LINE = re.compile(
    r"\s+(?P<root>ROOT )?%(?P<name>\S+) = (?P<type>\w+)\[(?P<shape>[\d,]*)\]\S* (?P<op>[\w-]+)\((?P<of>.*?)\)"
)
WHOLE = {"convolution", "dot", "gather", "scatter", "sort"}
"""Operations that read all of what they are given, whatever part of their result is asked for."""


def unread(program: str) -> int:
    """Bytes that a compiled program, as text, never reads of what XLA counts for its kernels (HLO fusions).

    It counts all of each array that a kernel is given, also where only a slice is taken: of the optimiser's one vector
    for every array of an aligner.
    """
    kernels: dict[str, list[re.Match]] = {}
    for text in program.splitlines():
        if head := HEAD.match(text):
            body = kernels.setdefault(head[1], [])
        elif line := LINE.match(text):
            body.append(line)
    return sum(_unread(kernels[name]) for name in re.findall(r" fusion\(.*?calls=%([\w.-]+)", program))


def _unread(kernel: list[re.Match]) -> int:
    sizes = {line["name"]: math.prod(int(n) for n in line["shape"].split(",") if n) for line in kernel}
    asked: dict[str, int] = dict.fromkeys(sizes, 0)
    if not any(line["root"] for line in kernel):
        return 0  # several results
    left = 0
    for line in reversed(kernel):
        size = sizes[line["name"]]
        asks = size if line["root"] else min(size, asked[line["name"]])
        if line["op"] == "parameter":
            bits = re.sub(r"\D", "", line["type"]) or "8"
            left += (size - asks) * int(bits) // 8
        for name in re.findall(r"%([\w.-]+)", line["of"]):
            each = line["op"] == "slice" or (sizes.get(name) == size and line["op"] not in WHOLE)
            asked[name] = asked.get(name, 0) + (asks if each else sizes.get(name, 0))
    return left


def work(config: Config, count: int) -> dict[str, float]:
    """Operations and bytes of one of so many devices in a step."""
    network, rng = mlp(config.inputs, (config.width,) * 3, 10), np.random.default_rng(0)
    networks = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 4))
    inputs = rng.standard_normal((config.images, config.inputs)).astype(np.float32)
    data = Data(inputs, rng.integers(0, 10, config.images))
    model = deepalign.make_model(network, deepalign.AlignerConfig("graph", channels=config.channels), inputs)
    optimisation = deepalign.Optimisation(steps=10, batch_size=config.batch, images=config.images)
    mesh = jax.make_mesh((count,), ("pairs",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    step = deepalign.make_step(model, network, networks, data, optimisation=optimisation, mesh=mesh)
    state = deepalign.init_state(model, optimisation, jax.tree.map(lambda leaf: leaf[0], networks), 0)
    compiled = jax.jit(step).lower(state).compile()
    counted: Any = compiled.cost_analysis()
    return {"operations": counted["flops"], "bytes": counted["bytes accessed"] - unread(compiled.as_text())}


def main(config: Config) -> dict[str, Any]:
    """Run the benchmark; returns what results.json holds."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name != "out"}
    folder = report.open_run(Path(config.out) / "bench-devices", settings)
    found = {count: work(config, count) for count in config.devices}
    first = min(found)
    named = {count: f"{count} device{'s' * (count > 1)}" for count in found}
    rows = lambda value: {named[count]: report.point([[value(count)]]) for count in found}
    results = {
        "experiment": "bench-devices",
        "config": settings,
        "environment": report.environment(),
        "axis": "a step on",
        "settings": list(named.values()),
        "panels": {
            what: {
                "billions a device": rows(lambda count, what=what: found[count][what] / 1e9),
                "x ideal": rows(lambda count, what=what: found[count][what] * count / (found[first][what] * first)),
            }
            for what in ("operations", "bytes")
        },
        "caption": (
            f"bench-devices: a training step of {config.batch} pairs of MLPs {config.inputs}-{config.width}-"
            f"{config.width}-{config.width}-10 with the graph encoder of {config.channels} channels; bytes as XLA "
            "counts them, less what kernels leave unread of what they slice."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
