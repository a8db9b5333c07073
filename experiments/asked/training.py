"""What an aligner should be trained on, and what training adds: losses, augmentations, encoders, refinement."""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import study

from asked.bench import Answer, Bench, across, barriers, predict, train, untrained
from dwalign import report, zoo
from dwalign.evaluation import aligned_distances, cluster_agreement, planted_recovery, retrieval_precision
from dwalign.symmetry import permute, random_perms


def losses(bench: Bench) -> Answer:
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


def augmentation(bench: Bench) -> Answer:
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


def encoders(bench: Bench) -> Answer:
    """Which encoder makes the most of the same training time?"""
    choices = {
        "the paper's choices": dict(encoder="dws", updates=0, midpoint=False),
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
        found.append(before_and_after(bench, predicted))
    return f"encoder, {bench.config.minutes:g} minutes of training", settings, {"barrier": across(settings, found)}


def before_and_after(bench: Bench, predicted: list[study.Method]) -> dict[str, Any]:
    """Points of the passes, one an aligner, and of refinement that starts from them."""
    refined = study.optimisers(bench.config, bench.nets.network, bench.train, bench.few, study.CLASSIFICATION)[1]
    methods = {"Deep-Align": predicted, "Deep-Align + refinement": [study.then(m, refined) for m in predicted]}
    return barriers(bench, bench.nets, methods)


def refinement(bench: Bench) -> Answer:
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


def descent(bench: Bench) -> Answer:
    """What do unrolled steps of descent add to an aligner, and training to them?"""
    choices: dict[str, dict[str, Any]] = {
        "no descent, untrained": dict(descent=0),
        "no descent": dict(descent=0),
        "descent, untrained": dict(descent=5),
        "descent": dict(descent=5),
        "descent, without the alignment loss": dict(descent=5, alignment=0.0),
    }
    found = []
    for name, chosen in choices.items():
        folder = name.replace(" ", "-").replace(",", "")
        trained = "untrained" not in name
        aligners = train(bench, folder, **chosen) if trained else untrained(bench, **chosen)
        found.append(before_and_after(bench, predict(bench.nets, aligners)))
    return "aligner", list(choices), {"barrier": across(list(choices), found)}
