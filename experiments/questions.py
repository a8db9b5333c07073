"""Questions that the paper leaves open, one at a time, on MLPs for digits.

    python experiments/questions.py --question zoo_size         how many training networks?
    python experiments/questions.py --question losses           which of the three losses for which task?
    python experiments/questions.py --question augmentation     which augmentations, how strong?
    python experiments/questions.py --question transfer         wider and longer-trained networks, without retraining
    python experiments/questions.py --question sizes            one aligner for networks of many widths and depths
    python experiments/questions.py --question encoders         dws, graph, probe for the same time
    python experiments/questions.py --question refinement       train on refined pairs, or through refinement
    python experiments/questions.py --question pay_off          after how many pairs has an aligner paid for itself?
    python experiments/questions.py --question equivariance     the same capacity without it

Each takes 5 to 15 minutes on 2 CPU cores and writes runs/questions-<question>/: config.json, results.json, figure.png.
Aligners are the graph encoder's unless said otherwise, with fewer steps than in train_mlp.py.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import study
from tqdm import tqdm

from dwalign import deepalign, report, zoo
from dwalign.evaluation import aligned_distances, cluster_agreement, planted_recovery, retrieval_precision
from dwalign.symmetry import PermutationSpec, permute, random_perms

PyTree = Any
Panels = dict[str, dict[str, dict[str, Any]]]
SEEN = ((16,) * 2, (64,) * 2, (32,) * 3, (16,) * 4, (64,) * 4, (32,) * 5)
UNSEEN = ((24,) * 2, (128,) * 2, (48,) * 3, (64, 32, 16), (32,) * 4, (96,) * 4, (64,) * 5)
PAID_PER_PAIR = (
    "weight_matching",
    "activation_matching_correlation",
    "activation_matching_correlation+refine",
    "sinkhorn",
    "weight_matching+sinkhorn",
)
BASELINES = ("weight_matching", "activation_matching_correlation")


@dataclasses.dataclass(frozen=True)
class Config(study.Options):
    """Answer one question."""

    question: Literal[
        "zoo_size", "losses", "augmentation", "transfer", "sizes", "encoders", "refinement", "pay_off", "equivariance"
    ] = "zoo_size"
    widths: tuple[int, ...] = (32, 32, 32)
    zoo_sizes: tuple[int, ...] = (30, 100, 300, 1000, 3000)
    minutes: float = 3.0
    """of training for each encoder (encoders)."""
    encoder: Literal["dws", "graph", "probe"] = "graph"
    steps: int = 400
    sinkhorn_iterations: int = 1000


class Bench(NamedTuple):
    """What all questions share: digits, a zoo of MLPs, a folder for aligners."""

    config: Config
    folder: Path
    data: zoo.Dataset
    nets: zoo.Zoo

    @property
    def train(self) -> study.Data:
        return study.to_device(self.data.train)

    @property
    def test(self) -> study.Data:
        return study.to_device(self.data.test)

    @property
    def few(self) -> study.Data:
        return tuple(leaf[: self.config.refine_images] for leaf in self.train)


# ---- pieces ------------------------------------------------------------------------------------------------------
def describe_network(widths: Sequence[int]) -> dict[str, Any]:
    """An MLP for digits."""
    return {"kind": "mlp", "inputs": 64, "widths": list(widths), "outputs": 10}


def train(bench: Bench, label: str, nets: zoo.Zoo | None = None, task=study.CLASSIFICATION, **changes: Any):
    """The aligners of `config.seeds` seeds; `changes` of options, and `model`."""
    model = changes.pop("model", None)
    options = dataclasses.replace(bench.config, **changes)
    nets = bench.nets if nets is None else nets
    trained = study.train_aligners(
        options,
        nets,
        bench.train,
        bench.few,
        study.to_device(bench.data.validation),
        bench.folder / label,
        task,
        model=model,
    )
    return [one.aligner for one in trained]


def barriers(bench: Bench, nets: zoo.Zoo, methods: Mapping[str, Iterable[study.Method]]) -> dict[str, dict[str, Any]]:
    """For each name the point of the barriers on the test pairs, over one method a seed."""
    columns = [dict(zip(methods, column, strict=False)) for column in zip(*methods.values(), strict=True)]
    measured = study.judge(bench.config, nets, bench.few, bench.test, {}, columns)
    return {name: report.point([run.curve.barrier for run in runs]) for name, runs in measured.items()}


def predict(nets: zoo.Zoo, aligners: Sequence[deepalign.Aligner]) -> list[study.Method]:
    """The forward passes of aligners."""
    return [partial(deepalign.deep_align, nets.network.spec, aligner=aligner) for aligner in aligners]


def baseline_barriers(bench: Bench, nets: zoo.Zoo, names: Sequence[str] = BASELINES) -> dict[str, dict[str, Any]]:
    """Points of methods that need no aligner."""
    methods = study.baselines(bench.config, nets.network, bench.train, bench.few)
    found = barriers(bench, nets, {name: [methods[name]] for name in names})
    return {report.display_name(name): value for name, value in found.items()}


def with_training(nets: zoo.Zoo, networks: PyTree) -> zoo.Zoo:
    """The zoo with other training networks."""
    return nets._replace(train=networks)


def across(settings: Sequence[Any], found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Points by setting and name to points by name and setting."""
    return {name: {str(setting): one[name] for setting, one in zip(settings, found, strict=True)} for name in found[0]}


