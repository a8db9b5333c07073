"""What weight matching on the host costs, beside the code that one would write in an afternoon.

    python experiments/bench_weight_matching.py      some ten minutes, with nothing else to do

Two randomly initialised networks of each kind are matched by `weight_matching` and by plain NumPy and scipy, from the
same orders of the groups, and later calls by `anchored_matching` too, which starts elsewhere. A first call is the
only one of its process, after everything is imported and the networks exist; later calls of both alternate in one
process, as often as is wanted or there is time for. Memory is the peak of the process, beyond networks and result.
Batches are one compiled program for all pairs, by the clock, for it takes all processors, beside plain NumPy on one
pair after the other, whose products do.
Writes runs/bench-weight-matching/: config.json, results.json.
"""

import dataclasses
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import study
import tyro
from scipy.optimize import linear_sum_assignment

from dwalign import report
from dwalign.bounds import Count, Positive, settings
from dwalign.matching import anchored_matching, weight_matching
from dwalign.networks import build

NETWORKS: dict[str, dict[str, Any]] = {
    "MLP 64-32-32-32-10": dict(kind="mlp", inputs=64, widths=[32] * 3, outputs=10),
    "MLP 784-128-128-128-10": dict(kind="mlp", inputs=784, widths=[128] * 3, outputs=10),
    "ResNet20": dict(kind="resnet20"),
    "MLP 784-1024-1024-1024-10": dict(kind="mlp", inputs=784, widths=[1024] * 3, outputs=10),
}
OURS = {"dwalign": weight_matching, "dwalign, anchored": anchored_matching}
# seconds
REST = 0.2
GPT2 = dict(kind="transformer", vocabulary=50257, length=1024, dim=768, depth=12, heads=12, width=3072, tied=True)
LARGE = {"GPT-2 small, fused": GPT2 | dict(fused=True), "GPT-2 small, separate": GPT2}


@settings
class Config:
    """Time weight matching, and measure its memory."""

    out: str = "runs"
    processes: Count = 5
    repeats: Count = 51
    seconds: Positive = 10.0
    large: bool = True
    widths: tuple[Count, ...] = (32, 64, 128, 256, 512, 1024)
    """of MLPs of which pairs are matched in batches."""
    batch: Count = 64


