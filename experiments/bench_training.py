"""What a training step and the pass of MNIST's aligner cost to compile and to run, beside an earlier commit.

    python experiments/bench_training.py --against COMMIT      some minutes

An aligner with the graph encoder for MLPs 784-128-128-128-10 on random networks and data; its pass on 16 pairs at once,
also with steps of descent behind it. Each tree is measured in processes of its own, in turn; the earlier one is checked
out into a temporary folder. Writes runs/bench-training/: config.json, results.json.
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
    """Time training steps and passes."""

    against: str = "HEAD"
    """the commit to compare with."""
    out: str = "runs"
    processes: Count = 3
    steps: Count = 15


PAIRS = 16
DESCENT = 3


def measure(steps: int) -> dict[str, list[float]]:
    """Seconds to compile, and of a later run, of each part; with the dwalign that this process finds."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dwalign import deepalign, zoo
    from dwalign.networks import mlp

    network, rng = mlp(784, (128,) * 3, 10), np.random.default_rng(0)
    networks = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), PAIRS))
    data = jnp.asarray(rng.standard_normal((2000, 784)), jnp.float32), jnp.asarray(rng.integers(0, 10, 2000))
    make = lambda **how: deepalign.make_model(
        network, deepalign.AlignerConfig(encoder="graph", channels=64, probes=64, **how), data[0]
    )
    model, one = make(), jax.tree.map(lambda leaf: leaf[0], networks)
    optimisation = deepalign.Optimisation(steps=1000, batch_size=8)
    # before records there was a function in place of the network, and a class of its own for the data
    records = "network" in inspect.signature(deepalign.make_step).parameters
    batch = data if records else getattr(zoo, "Batch")(*data)  # noqa: B009
    step = deepalign.make_step(model, network if records else network.apply, networks, batch, optimisation=optimisation)
    state = deepalign.init_state(model, optimisation, one, 0)
    others = jax.tree.map(lambda leaf: leaf[::-1], networks)

    def train():
        nonlocal state
        state, losses = step(state)
        return losses

    def passes(model):
        variables = jax.jit(model.init)(jax.random.key(0), one, one)
        scores = jax.jit(jax.vmap(model.apply, (None, 0, 0)))
        return lambda: scores(variables, networks, others)

    def seconds(run):
        begin = time.process_time()
        jax.block_until_ready(run())
        return time.process_time() - begin

    runs = {"step": train, "pass": passes(model), f"pass, {DESCENT} steps of descent": passes(make(descent=DESCENT))}
    found = {}
    for part, run in runs.items():
        first = seconds(run)
        later = statistics.median(seconds(run) for _ in range(steps))
        found[part] = [first - later, later]
    return found


def elsewhere(tree: Path, steps: int) -> dict[str, list[float]]:
    """`measure` in a process that imports the dwalign of another tree."""
    code = f"import json, bench_training; print(json.dumps(bench_training.measure({steps})))"
    # without the compiled programs of other processes
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = inherited | {"PYTHONPATH": os.pathsep.join([str(tree), str(ROOT / "experiments")])}
    # in a folder of neither tree, for an editable installation comes after PYTHONPATH but the current folder before it
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise report.RunError(f"{tree}: a training step and passes must run there, but it failed: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(config: Config) -> dict[str, Any]:
    """Run the benchmark; returns what results.json holds."""
    folder = report.open_run(Path(config.out) / "bench-training", dataclasses.asdict(config))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", config.against], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    found: dict[str, list[dict[str, list[float]]]] = {"this": [], commit: []}
    with tempfile.TemporaryDirectory() as other:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", other], input=archive, check=True)
        for _ in range(config.processes):
            for name, tree in (("this", ROOT), (commit, Path(other))):
                found[name].append(elsewhere(tree, config.steps))
                print(name, found[name][-1], flush=True)
    panels: dict[str, dict[str, Any]] = {}
    parts = list(found["this"][0])
    for index, what in enumerate(("seconds to compile", "seconds to run")):
        median = lambda name, part, index=index: statistics.median(one[part][index] for one in found[name])
        series = {name: {part: median(name, part) for part in parts} for name in found}
        series["ratio"] = {part: series["this"][part] / series[commit][part] for part in parts}
        panels[what] = {name: {part: report.point([[x]]) for part, x in of.items()} for name, of in series.items()}
    results = {
        "experiment": "bench-training",
        "config": {"against": commit, "processes": config.processes, "steps": config.steps},
        "environment": report.environment(),
        "axis": "part",
        "settings": parts,
        "panels": panels,
        "caption": f"bench-training: processor seconds of a step of 8 pairs and of passes over {PAIRS}; medians of "
        f"{config.processes} processes of each, in turn.",
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    import study  # not of the other tree, whose processes import this file too

    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