# ---- questions ---------------------------------------------------------------------------------------------------
def zoo_size(bench: Bench) -> tuple[str, list[Any], Panels]:
    """How many training networks does an aligner need, in its own domain and on networks of rotated digits?"""
    rotated = bench._replace(data=zoo.load("rotated_digits"))
    others = study.make_test_zoo(bench.config, describe_network(bench.config.widths), rotated.data)
    counts = list(bench.config.zoo_sizes)
    home, away = [], []
    for count in counts:
        nets = with_training(bench.nets, zoo.take(bench.nets.train, slice(count)))
        aligners = train(bench, f"{count}", nets)
        home.append(barriers(bench, nets, {"Deep-Align": predict(nets, aligners)}))
        away.append(barriers(rotated, others, {"Deep-Align": predict(others, aligners)}))
    panels = {"barrier, digits": across(counts, home), "barrier, rotated digits": across(counts, away)}
    for title, where, nets in zip(panels, (bench, rotated), (bench.nets, others), strict=True):
        panels[title] |= across(counts, [baseline_barriers(where, nets)] * len(counts))
    return "training networks", counts, panels


def losses(bench: Bench) -> tuple[str, list[Any], Panels]:
    """Which losses for merging, for finding planted permutations, for finding the copies of a network?"""
    kinds = {"supervised": "S", "alignment": "A", "mode_connectivity": "L"}
    settings, found = [], []
    for chosen in ("S", "A", "L", "SA", "SL", "AL", "SAL"):
        weights = {name: float(letter in chosen) for name, letter in kinds.items()}
        aligners = train(bench, chosen, **weights)
        methods = predict(bench.nets, aligners)
        maps = [clustered(bench, method, noise=1.5) for method in methods]
        settings.append(chosen)
        found.append(
            barriers(bench, bench.nets, {"merging: barrier": methods})
            | {
                "units in their place": report.point([recovered(bench, method, noise=1.0) for method in methods]),
            }
            | {name: report.point([[one[name]] for one in maps]) for name in maps[0]}
        )
    panels = {name: {"Deep-Align": points} for name, points in across(settings, found).items()}
    return "losses (supervised, alignment, LMC)", settings, panels


def recovered(bench: Bench, method: study.Method, noise: float) -> np.ndarray:
    """For each test network the share of its units that are found in a relabelled, noisy copy."""
    spec, networks = bench.nets.network.spec, bench.nets.test
    keys = jax.random.split(jax.random.key(5), zoo.size(networks))
    one = lambda item: planted_recovery(spec, method, item[0], key=item[1], noise=noise)
    units = jax.jit(lambda items: jax.lax.map(one, items))((networks, keys)).units
    return np.mean(np.stack([np.asarray(leaf) for leaf in units.values()]), 0)


def clustered(bench: Bench, method: study.Method, noise: float, families: int = 8, copies: int = 4) -> dict[str, float]:
    """How well relabelled, noisy copies of a few test networks find one another by their aligned distances."""
    spec = bench.nets.network.spec
    members = zoo.take(bench.nets.test, jnp.repeat(jnp.arange(families), copies))

    def copy(params, key):
        first, second = jax.random.split(key)
        disturbed = zoo.augment(spec, params, first, zoo.Augmentation(noise, 0.0, 0.0, 0.0))
        return permute(spec, disturbed, random_perms(spec, second))

    members = jax.jit(jax.vmap(copy))(members, jax.random.split(jax.random.key(6), families * copies))
    distances = aligned_distances(spec, members, method, key=jax.random.key(7))
    labels = np.repeat(np.arange(families), copies)
    return {
        "retrieval of noisy copies": retrieval_precision(distances, labels),
        "clusters of noisy copies (adjusted Rand index)": cluster_agreement(distances, labels),
    }


