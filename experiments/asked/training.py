"""What an aligner should be trained on, and what training adds: losses, augmentations, encoders, refinement."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import study

from asked.bench import Answer, Bench, across, barriers, predict, train, untrained
from dwalign import report, zoo
from dwalign.evaluation import aligned_distances, cluster_agreement, planted_recovery, retrieval_precision
from dwalign.matching import Method, chain
from dwalign.symmetry import count_networks, permute, random_perms, take_networks


def losses(bench: Bench) -> Answer:
    """Which losses for merging, for finding planted permutations, for finding the copies of a network?"""
    kinds = {"supervised": "S", "alignment": "A", "mode_connectivity": "L"}
    settings, found = [], []
    for chosen in ("S", "A", "L", "SA", "SL", "AL", "SAL"):
        weights = {f"losses.{name}": float(letter in chosen) for name, letter in kinds.items()}
        methods = predict(train(bench, chosen, weights))
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


def recovered(bench: Bench, method: Method, noise: float) -> np.ndarray:
    """For each test network the share of its units that are found in a relabelled, noisy copy."""
    network, networks = bench.nets.network, bench.nets.test
    keys = jax.random.split(jax.random.key(5), count_networks(networks))
    one = lambda item: planted_recovery(network, method, item[0], key=item[1], noise=noise)
    units = jax.jit(lambda items: jax.lax.map(one, items))((networks, keys)).units
    return np.mean(np.stack([np.asarray(leaf) for leaf in units.values()]), 0)


def clustered(bench: Bench, method: Method, noise: float, families: int = 8, copies: int = 4) -> dict[str, float]:
    """How well relabelled, noisy copies of a few test networks find one another by their aligned distances."""
    network, spec = bench.nets.network, bench.nets.network.spec
    members = take_networks(bench.nets.test, jnp.repeat(jnp.arange(families), copies))

    def copy(params, key):
        first, second = jax.random.split(key)
        disturbed = zoo.augment(spec, params, first, zoo.Augmentation(noise, 0.0, 0.0, 0.0))
        return permute(spec, disturbed, random_perms(spec, second))

    members = jax.jit(jax.vmap(copy))(members, jax.random.split(jax.random.key(6), families * copies))
    distances = aligned_distances(network, members, method, key=jax.random.key(7))
    labels = np.repeat(np.arange(families), copies)
    return {
        "retrieval of noisy copies": retrieval_precision(distances, labels),
        "clusters of noisy copies (adjusted Rand index)": cluster_agreement(distances, labels),
    }


def augmentation(bench: Bench) -> Answer:
    """Which augmentations of the labeled pairs, and how strong?"""
    none = zoo.Augmentation(0.0, 0.0, 0.0, 0.0)
    only = lambda **kind: dataclasses.replace(none, **kind)
    choices = {
        "none": none,
        "noise 0.2": only(noise=0.2),
        "noise 0.5": only(noise=0.5),
        "noise 1": only(noise=1.0),
        "zeroing 0.1": only(zeroing=0.1),
        "quantile 0.1": only(quantile=0.1),
        "scaling 0.3": only(scaling=0.3),
        "all, default": zoo.Augmentation(),
    }
    found = []
    for name, chosen in choices.items():
        methods = predict(train(bench, name.replace(" ", "-").replace(",", ""), {"augmentation": chosen}))
        found.append(
            barriers(bench, bench.nets, {"merging: barrier": methods})
            | {"units in their place": report.point([recovered(bench, method, noise=1.0) for method in methods])}
        )
    panels = {name: {"Deep-Align": points} for name, points in across(list(choices), found).items()}
    return "augmentation", list(choices), panels


def encoders(bench: Bench) -> Answer:
    """Which encoder makes the most of the same training time?"""
    choices: dict[str, study.Changes] = {
        "the paper's choices": {"aligner.encoder": "dws", "aligner.updates": 0, "training.midpoint": False},
        "dws": {"aligner.encoder": "dws"},
        "graph": {"aligner.encoder": "graph"},
        "probe": {"aligner.encoder": "probe", "aligner.depth": 0},
        "graph + probe": {"aligner.encoder": "probe"},
    }
    settings, found = [], []
    for name, chosen in choices.items():
        # the time of a step, without compilation, from a few steps
        seconds = []
        for steps in (5, 45, 5):
            begin = time.perf_counter()
            short = {"training.steps": steps, "validate_every": steps, "seeds": 1}
            train(bench, f"{len(settings)}-timed-{len(seconds)}", {**chosen, **short})
            seconds.append(time.perf_counter() - begin)
        each = (seconds[1] - seconds[2]) / 40
        steps = max(100, int(60 * bench.config.minutes / each))
        predicted = predict(train(bench, f"{len(settings)}", {**chosen, "training.steps": steps}))
        settings.append(f"{name} ({steps} steps)")
        found.append(before_and_after(bench, predicted, study.refinement(bench.config)))
    return f"encoder, {bench.config.minutes:g} minutes of training", settings, {"barrier": across(settings, found)}


def before_and_after(bench: Bench, predicted: list[Method], *after: Method) -> dict[str, Any]:
    """Points of the passes, one an aligner, and of each method that starts from them."""
    stages = [predicted, *([chain(one, second) for one in predicted] for second in after)]
    return barriers(bench, bench.nets, {by_seed[0].label: by_seed for by_seed in stages})


def refinement(bench: Bench) -> Answer:
    """Should an aligner be trained on what refinement finds, or through it, where refinement follows?"""
    choices: dict[str, study.Changes] = {
        "neither": {},
        "on 1500 refined pairs": {"target_pairs": 1500},
        "through 5 steps": {"training.refine": 5},
        "both": {"target_pairs": 1500, "training.refine": 5},
    }
    refined = [study.refinement(bench.config).using(steps=steps) for steps in (5, 20)]
    found = [
        before_and_after(bench, predict(train(bench, name.replace(" ", "-"), chosen)), *refined)
        for name, chosen in choices.items()
    ]
    return "training", list(choices), {"barrier": across(list(choices), found)}


def descent(bench: Bench) -> Answer:
    """What do unrolled steps of descent add to an aligner, and training to them?"""
    choices: dict[str, study.Changes] = {
        "no descent, untrained": {"aligner.descent": 0},
        "no descent": {"aligner.descent": 0},
        "descent, untrained": {"aligner.descent": 5},
        "descent": {"aligner.descent": 5},
        "descent, without the alignment loss": {"aligner.descent": 5, "losses.alignment": 0.0},
    }
    found = []
    for name, chosen in choices.items():
        folder = name.replace(" ", "-").replace(",", "")
        aligners = untrained(bench, chosen) if "untrained" in name else train(bench, folder, chosen)
        found.append(before_and_after(bench, predict(aligners), study.refinement(bench.config)))
    return "aligner", list(choices), {"barrier": across(list(choices), found)}
