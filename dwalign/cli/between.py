"""What the page of a merge shows beyond its record: the way to each other network, and how clear its matching is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import dwalign
from dwalign.cli.narrate import stage
from dwalign.cli.subject import Subject

POINTS = 11


def between(subject: Subject, params: Sequence[Any], perms: Sequence[Mapping[str, Any]], data: Any) -> dict[str, Any]:
    """`confidence` and `sharing`, and `curve` where `data` has labels to judge by, as JSON values.

    `perms` bring each network into the order of the first.
    """
    import jax

    network, told = subject.network, dwalign.report
    first, *others = subject.named([jax.tree.map(np.asarray, one) for one in params]).items()
    found: dict[str, Any] = {"confidence": {}, "sharing": told.make_sharing(network.spec)}
    if data is not None and data.labels is not None:
        found["curve"] = {}
    renew = None if subject.data is None else subject.data.inputs

    @jax.jit
    def walk(a, b, data, renew):
        return dwalign.curve(network, a, b, data, task=subject.task, points=POINTS, renew=renew, chunk=256)

    for (name, other), perm in zip(others, perms[1:], strict=True):
        with stage(f"looking between {first[0]} and {name}"):
            clear = dwalign.evaluation.confidence(network, first[1], other, perm, data=subject.data)
            of = "weights" if subject.data is None else "activations"
            found["confidence"][name] = told.make_clearness(clear, of)
            if "curve" in found:
                ends = {"before": other, "after": dwalign.permute(network.spec, other, perm)}
                found["curve"][name] = {side: _plain(walk(first[1], end, data, renew)) for side, end in ends.items()}
    return found


def _plain(curve: Any) -> dict[str, list[float]]:
    return {name: [float(f"{value:.6g}") for value in np.asarray(line)] for name, line in curve._asdict().items()}
