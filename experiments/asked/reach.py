"""How far aligners reach: how many networks they need, and which others they serve."""

from collections.abc import Sequence

import study
from tqdm import tqdm

from asked.bench import (
    BASELINES,
    Answer,
    Bench,
    across,
    barriers,
    baseline_barriers,
    make_network,
    predict,
    train,
    with_training,
)
from dwalign import deepalign, zoo
from dwalign.symmetry import take_networks

SEEN = ((16,) * 2, (64,) * 2, (32,) * 3, (16,) * 4, (64,) * 4, (32,) * 5)
UNSEEN = ((24,) * 2, (128,) * 2, (48,) * 3, (64, 32, 16), (32,) * 4, (96,) * 4, (64,) * 5)


def zoo_size(bench: Bench) -> Answer:
    """How many training networks does an aligner need, in its own domain and on networks of rotated digits?"""
    rotated = bench._replace(data=zoo.load("rotated_digits"))
    others = study.make_test_zoo(bench.config, make_network(bench.config.widths), rotated.data)
    counts = list(bench.config.zoo_sizes)
    home, away = [], []
    for count in counts:
        nets = with_training(bench.nets, take_networks(bench.nets.train, slice(count)))
        aligners = train(bench, f"{count}", {}, nets=nets)
        home.append(barriers(bench, nets, {"Deep-Align": predict(aligners)}))
        away.append(barriers(rotated, others, {"Deep-Align": predict(aligners)}))
    panels = {"barrier, digits": across(counts, home), "barrier, rotated digits": across(counts, away)}
    for title, where, nets in zip(panels, (bench, rotated), (bench.nets, others), strict=True):
        panels[title] |= across(counts, [baseline_barriers(where, nets)] * len(counts))
    return "training networks", counts, panels


def transfer(bench: Bench) -> Answer:
    """How do aligners for one width and training time do on others, as they are?"""
    aligners = train(bench, "home", {})
    at_home = bench.config
    settings: dict[str, tuple[tuple[int, ...], int]] = {
        f"width {w}": ((w, w, w), at_home.recipe.epochs) for w in (16, 32, 64, 128)
    }
    settings |= {f"{epochs} epochs": (at_home.widths, epochs) for epochs in (10, 160)}
    found = []
    for widths, epochs in settings.values():
        options = study.change(at_home, {"recipe.epochs": epochs})
        nets = study.make_test_zoo(options, make_network(widths), bench.data)
        moved = [refit(bench, one, nets) for one in aligners]
        found.append(
            barriers(bench, nets, {"Deep-Align": predict(moved)})
            | baseline_barriers(bench, nets, (*BASELINES, study.refinement(at_home)))
        )
    return "networks", list(settings), {"barrier": across(list(settings), found)}


def refit(bench: Bench, aligner: deepalign.Aligner, nets: zoo.Zoo) -> deepalign.Aligner:
    """The aligner with the same parameters for networks of other sizes."""
    model = deepalign.make_model(nets.network, bench.config.aligner, bench.train.inputs)
    return deepalign.fit_aligner(deepalign.Aligner(model, aligner.variables), nets.network)


def sizes(bench: Bench) -> Answer:
    """One aligner for many widths and depths, against one trained on a single size, on sizes that neither saw."""
    bench = bench.changed({"aligner.shared": True})
    config, each = bench.config, bench.config.networks.train // len(SEEN)
    share = study.change(config, {"networks.train": each, "networks.validation": 0, "networks.pairs": 0})
    zoos = [study.make_zoo(share, make_network(widths), bench.data) for widths in SEEN]
    models = [deepalign.make_model(nets.network, config.aligner, bench.train.inputs) for nets in zoos]
    steps = [
        deepalign.make_step(model, nets.network, nets.train, bench.train, optimisation=config.training)
        for model, nets in zip(models, zoos, strict=True)
    ]
    mixed = []
    for seed in range(config.seeds):
        # the deepest networks have every role
        state = deepalign.init_state(models[-1], config.training, take_networks(zoos[-1].train, 0), seed)
        for k in tqdm(range(config.training.steps), desc="training on all sizes", unit="step"):
            state, _ = steps[k % len(steps)](state)
        mixed.append(deepalign.Aligner(models[-1], state.variables))
    alone = train(bench, "alone", {})
    found = []
    for widths in UNSEEN:
        nets = study.make_test_zoo(config, make_network(widths), bench.data)
        both = {f"trained on {len(SEEN)} sizes": mixed, f"trained on {label(config.widths)} alone": alone}
        moved = {name: [refit(bench, one, nets) for one in some] for name, some in both.items()}
        ours = barriers(bench, nets, {name: predict(some) for name, some in moved.items()})
        found.append(ours | baseline_barriers(bench, nets))
    settings = [label(widths) for widths in UNSEEN]
    return "hidden layers, all unseen", settings, {"barrier": across(settings, found)}


def label(widths: Sequence[int]) -> str:
    """3 x 32, or 64-32-16."""
    return f"{len(widths)} x {widths[0]}" if len(set(widths)) == 1 else "-".join(map(str, widths))
