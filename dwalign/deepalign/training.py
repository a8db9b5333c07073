"""The training loop of an aligner: progress, validation, checkpoints, resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.bounds import Count, bounded
from dwalign.deepalign.aligner import Aligner
from dwalign.deepalign.checkpoints import CheckpointError, Checkpoints
from dwalign.deepalign.model import DeepAlign
from dwalign.deepalign.step import METRICS, TrainState
from dwalign.extras import progress
from dwalign.files import FileError, sealed, unsealed, write_bytes
from dwalign.processes import is_first, own, wait_for_all

PyTree = Any


class Trained(NamedTuple):
    """The best aligner of a run by validation, and the records of `metrics.jsonl`."""

    aligner: Aligner
    best_step: int | None
    metrics: list[dict[str, float]]


@bounded
def train_aligner(
    model: DeepAlign,
    step: Callable[[TrainState], tuple[TrainState, jax.Array]],
    state: TrainState,
    *,
    steps: Count,
    validate: Callable[[Aligner], float],
    validate_every: Count,
    folder: str | Path,
    info: dict[str, Any],
    resume: bool = False,
) -> Trained:
    """Train until `steps`, keep the checkpoint with the lowest validation value.

    Under `jax.distributed` every process makes the same call. All of them validate; the first alone writes, into a
    folder that all of them see.

    Args:
      model: the aligner's model.
      step: from `make_step`.
      state: where to start (from `init_state`).
      steps: total number of steps.
      validate: a figure for an aligner on validation networks, lower is better (the barrier).
      validate_every: steps between validations; each is followed by a checkpoint, so that an interrupted run loses no
        more than these.
      folder: receives `metrics.jsonl`, `checkpoints/last` and `checkpoints/best`; without `resume` what it holds of
        these is removed.
      info: JSON values stored with the checkpoints (what is needed to build the model again).
      resume: continue from `checkpoints/last` where there is one; the losses that follow are those of the
        uninterrupted run, bit for bit.

    Raises:
      CheckpointError: the folder cannot be written, or what it holds cannot be continued.
      FloatingPointError: training diverged, or no validation was finite.
    """
    folder = Path(folder)
    log, metrics, first = folder / "metrics.jsonl", [], is_first()
    if not first:
        wait_for_all("train_aligner: the folder is there")
    last, best = (Checkpoints(folder / "checkpoints" / name, writable=first) for name in ("last", "best"))
    if first and not (resume and last.latest() is not None):
        last.clear()
        best.clear()
    if last.latest() is not None:
        state = last.restore(own(state))
        metrics = _read_log(log, int(state.step))
    if first:
        _check_best(best, log, metrics)
        _write_log(log, metrics)
        wait_for_all("train_aligner: the folder is there")
    wait_for_all("train_aligner: all have read")
    lowest = min(filter(np.isfinite, (row["validation_barrier"] for row in metrics)), default=float("inf"))

    window = []
    with progress(total=steps, initial=int(state.step), desc="training the aligner", unit="step") as bar:
        while (now := int(state.step)) < steps:
            state, values = step(state)
            window.append(values)
            bar.update()
            now += 1
            if now % validate_every and now != steps:
                continue
            losses = np.mean([np.asarray(v) for v in window], 0)
            # before the validation, whose Hungarian step fails in XLA on scores that are not finite
            _check_finite(losses, state.variables, now, last.latest())
            value = float(validate(Aligner(model, own(state.variables))))
            window = []
            metrics.append(
                {"step": now, **dict(zip(METRICS, losses.tolist(), strict=True)), "validation_barrier": value}
            )
            better, lowest = value < lowest, min(lowest, value)
            if first:
                _write_log(log, metrics)
                if better:
                    best.save(now, own(state.variables), {**info, "validation_barrier": value})
                last.save(now, own(state), info)
            bar.set_postfix(validation=f"{value:.3f}", best=f"{lowest:.3f}")
    wait_for_all("train_aligner: all is written")
    if not first:
        best = Checkpoints(best.folder, writable=False)
    if metrics and best.latest() is None:
        raise FloatingPointError(
            f"{folder}: the validation must be finite at least once to choose an aligner, found "
            f"{metrics[-1]['validation_barrier']} at step {metrics[-1]['step']} and nothing finite before; look at "
            "what `validate` computes, and at the networks that it aligns"
        )
    return Trained(Aligner(model, best.restore(own(state.variables))), best.latest(), metrics)


def _check_best(best: Checkpoints, log: Path, metrics: list[dict[str, float]]) -> None:
    """That the best checkpoint is the one that the log says; those after the log will be made again."""
    finite = [row for row in metrics if np.isfinite(row["validation_barrier"])]
    chosen = min(finite, key=lambda row: row["validation_barrier"])["step"] if finite else 0
    steps = best.steps()
    if chosen in steps:
        best.forget(after=int(metrics[-1]["step"]))
    # a run that was killed may have kept a later one alone
    elif finite and (not steps or steps[-1] <= metrics[-1]["step"]):
        raise CheckpointError(
            f"{best.folder} must hold the checkpoint of step {chosen}, the best by {log}, to resume, found "
            f"{steps or 'none'}; put back the one that is of another run, or train with resume=False to start again"
        )


def _check_finite(losses: np.ndarray, variables: PyTree, step: int, intact: int | None) -> None:
    """The losses of a step are those before its update, so that the last update shows in the variables alone."""
    broken = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
        if not np.all(np.isfinite(np.asarray(leaf)))
    ]
    if np.all(np.isfinite(losses)) and not broken:
        return
    kept = "There is no checkpoint yet" if intact is None else f"The checkpoint of step {intact} is intact"
    raise FloatingPointError(
        f"the losses and the aligner must stay finite, found losses {dict(zip(METRICS, losses.tolist(), strict=True))} "
        f"and {len(broken)} arrays that are not finite before step {step}; lower the learning rate. {kept}"
    )


def _write_log(file: Path, metrics: list[dict[str, float]]) -> None:
    """Written whole each time, so that no interruption leaves half a record."""
    try:
        write_bytes(file, "".join(json.dumps(sealed(row)) + "\n" for row in metrics).encode())
    except FileError as error:
        raise CheckpointError(f"{file} must be writable, to log the training: {error}") from error


def _read_log(file: Path, step: int) -> list[dict[str, float]]:
    """The records up to the checkpoint of this step; what an interruption has cut short comes after it."""
    hint = "put it back, or train with resume=False to start again"
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} must hold the records up to step {step} to resume ({error}); {hint}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = unsealed(json.loads(line))
            row["step"], row["validation_barrier"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise CheckpointError(
                f"{file}: line {number} must be a record of training, found {line[:80]!r}; {hint}"
            ) from error
        rows.append(row)
    rows = [row for row in rows if row["step"] <= step]
    if not rows or rows[-1]["step"] != step:
        found = f"the last of step {rows[-1]['step']}" if rows else "none"
        raise CheckpointError(f"{file} must hold the records up to step {step} to resume, found {found}; {hint}")
    return rows
