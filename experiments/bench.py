"""Pairs a second of every method by the width or the depth of the networks; training beside the processor's peak.

    python experiments/bench.py                        widths 32 ... 1024 at depth 3; half an hour on 2 CPU cores
    python experiments/bench.py --vary depth           depths 2 ... 16 at width 64
    python experiments/bench.py --preset device        for minutes on an accelerator: two widths, large batches

Randomly initialised MLPs on drawn inputs. A batch of pairs is one compiled program; what runs on the host takes one
pair. Compilation is told apart, memory is what the program asks for beside arguments and results. Training is measured
in products and sums, as a share of the most that a large matrix product reaches here in the same run. A method is not
tried at sizes where it would take longer than `--limit`. Writes runs/bench-width/ or the like: config.json,
results.json, bench-width.png.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from bench_weight_matching import plain_mlp

from dwalign import deepalign, find_method, report, zoo
from dwalign.bounds import Count, Positive, settings
from dwalign.networks import mlp
from dwalign.program import Data, Network

PyTree = Any
ALIGNER = deepalign.AlignerConfig("graph", channels=32, depth=2, features=32, updates=3)


@settings
class Config:
    """Time everything."""

    preset: Literal["full", "device", "smoke"] = "full"
    vary: Literal["width", "depth"] = "width"
    widths: tuple[Count, ...] = (32, 64, 128, 256, 512, 1024)
    depths: tuple[Count, ...] = (2, 4, 8, 16)
    width: Count = 64
    """where depth varies."""
    depth: Count = 3
    """hidden layers, where width varies."""
    inputs: Count = 784
    examples: Count = 512
    batch: Count = 16
    """pairs in one program."""
    steps: tuple[Count, ...] = (8,)
    """pairs in a training step."""
    methods: tuple[str, ...] = (
        "weight_matching",
        "features",
        "activation_matching_correlation",
        "straight_through@20",
        "refine@20",
        "sinkhorn@20",
    )
    repeats: Count = 5
    limit: Positive = 60.0
    """seconds of one run, compilation apart."""
    out: str = "runs"


PRESETS: dict[str, dict[str, Any]] = {
    "full": {},
    "device": dict(widths=(128, 1024), batch=256, steps=(8, 256), repeats=5, limit=20.0),
    "smoke": dict(widths=(4, 8), inputs=6, examples=16, batch=2, steps=(2,), methods=("weight_matching",), repeats=2),
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    return tyro.cli(Config, args=args, default=Config(**PRESETS[first.preset]), description=__doc__)


PANELS = {
    "pairs a second, weights alone": ("plain NumPy, host", "weight_matching, host", "weight_matching", "features"),
    "pairs a second, with data": (
        *("activation_matching_correlation", "straight_through@20", "refine@20", "sinkhorn@20"),
    ),
    "pairs or networks a second": (
        "deep_align",
        "deep_align, scores alone",
        "training step of 8 pairs",
        "an epoch of a zoo",
    ),
}


# work on matrices grows with the third power of the width at most, by a half more for assignments; that on layers with
# their number, by a half more where deeper networks take more sweeps
STEEPEST = {"width": 3.5, "depth": 1.5}


class Work(NamedTuple):
    """Attributes:
    run: what is timed.
    given: its arguments.
    units: pairs, or networks, that one run deals with.
    products: multiplications and additions of one run, where these are known.
    """

    run: Callable[..., Any]
    given: tuple
    units: int
    products: float | None = None


def work(config: Config, network: Network) -> Iterator[tuple[str, Work]]:
    """Everything that is timed on networks of one size."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.standard_normal((config.examples, config.inputs)), jnp.float32)
    data = Data(inputs, jnp.asarray(rng.integers(0, 10, config.examples)))
    drawn = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 2 * config.batch))
    a, b = (jax.tree.map(lambda leaf, k=k: leaf[k::2], drawn) for k in range(2))
    keys = jax.random.split(jax.random.key(1), config.batch)
    first, second = jax.device_get((a, b))
    one = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)

    yield "plain NumPy, host", Work(lambda: plain_mlp(one(first), one(second), np.random.default_rng(0)), (), 1)
    matching = find_method("weight_matching")
    yield "weight_matching, host", Work(lambda: matching(network, one(first), one(second), key=keys[0]), (), 1)
    for name in config.methods:
        method = find_method(name)
        align = lambda a, b, key, data, method=method: method(network, a, b, key=key, data=data, checked=True).perms
        run = jax.vmap(align, in_axes=(0, 0, 0, None))
        yield name, Work(run, (a, b, keys, data), config.batch)

    model = deepalign.make_model(network, ALIGNER, inputs)
    variables = deepalign.init_variables(model, one(a), jax.random.key(2))
    learned = lambda variables: find_method("deep_align").using(aligner=deepalign.Aligner(model, variables))
    passed = lambda variables, a, b: learned(variables)(network, a, b, checked=True).perms
    for name, run in {"deep_align": passed, "deep_align, scores alone": model.apply}.items():
        yield name, Work(jax.vmap(run, in_axes=(None, 0, 0)), (variables, a, b), config.batch)
    for size in config.steps:
        optimisation = deepalign.Optimisation(steps=1000, batch_size=size)
        step = deepalign.make_step(model, network, drawn, data, optimisation=optimisation)
        state = deepalign.init_state(model, optimisation, one(a), 0)
        yield f"training step of {size} pairs", Work(step, (state,), size)

    recipe = zoo.Recipe(epochs=1, batch_size=min(64, config.examples))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(network.params))
    # forwards, and backwards to weights and to responses
    products = 6.0 * numbers * (config.examples // recipe.batch_size * recipe.batch_size) * config.batch
    train = zoo.train_networks(network, data, recipe)
    yield "an epoch of a zoo", Work(train, (jnp.arange(config.batch),), config.batch, products)


def measure(config: Config, one: Work) -> dict[str, float]:
    """Compilation apart, then the median of runs, as many as the limit has room for."""
    found: dict[str, float] = {}
    run = one.run
    if one.given:
        begin = time.perf_counter()
        compiled = (run if hasattr(run, "lower") else jax.jit(run)).lower(*one.given).compile()
        found["compile, s"] = time.perf_counter() - begin
        if (analysis := compiled.memory_analysis()) is not None:
            found["memory, MB"] = analysis.temp_size_in_bytes / 1e6
        copies = lambda: jax.tree.map(jnp.copy, one.given)  # a training step gives its state away
        run = lambda *given: compiled(*given)
    else:
        copies = lambda: ()
    times: list[float] = []
    while len(times) < config.repeats + 1 and sum(times) < config.limit:
        given = jax.block_until_ready(copies())
        begin = time.perf_counter()
        jax.block_until_ready(run(*given))
        times.append(time.perf_counter() - begin)
    # the first one warms up, where there are others
    spent = statistics.median(times[1:] or times)
    found |= {"pairs a second": one.units / spent, "seconds": spent, "units": one.units}
    if one.products is not None:
        found["products"] = one.products / spent
    return found


def peak() -> float:
    """Products and sums a second of a large matrix product in float32."""
    n = 4096 if jax.default_backend() != "cpu" else 2048
    x = jnp.ones((n, n))
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))

    def seconds():
        begin = time.perf_counter()
        jax.block_until_ready(product(x))
        return time.perf_counter() - begin

    return 2 * n**3 / min(seconds() for _ in range(5))


