"""The training loop of an aligner: progress, validation, checkpoints, resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from dwalign.deepalign.aligner import Aligner
from dwalign.deepalign.checkpoints import Checkpoints
from dwalign.deepalign.model import DeepAlign
from dwalign.deepalign.step import METRICS, TrainState

PyTree = Any


class Trained(NamedTuple):
    """The best aligner of a run by validation, and the records of `metrics.jsonl`."""

    aligner: Aligner
    best_step: int | None
    metrics: list[dict[str, float]]


def train_aligner(
    model: DeepAlign,
    step: Callable[[TrainState], tuple[TrainState, jax.Array]],
    state: TrainState,
    *,
    steps: int,
    validate: Callable[[Aligner], float],
    validate_every: int,
    folder: str | Path,
    info: dict[str, Any],
    resume: bool = False,
) -> Trained:
    """Train until `steps`, keep the checkpoint with the lowest validation value.

    Args:
      model: the aligner's model.
      step: from `make_step`.
      state: where to start (from `init_state`).
      steps: total number of steps.
      validate: a figure for an aligner on validation networks, lower is better (the barrier).
      validate_every: steps between validations; each is followed by a checkpoint, so that an interrupted run loses no
        more than these.
      folder: receives `metrics.jsonl`, `checkpoints/last` and `checkpoints/best`.
      info: JSON values stored with the checkpoints (what is needed to build the model again).
      resume: continue from `checkpoints/last` where there is one; the losses that follow are those of the
        uninterrupted run, bit for bit.
    """
    folder = Path(folder)
    last, best = Checkpoints(folder / "checkpoints" / "last"), Checkpoints(folder / "checkpoints" / "best")
    log, metrics = folder / "metrics.jsonl", []
    if resume and last.latest() is not None:
        state = last.restore(state)
        metrics = [row for row in map(json.loads, log.read_text().splitlines()) if row["step"] <= int(state.step)]
    log.write_text("".join(json.dumps(row) + "\n" for row in metrics))
    lowest = min((row["validation_barrier"] for row in metrics), default=float("inf"))

    window = []
    with (
        tqdm(total=steps, initial=int(state.step), desc="training the aligner", unit="step") as bar,
        log.open("a") as out,
    ):
        while (now := int(state.step)) < steps:
            state, values = step(state)
            window.append(values)
            bar.update()
            now += 1
            if now % validate_every and now != steps:
                continue
            value = float(validate(Aligner(model, state.variables)))
            losses = np.mean([np.asarray(v) for v in window], 0)
            if not np.all(np.isfinite(losses)):
                raise FloatingPointError(
                    f"the losses must stay finite, found {dict(zip(METRICS, losses.tolist(), strict=True))} "
                    f"before step {now}; lower the learning rate. The checkpoint of step {last.latest()} is intact"
                )
            window = []
            row = {"step": now, **dict(zip(METRICS, losses.tolist(), strict=True)), "validation_barrier": value}
            metrics.append(row)
            out.write(json.dumps(row) + "\n")
            out.flush()
            if value < lowest:
                lowest = value
                best.save(now, state.variables, {**info, "validation_barrier": value})
            last.save(now, state, info)
            bar.set_postfix(validation=f"{value:.3f}", best=f"{lowest:.3f}")
    return Trained(Aligner(model, best.restore(state.variables)), best.latest(), metrics)