def augmentation(bench: Bench) -> tuple[str, list[Any], Panels]:
    """Which augmentations of the labeled pairs, and how strong?"""
    none = zoo.Augmentation(0.0, 0.0, 0.0, 0.0)
    choices = {
        "none": none,
        "noise 0.2": none._replace(noise=0.2),
        "noise 0.5": none._replace(noise=0.5),
        "noise 1": none._replace(noise=1.0),
        "zeroing 0.1": none._replace(zeroing=0.1),
        "quantile 0.1": none._replace(quantile=0.1),
        "scaling 0.3": none._replace(scaling=0.3),
        "all, default": zoo.Augmentation(),
    }
    found = []
    for name, chosen in choices.items():
        aligners = train(bench, name.replace(" ", "-").replace(",", ""), task=study.Task(augmentation=chosen))
        methods = predict(bench.nets, aligners)
        found.append(
            barriers(bench, bench.nets, {"merging: barrier": methods})
            | {"units in their place": report.point([recovered(bench, method, noise=1.0) for method in methods])}
        )
    panels = {name: {"Deep-Align": points} for name, points in across(list(choices), found).items()}
    return "augmentation", list(choices), panels


def transfer(bench: Bench) -> tuple[str, list[Any], Panels]:
    """How do aligners for one width and training time do on others, as they are?"""
    aligners = train(bench, "home")
    at_home = bench.config
    settings: dict[str, tuple[tuple[int, ...], int]] = {
        f"width {w}": ((w, w, w), at_home.epochs) for w in (16, 32, 64, 128)
    }
    settings |= {f"{epochs} epochs": (at_home.widths, epochs) for epochs in (10, 160)}
    found = []
    for widths, epochs in settings.values():
        options = dataclasses.replace(at_home, epochs=epochs)
        nets = study.make_test_zoo(options, describe_network(widths), bench.data)
        moved = [refit(bench, one, nets) for one in aligners]
        found.append(
            barriers(bench, nets, {"Deep-Align": predict(nets, moved)})
            | baseline_barriers(bench, nets, (*BASELINES, "refine"))
        )
    return "networks", list(settings), {"barrier": across(list(settings), found)}


def refit(bench: Bench, aligner: deepalign.Aligner, nets: zoo.Zoo) -> deepalign.Aligner:
    """The aligner with the same parameters for networks of other sizes."""
    model = deepalign.make_model(nets.network, study.aligner_shape(bench.config), bench.train[0])
    return deepalign.fit_aligner(deepalign.Aligner(model, aligner.variables), nets.network)


def sizes(bench: Bench) -> tuple[str, list[Any], Panels]:
    """One aligner for many widths and depths, against one trained on a single size, on sizes that neither saw."""
    bench = bench._replace(config=dataclasses.replace(bench.config, shared=True))
    config, shape = bench.config, study.aligner_shape
    share = dataclasses.replace(
        config, train_networks=config.train_networks // len(SEEN), test_pairs=0, validation_networks=0
    )
    zoos = [study.make_zoo(share, describe_network(widths), bench.data) for widths in SEEN]
    optimisation = deepalign.Optimisation(config.steps, config.batch_size, config.learning_rate)
    models = [deepalign.make_model(nets.network, shape(config), bench.train[0]) for nets in zoos]
    steps = [
        deepalign.make_step(model, nets.network.apply, nets.train, zoo.Batch(*bench.train), optimisation=optimisation)
        for model, nets in zip(models, zoos, strict=True)
    ]
    mixed = []
    for seed in range(config.seeds):
        # the deepest networks have every role
        state = deepalign.init_state(models[-1], optimisation, zoo.take(zoos[-1].train, 0), seed)
        for k in tqdm(range(config.steps), desc="training on all sizes", unit="step"):
            state, _ = steps[k % len(steps)](state)
        mixed.append(deepalign.Aligner(models[-1], state.variables))
    alone = train(bench, "alone")
    found = []
    for widths in UNSEEN:
        nets = study.make_test_zoo(config, describe_network(widths), bench.data)
        both = {f"trained on {len(SEEN)} sizes": mixed, f"trained on {label(config.widths)} alone": alone}
        moved = {name: [refit(bench, one, nets) for one in some] for name, some in both.items()}
        ours = barriers(bench, nets, {name: predict(nets, some) for name, some in moved.items()})
        found.append(ours | baseline_barriers(bench, nets))
    settings = [label(widths) for widths in UNSEEN]
    return "hidden layers, all unseen", settings, {"barrier": across(settings, found)}