def plain_mlp(a: Any, b: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weight matching of MLPs, layer by layer; `rng` draws the order of the layers in every sweep."""
    layers = [[tree["params"][f"dense_{k}"] for k in range(len(tree["params"]))] for tree in (a, b)]
    kernels_a, kernels_b = ([np.asarray(layer["kernel"]) for layer in of] for of in layers)
    biases_a, biases_b = ([np.asarray(layer["bias"]) for layer in of] for of in layers)
    perms = [np.arange(len(bias)) for bias in biases_a[:-1]]
    progress = True
    while progress:
        progress = False
        for k in rng.permutation(len(perms)):
            into = kernels_b[k] if k == 0 else kernels_b[k][perms[k - 1]]
            out = kernels_b[k + 1] if k + 1 == len(perms) else kernels_b[k + 1][:, perms[k + 1]]
            scores = np.outer(biases_a[k], biases_b[k]) + kernels_a[k].T @ into + kernels_a[k + 1] @ out.T
            rows, new = linear_sum_assignment(scores, maximize=True)
            before, after = scores[rows, perms[k]].sum(), scores[rows, new].sum()
            progress |= bool(after > before + 1e-6 * abs(before))
            perms[k] = new
    return {f"h{k}": perm for k, perm in enumerate(perms)}


def resnet20_axes() -> dict[str, tuple[str | None, ...]]:
    """The group on each dimension of each weight of ResNet20, by hand."""
    norm = lambda name, group: {f"{name}/scale": (group,), f"{name}/bias": (group,)}
    axes = {"stem/kernel": (None, None, None, "stage_0"), **norm("norm", "stage_0")}
    for stage in range(3):
        for block in range(3):
            name, inner, outer = f"block_{stage}_{block}", f"inner_{stage}_{block}", f"stage_{stage}"
            before = f"stage_{stage - 1}" if stage and not block else outer
            axes[f"{name}/conv_0/kernel"] = (None, None, before, inner)
            axes |= norm(f"{name}/norm_0", inner)
            axes[f"{name}/conv_1/kernel"] = (None, None, inner, outer)
            axes |= norm(f"{name}/norm_1", outer)
            if before != outer:
                axes[f"{name}/shortcut/kernel"] = (None, None, before, outer)
                axes |= norm(f"{name}/norm_shortcut", outer)
    return {**axes, "head/kernel": ("stage_2", None)}


def plain_resnet20(a: Any, b: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weight matching of ResNet20, array by array; `rng` draws the order of the groups in every sweep."""
    axes = resnet20_axes()
    weights_a, weights_b = ({name: _leaf(tree, name) for name in axes} for tree in (a, b))
    places: dict[str, list[tuple[str, int]]] = {}
    sizes: dict[str, int] = {}
    for name, groups in axes.items():
        for axis, group in enumerate(groups):
            if group is not None:
                places.setdefault(group, []).append((name, axis))
                sizes[group] = weights_a[name].shape[axis]
    in_order = list(places)
    perms = {group: np.arange(n) for group, n in sizes.items()}
    progress = True
    while progress:
        progress = False
        for k in rng.permutation(len(in_order)):
            group = in_order[k]
            n = sizes[group]
            scores = np.zeros((n, n), np.float32)
            for name, axis in places[group]:
                moved = weights_b[name]
                for other, neighbour in enumerate(axes[name]):
                    if neighbour is not None and other != axis:
                        moved = np.take(moved, perms[neighbour], axis=other)
                one = np.moveaxis(weights_a[name], axis, 0).reshape(n, -1)
                two = np.moveaxis(moved, axis, 0).reshape(n, -1)
                scores += one @ two.T
            rows, new = linear_sum_assignment(scores, maximize=True)
            before, after = scores[rows, perms[group]].sum(), scores[rows, new].sum()
            progress |= bool(after > before + 1e-6 * abs(before))
            perms[group] = new
    # an inferred spec numbers its groups as they appear
    return {f"h{k}": perms[group] for k, group in enumerate(in_order)}


def _leaf(tree: Any, name: str) -> np.ndarray:
    tree = tree["params"]
    for key in name.split("/"):
        tree = tree[key]
    return np.asarray(tree)


PLAIN: dict[str, Callable[[Any, Any, np.random.Generator], dict[str, np.ndarray]]] = {
    "mlp": plain_mlp,
    "resnet20": plain_resnet20,
}


def runs_of(name: str) -> dict[str, Callable[[], Any]]:
    """All ways to match a pair of networks, from the same orders of the groups."""
    network = build(NETWORKS[name])
    a, b = (network.init(jax.random.key(seed)) for seed in (0, 1))
    jax.block_until_ready((a, b))
    return {
        **{which: functools.partial(match, network.spec, a, b, key=None) for which, match in OURS.items()},
        "plain": lambda: PLAIN[NETWORKS[name]["kind"]](a, b, np.random.default_rng(0)),
    }


def seconds(run: Callable[[], Any]) -> float:
    """Of one call, on the processor: what else runs on the machine does not count."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def first_call(name: str, which: str) -> float:
    """Seconds of the first call, in a process that has made none."""
    return seconds(runs_of(name)[which])


def later_calls(name: str, repeats: int, most: float) -> dict[str, list[float]]:
    """Seconds of all ways by turns, until `most` have passed or each has had its repeats."""
    runs = runs_of(name)
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {which: [] for which in runs}
    begin = time.perf_counter()
    while len(found["plain"]) < repeats and (not found["plain"] or time.perf_counter() - begin < most):
        for which, run in runs.items():
            found[which].append(seconds(run))
    return found


def runs_of_batch(width: int, batch: int) -> dict[str, Callable[[], Any]]:
    """All ways to match pairs of MLPs: in one program, and one after the other."""
    network = build(dict(kind="mlp", inputs=784, widths=[width] * 3, outputs=10))
    drawn = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 2 * batch))
    a, b = (jax.tree.map(lambda leaf, k=k: leaf[k::2], drawn) for k in range(2))
    pairs = [jax.tree.map(lambda leaf, k=k: np.asarray(leaf)[k], (a, b)) for k in range(batch)]

    def together(match):
        program = jax.jit(jax.vmap(lambda a, b: match(network.spec, a, b, key=None).perms)).lower(a, b).compile()
        return lambda: jax.block_until_ready(program(a, b))

    return {
        **{which: together(match) for which, match in OURS.items()},
        "plain": lambda: [plain_mlp(one, other, np.random.default_rng(0)) for one, other in pairs],
    }


def batches(width: int, batch: int, repeats: int, most: float) -> dict[str, list[float]]:
    """Seconds by the clock a pair of all ways by turns, as for `later_calls`."""
    runs = runs_of_batch(width, batch)
    found: dict[str, list[float]] = {which: [] for which in runs}
    begin = time.perf_counter()
    while len(found["plain"]) < repeats and (not found["plain"] or time.perf_counter() - begin < most):
        for which, run in runs.items():
            # threads of BLAS spin for a while after plain NumPy's last product, on processors that are timed
            time.sleep(REST)
            start = time.perf_counter()
            run()
            found[which].append((time.perf_counter() - start) / batch)
    return found


def large_pair(name: str) -> dict[str, float]:
    """Seconds and memory of one pair of random weights, as large as those that an initialisation draws."""
    network = build(LARGE[name])
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    draw = lambda leaf: 0.02 * rng.standard_normal(leaf.shape, np.float32)
    a, b = (jax.tree.map(draw, shapes) for _ in range(2))
    before = _memory("VmRSS")
    begin = time.perf_counter()
    found = weight_matching(network.spec, a, b, key=None)
    spent = time.perf_counter() - begin
    size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    return {
        "seconds": spent,
        "sweeps": int(np.sum(np.diff(found.history) > 0)) + 1,
        "checkpoint": size(a),
        "result": size(found),
        "share of a checkpoint": (_memory("VmHWM") - before - size(found)) / size(a),
    }


def _memory(name: str) -> int:
    """Bytes of memory of this process, as Linux counts them."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def alone(function: Callable, *args: Any) -> Any:
    """The result of a function in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    # imported once for all of them; no function of theirs has run there
    context.set_forkserver_preload(["jax", "scipy.optimize", "dwalign.matching", "dwalign.networks"])
    with context.Pool(1) as pool:
        return pool.apply(function, args)


def measure(config: Config) -> dict[str, Any]:
    """Medians of seconds of all ways, and what the large pairs took."""
    found: dict[str, Any] = {"first": {}, "later": {}, "batch": {}, "large": {}}
    for name in NETWORKS:
        firsts: dict[str, list[float]] = {"dwalign": [], "plain": []}
        for _ in range(config.processes):
            for which, times in firsts.items():
                times.append(alone(first_call, name, which))
        found["first"][name] = {which: statistics.median(times) for which, times in firsts.items()}
        later = alone(later_calls, name, config.repeats, config.seconds)
        found["later"][name] = {which: statistics.median(times) for which, times in later.items()}
        found["later"][name]["calls"] = len(later["plain"])
        print(name, {when: found[when][name] for when in ("first", "later")}, flush=True)
    for width in config.widths:
        batch = alone(batches, width, config.batch, config.repeats, 2 * config.seconds)
        found["batch"][f"MLP 784-{width}-{width}-{width}-10"] = {
            which: statistics.median(times) for which, times in batch.items()
        } | {"runs": len(batch["plain"])}
        print(width, [*found["batch"].values()][-1], flush=True)
    for name in LARGE if config.large else ():
        found["large"][name] = alone(large_pair, name)
        print(name, found["large"][name], flush=True)
    return found


def panels(found: Mapping[str, Any]) -> dict[str, Any]:
    """As `report.series_table` shows them."""
    of = lambda rows: {name: report.point([[value]]) for name, value in rows.items()}
    out: dict[str, Any] = {}
    for when, title in {"first": "first call", "later": "later call", "batch": "a pair of a batch"}.items():
        rows = found[when]
        out[title] = {
            f"{which}, ms": of({name: 1000 * row[which] for name, row in rows.items() if which in row})
            for which in (*OURS, "plain")
            if any(which in row for row in rows.values())
        } | {"ratio": of({name: row["dwalign"] / row["plain"] for name, row in rows.items()})}
    for figure in ("seconds", "sweeps", "share of a checkpoint"):
        out[figure] = {figure: of({name: row[figure] for name, row in found["large"].items()})}
    return out


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder = report.open_run(Path(config.out) / "bench-weight-matching", dataclasses.asdict(config))
    found = measure(config)
    results = {
        "experiment": "bench-weight-matching",
        "config": {
            **{name: getattr(config, name) for name in ("processes", "repeats", "batch")},
            "networks": {**NETWORKS, **LARGE},
        },
        "environment": report.environment(),
        "axis": "network",
        "settings": list(dict.fromkeys([*NETWORKS, *found["batch"], *found["large"]])),
        "panels": panels(found),
        "measured": found,
        "caption": (
            f"bench-weight-matching: medians of {config.processes} first calls and of {config.repeats} later ones, or "
            f"of as many as {config.seconds:g} s hold, on the processor; batches of {config.batch} pairs by the clock; "
            "memory beyond the two networks and the result."
        ),
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
