"""Checkpoints by Orbax: exact resume while training, and aligners to load later."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.extras import load
from dwalign.files import checksum, checksum_json, reserve, said, unlogged
from dwalign.files.errors import few

PyTree = Any
SUMS, SUM = "checksums", "checksum"


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another model."""


class Checkpoints:
    """The last two of a run's checkpoints, each saved whole or not at all and with checksums of all that it holds.

    Args:
      folder: made when missing; must be writable.
      writable: False only reads: nothing is made, mended or removed.
    """

    def __init__(self, folder: str | Path, *, writable: bool = True):
        self._ocp = ocp = load("orbax.checkpoint")
        self.folder = Path(folder).absolute()
        # where checkpoints wait until another of their step is whole, and lie while they are removed
        self._aside = self.folder.with_name(f".{self.folder.name}.replaced")
        try:
            if writable:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._recover()
            # of several processes each is by itself, and waits for no other
            alone = ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(), active_processes={jax.process_index()}
            )
            options = ocp.CheckpointManagerOptions(
                enable_async_checkpointing=False,
                create=False,
                read_only=not writable,
                save_interval_steps=int(writable),  # Orbax warns of what it would set by itself
                multiprocessing_options=alone,
            )
            with unlogged():
                self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise CheckpointError(f"{self.folder} must be a writable folder for checkpoints: {error}") from error

    def save(self, step: int, state: PyTree, info: dict[str, Any]) -> None:
        """Keep `state` and the JSON values `info` as the checkpoint of this step, and the one before it.

        Checkpoints of this step or later ones, which a run that was interrupted leaves, are replaced.

        Raises:
          CheckpointError: it cannot be written; what was there is kept.
        """
        args = self._ocp.args
        leaves = list(map(_of_one_device, jax.tree.leaves(state)))
        tree = {str(k): leaf for k, leaf in enumerate(leaves)}
        info = {**info, "arrays": _arrays(state)}
        info[SUMS] = _checksums(info["arrays"], leaves)
        info[SUM] = checksum_json(info)
        composite = args.Composite(state=args.StandardSave(tree), info=args.JsonSave(info))
        try:
            reserve(self.folder, sum(jnp.asarray(leaf).nbytes for leaf in leaves))
            self._set_aside([there for there in self.steps() if there >= step], str(step))
            with unlogged():
                self._manager.save(step, args=composite, force=True)
            shutil.rmtree(self._aside, ignore_errors=True)
            self._remove(self.steps()[:-2])
        except Exception as error:  # Orbax raises many kinds for disks that are full and folders that are gone
            self._put_back()
            raise CheckpointError(
                f"{self.folder}: could not write the checkpoint of step {step} ({said(error)}); free space or make the "
                f"folder writable, and resume. {_kept(self.steps())}"
            ) from error

    def clear(self) -> None:
        """Remove all checkpoints, to start again."""
        self.forget(-1)

    def forget(self, after: int) -> None:
        """Remove the checkpoints of later steps."""
        try:
            self._remove([step for step in self.steps() if step > after])
        except OSError as error:
            raise CheckpointError(f"{self.folder}: could not remove old checkpoints: {error}") from error

    def steps(self) -> list[int]:
        """Of the checkpoints that are there, in order."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def info(self) -> dict[str, Any]:
        """The `info` of the newest checkpoint."""
        return {name: value for name, value in self._info(self._newest()).items() if name not in ("arrays", SUMS, SUM)}

    def restore(self, like: PyTree = None) -> PyTree:
        """The newest state, in the structure, shapes and types of `like`; without one as the dictionaries it was.

        Raises:
          CheckpointError: there is none, it is damaged, or it holds other arrays than `like`. Of a damaged one it says
            which before it is intact, and how to go back.
        """
        step = self._newest()
        info = self._info(step)
        found = info.get("arrays")
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
        return treedef.unflatten(self._state(step, info, leaves))

    def _info(self, step: int) -> dict[str, Any]:
        info = self._restore(step, info=self._ocp.args.JsonRestore())["info"]
        if not isinstance(info, dict):
            raise CheckpointError(f"{self.folder} must hold a checkpoint of dwalign, found one without a description")
        rest = {name: value for name, value in info.items() if name != SUM}
        if (SUM in info or SUMS in info) and info.get(SUM) != checksum_json(rest):
            raise self._damaged(step, "its description has another checksum")
        return info

    def _state(self, step: int, info: dict[str, Any], like: list[Any]) -> list[Any]:
        """The arrays of a checkpoint, which are those that were saved."""
        target = {str(k): leaf for k, leaf in enumerate(like)}
        saved = self._restore(step, state=self._ocp.args.StandardRestore(target))["state"]
        leaves = [saved[str(k)] for k in range(len(like))]
        for k, (got, want) in enumerate(zip(leaves, like, strict=True)):
            if got.shape != want.shape:
                raise CheckpointError(f"{self.folder}: array {k} must have shape {want.shape}, found {got.shape}")
        if SUMS in info:
            sums = zip(info["arrays"], _checksums(info["arrays"], leaves), info[SUMS], strict=True)
            if broken := [name for (name, *_), got, want in sums if got != want]:
                raise self._damaged(step, f"numbers are others than were saved in {few(broken)}")
        return leaves

    def _newest(self) -> int:
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder} must hold a checkpoint, found none; was training started there?")
        return step

    def _restore(self, step: int, **items):
        try:
            with unlogged():
                return self._manager.restore(step, args=self._ocp.args.Composite(**items))
        except Exception as error:  # Orbax raises many kinds for damaged and foreign files
            raise self._damaged(step, f"could not be read ({said(error)})") from error

    def _damaged(self, step: int, fault: str) -> CheckpointError:
        """What is wrong with this checkpoint, and how to go back to the one before it if that is intact."""
        before = [there for there in self.steps() if there < step]
        intact = next((there for there in reversed(before) if self._is_intact(there)), None)
        remedy = (
            f"delete {self.folder} to start again"
            if intact is None
            else f"the one of step {intact} is intact: delete {self.folder / str(step)} to go on from it"
        )
        return CheckpointError(
            f"{self.folder}: the checkpoint of step {step} must be one of this model, but {fault}. It is damaged or of "
            f"another architecture; {remedy}"
        )

    def _is_intact(self, step: int) -> bool:
        try:
            info = self._info(step)
            like = [jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype)) for _, shape, dtype in info["arrays"]]
            self._state(step, info, like)
        except (CheckpointError, LookupError, TypeError, ValueError):
            return False
        return SUMS in info

    def _remove(self, steps: list[int]) -> None:
        """Each goes in one step, so that nobody finds half of one."""
        self._set_aside(steps, "removed")
        shutil.rmtree(self._aside, ignore_errors=True)

    def _set_aside(self, steps: list[int], until: str) -> None:
        """Until the checkpoint of the step `until` is there."""
        for step in steps:
            (self._aside / until).mkdir(parents=True, exist_ok=True)
            (self.folder / str(step)).rename(self._aside / until / str(step))
        if steps:
            self._manager.reload()

    def _recover(self) -> None:
        """Put back what a replacement that was interrupted has set aside."""
        for left in self._aside.iterdir() if self._aside.is_dir() else ():
            if left.name != "removed" and not (self.folder / left.name).exists():
                for entry in left.iterdir():
                    entry.rename(self.folder / entry.name)
        shutil.rmtree(self._aside, ignore_errors=True)

    def _put_back(self) -> None:
        with contextlib.suppress(OSError):
            self._recover()
            self._manager.reload()


def _kept(steps: list[int]) -> str:
    return f"The checkpoint of step {steps[-1]} is kept" if steps else "There is no checkpoint yet"


def _of_one_device(leaf: Any) -> Any:
    """Of an array that each device has whole Orbax would have every one write a part, cut by a program of its own."""
    return leaf.addressable_data(0) if isinstance(leaf, jax.Array) and leaf.is_fully_replicated else leaf


def _checksums(arrays: list[list[Any]], leaves: list[Any]) -> list[int]:
    numbers = lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return [
        checksum(name, np.asarray(numbers(jnp.asarray(leaf)))) for (name, *_), leaf in zip(arrays, leaves, strict=True)
    ]


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
