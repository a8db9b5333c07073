"""How networks do on labelled data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import dwalign
from dwalign.cli.narrate import stage, table
from dwalign.cli.subject import Subject


class Judged(NamedTuple):
    """Mean loss in nats (or squared units) and the share of right answers."""

    loss: float
    accuracy: float


def judge(subject: Subject, networks: Mapping[str, Any], data: Any) -> dict[str, Judged]:
    """Each network on the whole of `data`; trees of arrays by name."""
    import jax

    @jax.jit
    def assess(params):
        return dwalign.evaluation.assess(subject.network, params, data, task=subject.task, chunk=256)

    found = {}
    for name, params in networks.items():
        with stage(f"judging {name}"):
            found[name] = Judged(*(float(value) for value in assess(jax.tree.map(jax.numpy.asarray, params))))
    return found


def judged_table(found: Mapping[str, Judged]) -> str:
    """Rows of loss and accuracy."""
    rows = [(name, f"{one.loss:.4f}", f"{one.accuracy:.4f}") for name, one in found.items()]
    return table(("", "loss", "accuracy"), rows)