def main(config: Config) -> dict[str, Any]:
    """Run the benchmark; returns what results.json holds."""
    name = f"bench-{config.vary}"
    folder = report.open_run(Path(config.out) / name, dataclasses.asdict(config))
    sizes = config.widths if config.vary == "width" else config.depths
    most, measured = peak(), {}
    for size in sizes:
        width, depth = (size, config.depth) if config.vary == "width" else (config.width, size)
        for what, one in work(config, mlp(config.inputs, (width,) * depth, 10)):
            before = {int(at): found["seconds"] for at, found in measured.setdefault(what, {}).items()}
            if before and expected(config.vary, before, size) > config.limit:
                print(f"{config.vary} {size}, {what}: left out, would take too long", flush=True)
                continue
            measured[what][str(size)] = measure(config, one)
            print(f"{config.vary} {size}, {what}: {measured[what][str(size)]}", flush=True)
    results = summary(name, dataclasses.asdict(config) | {"out": None}, report.environment(), most, measured)
    report.write_json(folder / "results.json", results)
    report.series_figure(pictured(results), folder / f"{name}.png")
    print(report.series_table(results))
    return results


def summary(
    name: str, config: dict[str, Any], environment: dict[str, Any], most: float, measured: Any
) -> dict[str, Any]:
    """What results.json holds: a row for each method, a column for each size."""
    vary = config["vary"]
    speeds: dict[str, dict[str, Any]] = {}
    panels: dict[str, dict[str, dict[str, Any]]] = {"pairs a second": speeds}
    put = lambda title, what, value: (
        panels.setdefault(title, {}).setdefault(title, {}).update({what: report.point([[value]])})
    )
    for what, found in measured.items():
        for size, one in found.items():
            speeds.setdefault(size, {})[what] = report.point([[one["pairs a second"]]])
        if len(found) > 2:
            put("exponent", what, exponent({int(size): one["seconds"] for size, one in found.items()}))
        *_, last = found.values()
        if "compile, s" in last:
            put("compile, s", what, statistics.median(one["compile, s"] for one in found.values()))
            put("MB a pair, largest", what, last["memory, MB"] / last["units"])
        if "products" in last:
            put("share of the peak", what, max(one["products"] for one in found.values()) / most)
    return {
        "experiment": name,
        "config": config,
        "environment": environment,
        "axis": "method",
        "settings": list(measured),
        "panels": panels,
        "peak": most,
        "measured": measured,
        "caption": (
            f"{name}: pairs (or networks) a second by {vary}, medians of {config['repeats']} runs on {config['batch']} "
            f"pairs of MLPs with {config['inputs']} inputs and {config['examples']} examples, on the host of one pair. "
            f"Seconds grow with the {vary} to the power of the exponent, over the larger half of what was measured. "
            "Compilation is the median, memory that of the largest size, beside arguments and results. The peak is "
            f"that of a matrix product here, {most / 1e9:.0f} billion products and sums a second."
        ),
    }


def pictured(results: dict[str, Any]) -> dict[str, Any]:
    """Pairs a second against size, in panels by what methods need."""
    measured, panels = results["measured"], {}
    for title, names in PANELS.items():
        panels[title] = {
            what: {size: report.point([[one["pairs a second"]]]) for size, one in measured[what].items()}
            for what in names
            if what in measured
        }
    sizes = sorted({int(size) for found in measured.values() for size in found})
    axis = results["config"]["vary"]
    return {"axis": axis, "settings": sizes, "logarithmic": True, "panels": {t: s for t, s in panels.items() if s}}


def expected(vary: str, times: dict[int, float], size: int) -> float:
    """Seconds at most, by those of smaller sizes."""
    return max(times.values()) * (size / max(times)) ** STEEPEST[vary]


def exponent(times: dict[int, float]) -> float:
    """The slope of seconds against size, both as logarithms, over the larger half of the sizes."""
    sizes = sorted(times)[len(times) // 2 - 1 :]
    return float(np.polyfit(np.log(sizes), np.log([times[size] for size in sizes]), 1)[0])


if __name__ == "__main__":
    study.run(main, read_config)