def label(widths: Sequence[int]) -> str:
    """3 x 32, or 64-32-16."""
    return f"{len(widths)} x {widths[0]}" if len(set(widths)) == 1 else "-".join(map(str, widths))


def encoders(bench: Bench) -> tuple[str, list[Any], Panels]:
    """Which encoder makes the most of the same training time?"""
    choices = {
        "the paper's model (dws, no score updates, LMC anywhere on the path)": dict(
            encoder="dws", updates=0, midpoint=False
        ),
        "dws": dict(encoder="dws"),
        "graph": dict(encoder="graph"),
    }
    choices |= {"probe": dict(encoder="probe", depth=0), "graph + probe": dict(encoder="probe")}
    settings, found = [], []
    for name, chosen in choices.items():
        # the time of a step, without compilation, from a few steps
        seconds = []
        for steps in (5, 45, 5):
            begin = time.perf_counter()
            train(bench, f"{len(settings)}-timed-{len(seconds)}", steps=steps, validate_every=steps, seeds=1, **chosen)
            seconds.append(time.perf_counter() - begin)
        each = (seconds[1] - seconds[2]) / 40
        steps = max(100, int(60 * bench.config.minutes / each))
        predicted = predict(bench.nets, train(bench, f"{len(settings)}", steps=steps, **chosen))
        settings.append(f"{name} ({steps} steps)")
        refined = study.optimisers(bench.config, bench.nets.network, bench.train, bench.few, study.CLASSIFICATION)[1]
        methods = {"Deep-Align": predicted, "Deep-Align + refinement": [study.then(m, refined) for m in predicted]}
        found.append(barriers(bench, bench.nets, methods))
    return f"encoder, {bench.config.minutes:g} minutes of training", settings, {"barrier": across(settings, found)}


def refinement(bench: Bench) -> tuple[str, list[Any], Panels]:
    """Should an aligner be trained on what refinement finds, or through it, where refinement follows?"""
    choices: dict[str, dict[str, Any]] = {
        "neither": {},
        "on 1500 refined pairs": dict(target_pairs=1500),
        "through 5 steps": dict(through=5),
        "both": dict(target_pairs=1500, through=5),
    }
    refined = study.optimisers(bench.config, bench.nets.network, bench.train, bench.few, study.CLASSIFICATION)[1]
    found = []
    for name, chosen in choices.items():
        predicted = predict(bench.nets, train(bench, name.replace(" ", "-"), **chosen))
        methods = {"Deep-Align": predicted}
        for steps in (5, 20):
            after = [study.then(method, partial(refined, steps=steps)) for method in predicted]
            methods[f"Deep-Align + refinement ({steps} steps)"] = after
        found.append(barriers(bench, bench.nets, methods))
    return "training", list(choices), {"barrier": across(list(choices), found)}


def pay_off(bench: Bench) -> tuple[str, list[Any], Panels]:
    """Seconds for n pairs, end to end: an aligner with its zoo and its training, against optimisers without."""
    config = bench.config
    begin = time.perf_counter()
    study.make_zoo(dataclasses.replace(config, out=str(bench.folder / "fresh")), bench.nets.network.config, bench.data)
    after_zoo = time.perf_counter()
    aligners = train(bench, "aligner", seeds=1)
    once = time.perf_counter() - begin
    print(f"zoo {after_zoo - begin:.0f} s, aligner {once - (after_zoo - begin):.0f} s")
    methods = study.baselines(config, bench.nets.network, bench.train, bench.few)
    ours = study.learned(config, bench.nets.network, aligners[0], bench.train, bench.few, longest=False)
    chosen = {name: methods[name] for name in PAID_PER_PAIR} | {k: ours[k] for k in ("deep_align", "deep_align+refine")}
    measured = {
        name: run for name, (run,) in study.judge(config, bench.nets, bench.few, bench.test, chosen, []).items()
    }
    settings = [10, 100, 1000, 10_000, 100_000, 1_000_000]
    panels: Panels = {"seconds for all pairs": {}}
    for name, run in measured.items():
        start = once if name.startswith("deep_align") else 0.0
        label = f"{report.display_name(name)} (barrier {run.curve.barrier.mean():.3f}"
        if not start:
            # against the one of ours whose barrier is at most as high
            better = [
                k
                for k in ("deep_align", "deep_align+refine")
                if measured[k].curve.barrier.mean() <= run.curve.barrier.mean()
            ]
            saved = run.seconds.mean() - measured[better[0]].seconds.mean() if better else 0.0
            rival = report.display_name(better[0]) if better else "Deep-Align"
            label += f"; {rival} pays off after {once / saved:,.0f} pairs" if saved > 0 else f"; {rival} never pays off"
        seconds = {str(n): report.point([[start + n * run.seconds.mean()]]) for n in settings}
        panels["seconds for all pairs"][f"{label})"] = seconds
    return "pairs", settings, panels


