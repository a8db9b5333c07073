"""Checkpoints by Orbax: exact resume while training, and aligners to load later."""

import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.extras import load

PyTree = Any


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another model."""


class Checkpoints:
    """The newest of a run's checkpoints, saved atomically: a save that is interrupted leaves the one before it.

    Args:
      folder: made when missing; must be writable.
    """

    def __init__(self, folder: str | Path):
        self._ocp = ocp = load("orbax.checkpoint")
        self.folder = Path(folder).absolute()
        # where a checkpoint waits until another of its step is whole
        self._aside = self.folder.with_name(f".{self.folder.name}.replaced")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._recover()
            options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise CheckpointError(f"{self.folder} must be a writable folder for checkpoints: {error}") from error

    def save(self, step: int, state: PyTree, info: dict[str, Any]) -> None:
        """Keep `state` and the JSON values `info` as the checkpoint of this step.

        Checkpoints of this step or later ones, which a run that was interrupted leaves, are replaced.
        """
        args = self._ocp.args
        tree = {str(k): leaf for k, leaf in enumerate(jax.tree.leaves(state))}
        info = {**info, "arrays": _arrays(state)}
        composite = args.Composite(state=args.StandardSave(tree), info=args.JsonSave(info))
        try:
            self._set_aside([there for there in self._manager.all_steps() if there >= step])
            self._manager.save(step, args=composite, force=True)
            shutil.rmtree(self._aside, ignore_errors=True)
        except OSError as error:
            raise CheckpointError(f"{self.folder}: could not write the checkpoint of step {step}: {error}") from error

    def clear(self) -> None:
        """Remove all checkpoints, to start again."""
        try:
            for step in self._manager.all_steps():
                self._manager.delete(step)
        except OSError as error:
            raise CheckpointError(f"{self.folder}: could not remove old checkpoints: {error}") from error

    def latest(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def info(self) -> dict[str, Any]:
        """The `info` of the newest checkpoint."""
        return {name: value for name, value in self._saved_info().items() if name != "arrays"}

    def restore(self, like: PyTree = None) -> PyTree:
        """The newest state, in the structure, shapes and types of `like`; without one as the dictionaries it was.

        Raises:
          CheckpointError: there is none, it is damaged, or it holds other arrays than `like`.
        """
        found = self._saved_info().get("arrays")
        if like is None:
            like = _as_dictionaries(self.folder, found)
        leaves, treedef = jax.tree.flatten(like)
        # arrays are stored by their order: only the names tell models apart that have equal shapes (old ones lack them)
        wanted = _arrays(like)
        found = wanted if found is None else found
        if found != wanted:
            both = zip([*wanted, *[None] * len(found)], [*found, *[None] * len(wanted)], strict=True)
            first = next((want, got) for want, got in both if want != got)
            raise CheckpointError(
                f"{self.folder}: the checkpoint must be one of this model, with {len(wanted)} arrays, found "
                f"{len(found)}; the first that differs must be {first[0]}, found {first[1]}. Build the model it was "
                "saved from, or delete the folder to start again"
            )
        target = {str(k): leaf for k, leaf in enumerate(leaves)}
        saved = self._restore(state=self._ocp.args.StandardRestore(target))["state"]
        restored = [saved[str(k)] for k in range(len(leaves))]
        for k, (got, want) in enumerate(zip(restored, leaves, strict=True)):
            if got.shape != want.shape:
                raise CheckpointError(f"{self.folder}: array {k} must have shape {want.shape}, found {got.shape}")
        return treedef.unflatten(restored)

    def _saved_info(self):
        info = self._restore(info=self._ocp.args.JsonRestore())["info"]
        if not isinstance(info, dict):
            raise CheckpointError(f"{self.folder} must hold a checkpoint of dwalign, found one without a description")
        return info

    def _set_aside(self, steps) -> None:
        for step in steps:
            self._aside.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(self._aside / str(step))
        if steps:
            self._manager.reload()

    def _recover(self) -> None:
        """Put back what a replacement that was interrupted has set aside."""
        if not self._aside.is_dir():
            return
        if not any(entry.name.isdigit() for entry in self.folder.iterdir()):
            for entry in self._aside.iterdir():
                entry.rename(self.folder / entry.name)
        shutil.rmtree(self._aside)

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


def _arrays(state: PyTree) -> list[list[Any]]:
    """Name, shape and type of every array, as JSON values."""
    flat = jax.tree_util.tree_leaves_with_path(state)
    return [[jax.tree_util.keystr(path), list(np.shape(leaf)), str(jnp.result_type(leaf))] for path, leaf in flat]


def _as_dictionaries(folder: Path, arrays: Any) -> PyTree:
    """The shapes of the saved arrays, in dictionaries by the names on their paths."""
    tree: dict[str, Any] = {}
    try:
        for path, shape, dtype in arrays:
            *outer, last = re.findall(r"\['([^']+)'\]", path)
            inner = tree
            for name in outer:
                inner = inner.setdefault(name, {})
            inner[last] = jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} must say which arrays the checkpoint holds, found {arrays!r:.80}") from error
    return tree
