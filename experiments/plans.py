"""How well a dry run foretells how long a command takes, on networks of many kinds.

    python experiments/plans.py
    python experiments/plans.py --methods weight_matching --networks mlp gru
    python experiments/plans.py --measured results/plans.json     foretells anew what was measured before

`dwalign align --dry-run` says seconds of work and of compilation; `dwalign align` then says how long matching took, its
check and compilation included. Each run is a process of its own that compiles anew, on as many cores as this one may
use. Networks are drawn, not trained: neither estimate looks at values. Writes runs/plans/: config.json, results.json.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import study
import tyro

from dwalign import files, networks, report
from dwalign.bounds import Count, Names, settings

IMAGES = {"shape": [32, 32, 3]}
KINDS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "inputs": 784, "widths": [64, 64], "outputs": 10},
    "wide mlp": {"kind": "mlp", "inputs": 784, "widths": [512, 512, 512], "outputs": 10},
    "cnn": {"kind": "cnn", **IMAGES},
    "vgg": {"kind": "vgg", **IMAGES, "stages": [[16, 16], [32, 32], [64, 64]], "norm": "batch"},
    "resnet18": {"kind": "resnet", **IMAGES, "width": 16, "blocks": [2, 2, 2, 2]},
    "vit": {"kind": "vit", **IMAGES, "dim": 32, "depth": 2, "heads": 2, "width": 64},
    "mixer": {"kind": "mixer", **IMAGES, "dim": 32, "depth": 2, "tokens": 32, "width": 64},
    "gru": {"kind": "recurrent", "cell": "gru", "widths": [32, 32]},
}
TAKES = re.compile(r"matching by .*: ([\d.]+) s")


@settings
class Config:
    """Compare plans with what they are of."""

    networks: Names = tuple(KINDS)
    methods: Names = (
        "weight_matching",
        "activation_matching_correlation",
        "activation_matching_correlation+refine",
        "deep_align",
    )
    examples: Count = 256
    limit: Count = 300
    """seconds a run may take, after which it is left out."""
    measured: Path | None = None
    """results of which the seconds are taken, so that only plans are made anew."""
    out: str = "runs"


def command(folder: Path, method: str, *more: str, limit: int) -> tuple[dict[str, Any], str]:
    """What `dwalign align` found, and what it told meanwhile."""
    aligner = ["--aligner", "any"] if "deep_align" in method else []
    args = ["align", "0.npz", "1.npz", "--network", "net.py:make", "--data", "data.npz", "--method", method, *aligner]
    # programs that were kept on disk compile in no time
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    whole = [sys.executable, "-m", "dwalign", *args, "-o", "out.npz", "--overwrite", "--json", *more]
    done = subprocess.run(whole, cwd=folder, env=env, capture_output=True, text=True, timeout=limit, check=True)
    return json.loads(done.stdout), done.stderr


def measure(folder: Path, method: str, limit: int) -> float | None:
    """Seconds that matching took, None where a run takes longer than the limit."""
    try:
        return float(TAKES.findall(command(folder, method, limit=limit)[1])[0])
    except subprocess.TimeoutExpired:
        return None


def prepare(folder: Path, config: dict[str, Any], examples: int) -> None:
    """Two networks, and data that they take."""
    network, rng = networks.build(config), np.random.default_rng(0)
    (folder / "net.py").write_text(
        f"from dwalign import networks\n\ndef make():\n    return networks.build({config})\n"
    )
    for k in range(2):
        params = jax.jit(network.init)(jax.random.key(k))
        files.write_weights(folder / f"{k}.npz", files.unbind(jax.tree.map(np.asarray, params)))
    inputs = rng.standard_normal((examples, *network.example.shape[1:]), np.float32)
    np.savez(folder / "data.npz", inputs=inputs, labels=rng.integers(0, 10, examples))


def main(config: Config) -> dict[str, Any]:
    """Run every method on every network; returns what results.json holds."""
    # read before the run that it lies in is set aside
    before = None if config.measured is None else report.read_json(config.measured)["panels"]["seconds"]
    settings = dataclasses.asdict(config) | {"measured": config.measured and config.measured.name}
    folder = report.open_run(Path(config.out) / "plans", settings)
    panels: dict[str, dict[str, dict[str, Any]]] = {"seconds": {}, "foretold / seconds": {}}
    for name in config.networks:
        with tempfile.TemporaryDirectory() as place:
            prepare(Path(place), KINDS[name], config.examples)
            for method in config.methods:
                if before is None:
                    seconds = measure(Path(place), method, config.limit)
                else:
                    seconds = before.get(method, {}).get(name, {}).get("mean")
                if seconds is None:
                    print(f"{name}, {method}: left out, it takes longer than {config.limit} s", flush=True)
                    continue
                foretold, _ = command(Path(place), method, "--dry-run", limit=config.limit)
                parts = foretold["seconds"], foretold["compilation"]
                print(f"{name}, {method}: {seconds:.1f} s, foretold {parts[0]:.1f} + {parts[1]:.1f} s", flush=True)
                for panel, value in zip(panels.values(), (seconds, sum(parts) / max(seconds, 0.05)), strict=True):
                    panel.setdefault(method, {})[name] = report.point([[value]])
    results = {
        "experiment": "plans",
        "config": {**settings, "out": None},
        "environment": report.environment(),
        "axis": "network",
        "settings": list(config.networks),
        "panels": panels,
        "caption": (
            f"plans: `dwalign align` on {config.examples} examples, certificate and compilation included, and how many "
            "times that `--dry-run` foretold."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
