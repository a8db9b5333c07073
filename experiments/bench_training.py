"""What a training step of MNIST's aligner costs to compile and to run, beside an earlier commit.

    python experiments/bench_training.py --against COMMIT      some minutes

An aligner with the graph encoder for MLPs 784-128-128-128-10 on random networks and data. Each tree is measured in
processes of its own, in turn; the earlier one is checked out into a temporary folder. Writes runs/bench-training/:
config.json, results.json.
"""

import dataclasses
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

from dwalign import report
from dwalign.bounds import Count, settings

ROOT = Path(__file__).parent.parent


@settings
class Config:
    """Time training steps."""

    against: str = "HEAD"
    """the commit to compare with."""
    out: str = "runs"
    processes: Count = 3
    steps: Count = 15


def measure(steps: int) -> dict[str, float]:
    """Seconds of compilation and of a step, with the dwalign that this process finds."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dwalign import deepalign, zoo
    from dwalign.networks import mlp

    network, rng = mlp(784, (128,) * 3, 10), np.random.default_rng(0)
    networks = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 16))
    data = jnp.asarray(rng.standard_normal((2000, 784)), jnp.float32), jnp.asarray(rng.integers(0, 10, 2000))
    model = deepalign.make_model(network, deepalign.AlignerConfig(encoder="graph", channels=64), data[0])
    optimisation = deepalign.Optimisation(steps=1000, batch_size=8)
    # before records there was a function in place of the network, and a class of its own for the data
    records = "network" in inspect.signature(deepalign.make_step).parameters
    batch = data if records else getattr(zoo, "Batch")(*data)  # noqa: B009
    step = deepalign.make_step(model, network if records else network.apply, networks, batch, optimisation=optimisation)
    state = deepalign.init_state(model, optimisation, jax.tree.map(lambda leaf: leaf[0], networks), 0)

    def seconds():
        nonlocal state
        begin = time.perf_counter()
        state, losses = step(state)
        jax.block_until_ready(losses)
        return time.perf_counter() - begin

    first = seconds()
    later = statistics.median(seconds() for _ in range(steps))
    return {"compile": first - later, "step": later}


def elsewhere(tree: Path, steps: int) -> dict[str, float]:
    """`measure` in a process that imports the dwalign of another tree."""
    code = f"import json, bench_training; print(json.dumps(bench_training.measure({steps})))"
    # without the compiled programs of other processes
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = inherited | {"PYTHONPATH": os.pathsep.join([str(tree), str(ROOT / "experiments")])}
    # in a folder of neither tree, for an editable installation comes after PYTHONPATH but the current folder before it
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise report.RunError(f"{tree}: a training step must run there, but it failed: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(config: Config) -> dict[str, Any]:
    """Run the benchmark; returns what results.json holds."""
    folder = report.open_run(Path(config.out) / "bench-training", dataclasses.asdict(config))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", config.against], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    found: dict[str, list[dict[str, float]]] = {"this": [], commit: []}
    with tempfile.TemporaryDirectory() as other:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", other], input=archive, check=True)
        for _ in range(config.processes):
            for name, tree in (("this", ROOT), (commit, Path(other))):
                found[name].append(elsewhere(tree, config.steps))
                print(name, found[name][-1], flush=True)
    median = {
        part: {name: statistics.median(one[part] for one in runs) for name, runs in found.items()}
        for part in ("compile", "step")
    }
    panels = {
        f"{part}, s": {
            "seconds": {name: report.point([[value]]) for name, value in of.items()},
            "ratio": {"this": report.point([[of["this"] / of[commit]]])},
        }
        for part, of in median.items()
    }
    results = {
        "experiment": "bench-training",
        "config": {"against": commit, "processes": config.processes, "steps": config.steps},
        "environment": report.environment(),
        "axis": "commit",
        "settings": ["this", commit],
        "panels": panels,
        "caption": f"bench-training: medians of {config.processes} processes of each, in turn.",
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    import study  # not of the other tree, whose processes import this file too

    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
