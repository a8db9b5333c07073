"""How networks do on labelled data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

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

    found = {}
    for name, params in networks.items():
        with stage(f"judging {name}"):
            read = jax.tree.map(np.asarray, params)
            judged = dwalign.evaluation.assess(subject.network, read, data, task=subject.task, chunk=256)
            found[name] = Judged(*map(float, judged))
    return found


def columns(subject: Subject) -> tuple[str, str]:
    """What the loss is, and the share of what: of a network that gives values nothing is right or wrong."""
    return ("loss", "accuracy") if subject.task == dwalign.program.ANSWERS else ("squared error", "met to 0.1")


def judged_table(subject: Subject, found: Mapping[str, Judged]) -> str:
    """Rows of loss and accuracy."""
    rows = [(name, f"{one.loss:.4f}", f"{one.accuracy:.4f}") for name, one in found.items()]
    return table(("", *columns(subject)), rows)
