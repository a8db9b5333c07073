"""Checkpoints by Orbax: exact resume while training, and aligners to load later."""

from pathlib import Path
from typing import Any

import jax

PyTree = Any


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another model."""


class Checkpoints:
    """The newest of a run's checkpoints, saved atomically: a save that is interrupted leaves the one before it.

    Args:
      folder: made when missing; must be writable.
    """

    def __init__(self, folder: str | Path):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self.folder = Path(folder).absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise CheckpointError(f"{self.folder} must be a writable folder for checkpoints: {error}") from error

    def save(self, step: int, state: PyTree, info: dict[str, Any]) -> None:
        """Keep `state` and the JSON values `info` as the checkpoint of this step."""
        args = self._ocp.args
        tree = {str(k): leaf for k, leaf in enumerate(jax.tree.leaves(state))}
        composite = args.Composite(state=args.StandardSave(tree), info=args.JsonSave(info))
        try:
            self._manager.save(step, args=composite, force=True)
        except OSError as error:
            raise CheckpointError(f"{self.folder}: could not write the checkpoint of step {step}: {error}") from error

    def latest(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def info(self) -> dict[str, Any]:
        """The `info` of the newest checkpoint."""
        return self._restore(info=self._ocp.args.JsonRestore())["info"]

    def restore(self, like: PyTree) -> PyTree:
        """The newest state, in the structure, shapes and types of `like`."""
        leaves, treedef = jax.tree.flatten(like)
        target = {str(k): leaf for k, leaf in enumerate(leaves)}
        saved = self._restore(state=self._ocp.args.StandardRestore(target))["state"]
        restored = [saved[str(k)] for k in range(len(leaves))]
        for k, (got, want) in enumerate(zip(restored, leaves, strict=True)):
            if got.shape != want.shape:
                raise CheckpointError(f"{self.folder}: array {k} must have shape {want.shape}, found {got.shape}")
        return treedef.unflatten(restored)

    def _restore(self, **items):
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder} must hold a checkpoint, found none; was training started there?")
        try:
            return self._manager.restore(step, args=self._ocp.args.Composite(**items))
        except Exception as error:  # Orbax raises many kinds for damaged and foreign files
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} must be one of this model, but could not be read "
                f"({type(error).__name__}: {str(error).splitlines()[0][:300]}). It is damaged or of another "
                "architecture; delete the folder to start again"
            ) from error
