"""How far networks are from equal norms, and what factors are worth to weight matching."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwalign import report
from dwalign.matching import weight_matching
from dwalign.symmetry import Monomial, compose, gauge, identity, interpolate, permute
from paired.pairs import Elements, Pair, Subject, between, make_judge, ratio

ORDER, LAYERS, UNITS, LEARNED = "order of units", "scales of layers", "scales of units", "scales learned from labels"


def of_layers(element: Elements) -> Elements:
    """The same with the mean factor of each group for all of its units."""

    def one(monomial):
        logarithm = np.log(monomial.scale)
        return monomial._replace(scale=np.exp(np.broadcast_to(logarithm.mean(0), logarithm.shape)))

    return {g: one(monomial) for g, monomial in element.items()}


def make_learner(subject: Subject, steps: int) -> Callable[[Pair, Elements], Elements]:
    """`learn(pair, perms)`: lower the loss half way by factors alone."""
    spec, network, task = subject.full.spec, subject.network, subject.task
    optimizer, orders = optax.adam(0.03), identity(spec)
    with_factors = lambda logs: {g: Monomial(orders[g], jnp.exp(one)) for g, one in logs.items()}

    @jax.jit
    def descend(a, b, seen):
        def loss(logs):
            half_way = interpolate(spec, a, permute(spec, b, with_factors(logs)))
            return task.lost(network.respond(half_way, seen.inputs), seen.labels)

        def step(state, _):
            logs, memory = state
            updates, memory = optimizer.update(jax.grad(loss)(logs), memory)
            return (optax.apply_updates(logs, updates), memory), None

        logs = {g: jnp.zeros((n, spec.directions[g][0])) for g, n in spec.sizes.items()}
        return with_factors(jax.lax.scan(step, (logs, optimizer.init(logs)), length=steps)[0][0])

    return lambda pair, perms: compose(spec, descend(pair.a, permute(spec, pair.b, perms), pair.seen), perms)


def look_closer(subject: Subject, steps: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Panel to series to figure; factors are learned in so many steps."""
    spec, judge, learn = subject.full.spec, make_judge(subject), make_learner(subject, steps)
    spread: dict[str, list[float]] = {"units in a layer": [], "layers": []}
    barriers: dict[str, list[float]] = {}
    for pair in subject.pairs:
        whole = gauge(spec, pair.a), gauge(spec, pair.b)
        logs = [np.log(way[g].scale) for way in whole for g in spec.sizes]
        spread["units in a layer"].append(np.mean([one.std() for one in logs]))
        spread["layers"].append(np.mean([abs(one.mean()) for one in logs]))
        order = _matched(subject, pair, (identity(spec), identity(spec)))
        found = {
            ORDER: order,
            LAYERS: _matched(subject, pair, (of_layers(whole[0]), of_layers(whole[1]))),
            UNITS: _matched(subject, pair, whole),
            LEARNED: learn(pair, order),
        }
        for name, element in found.items():
            barriers.setdefault(name, []).append(judge(pair, element)[0])
    base = np.array(barriers.pop(ORDER))
    return {
        "how far from equal norms": {name: report.point([values]) for name, values in spread.items()},
        "barrier, x order of units": {name: ratio(np.array(values), base) for name, values in barriers.items()},
    }


def _matched(subject: Subject, pair: Pair, ways: tuple[Elements, Elements]) -> Elements:
    """By weights, after both networks have been moved."""
    a, b = (permute(subject.full.spec, params, way) for params, way in zip(pair[:2], ways, strict=True))
    return between(subject.full.spec, ways, weight_matching(subject.network, a, b, key=pair.key).perms)
