"""How long it takes to read the symmetries off a program and to certify them: ResNet50 and ViTs of twelve layers.

    python experiments/inference.py                  a minute or two

Parameters are abstract shapes; certifying draws them and runs the network twice. Compilation is included.
Writes runs/inference/: config.json, results.json.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import study
import tyro

from dwalign import report
from dwalign.bounds import Count, settings
from dwalign.networks import build
from dwalign.program import certify, infer_spec

VIT = dict(kind="vit", depth=12)
NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet50, 32 pixels": dict(kind="resnet50", shape=[32, 32, 3]),
    "ViT of 12 layers, width 192, 32 pixels": VIT | dict(shape=[32, 32, 3], patch=4, dim=192, heads=3, width=768),
    "ResNet50, 224 pixels": dict(kind="resnet50", shape=[224, 224, 3]),
    "ViT-B/16, 224 pixels": VIT | dict(shape=[224, 224, 3], patch=16, dim=768, heads=12, width=3072, outputs=1000),
}


@settings
class Config:
    """Time inference and certificate."""

    out: str = "runs"
    repeats: Count = 3


def seconds(config: dict[str, Any], repeats: int) -> dict[str, list[float]]:
    """Of each stage, in every repeat."""
    network = build(config)
    inputs = jax.ShapeDtypeStruct((2, *config["shape"]), jnp.float32)
    found: dict[str, list[float]] = {"infer_spec": [], "certify": []}
    for _ in range(repeats):
        jax.clear_caches()
        begin = time.perf_counter()
        spec = infer_spec(network.apply, network.params, inputs)
        read = time.perf_counter()
        certify(spec, network.apply, network.params, inputs)
        found["infer_spec"].append(read - begin)
        found["certify"].append(time.perf_counter() - read)
    return found


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder = report.open_run(Path(config.out) / "inference", dataclasses.asdict(config))
    found = {name: seconds(network, config.repeats) for name, network in NETWORKS.items()}
    results = {
        "experiment": "inference",
        "config": {"repeats": config.repeats, "networks": NETWORKS},
        "environment": report.environment(),
        "axis": "network",
        "settings": list(NETWORKS),
        "panels": {
            "seconds": {
                stage: {name: report.point([one[stage]]) for name, one in found.items()}
                for stage in ("infer_spec", "certify")
            }
        },
        "caption": f"inference: means and 95 % intervals over {config.repeats} repeats, with tracing and compilation.",
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