class FlatEncoder(nn.Module):
    """Features of all units from an MLP on the flattened weights, without equivariance."""

    spec: PermutationSpec
    features: int = 32
    hidden: int = 32

    @nn.compact
    def __call__(self, params):
        x = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])
        x = nn.gelu(nn.LayerNorm()(nn.Dense(self.hidden)(x)))
        x = nn.gelu(nn.LayerNorm()(nn.Dense(self.hidden)(x)))
        return {g: nn.Dense(n * self.features)(x).reshape(n, self.features) for g, n in self.spec.sizes.items()}


def equivariance(bench: Bench) -> tuple[str, list[Any], Panels]:
    """What does equivariance itself buy? No score updates here: they are equivariant by themselves."""
    spec, networks = bench.nets.network.spec, bench.nets.train

    def relabelled(params, key):
        return permute(spec, params, random_perms(spec, key))

    keys = jax.random.split(jax.random.key(9), 10 * zoo.size(networks))
    tenfold = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 10), networks)
    more = with_training(bench.nets, jax.jit(jax.vmap(relabelled))(tenfold, keys))
    flat = deepalign.DeepAlign(spec, FlatEncoder(spec), updates=0)
    # initialised weights differ from unit to unit, so the equivariant features of an untrained encoder are a fair start
    choices = {
        "graph encoder": train(bench, "graph", updates=0),
        "MLP": train(bench, "mlp", model=flat),
        "MLP, 10 relabelled copies of each network": train(bench, "mlp-copies", more, model=flat),
    }
    names, found = [], []
    for name, aligners in choices.items():
        names.append(f"{name} ({study.count_parameters(aligners[0].variables) // 1000} k parameters)")
        methods = predict(bench.nets, aligners)
        found.append(
            barriers(bench, bench.nets, {"merging: barrier": methods})
            | {"units in their place": report.point([recovered(bench, method, noise=0.2) for method in methods])}
        )
    names.append("no alignment")
    (naive,) = baseline_barriers(bench, bench.nets, ("naive",)).values()
    found.append(
        {"merging: barrier": naive, "units in their place": report.point([[1 / n for n in spec.sizes.values()]])}
    )
    return "encoder", names, {title: {"Deep-Align": points} for title, points in across(names, found).items()}


QUESTIONS: dict[str, Callable[[Bench], tuple[str, list[Any], Panels]]] = {
    one.__name__: one
    for one in (zoo_size, losses, augmentation, transfer, sizes, encoders, refinement, pay_off, equivariance)
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    smoke: dict[str, Any] = study.SMOKE | dict(zoo_sizes=(10, 20), minutes=0.05)
    return study.read_options(Config, args, lambda first: smoke if first.preset == "smoke" else {}, __doc__)


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    experiment = f"questions-{config.question}"
    folder, settings = study.open_folder(config, experiment)
    data = zoo.load("digits")
    wanted = (
        dataclasses.replace(config, train_networks=max(config.zoo_sizes)) if config.question == "zoo_size" else config
    )
    nets = study.make_zoo(wanted, describe_network(config.widths), data)
    axis, found, panels = QUESTIONS[config.question](Bench(config, folder, data, nets))
    results = {
        "experiment": experiment,
        "question": QUESTIONS[config.question].__doc__,
        "config": settings,
        "environment": report.environment(),
        "axis": axis,
        "settings": found,
        "panels": panels,
        "logarithmic": config.question == "pay_off",
        "caption": f"{experiment}: means and 95 % intervals over {config.test_pairs} held-out pairs of networks and "
        f"{config.seeds} aligner {'seed' if config.seeds == 1 else 'seeds'} of {config.steps} steps.",
    }
    report.write_whole(folder / "results.json", json.dumps(results, indent=1) + "\n")
    report.series_figure(results, folder / "figure.png")
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
