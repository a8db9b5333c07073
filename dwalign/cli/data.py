"""Data of commands: an .npz with `inputs` and `labels`."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

import dwalign


def read_data(file: Path) -> Any:
    """The `Data` of an .npz; a program of several inputs has `inputs.NAME`, or `inputs.0` and so on.

    Raises:
      FileError: the file is missing or damaged, or holds something else.
    """
    with (
        dwalign.files.reading(file, "an .npz of arrays, np.savez(file, inputs=..., labels=...)"),
        file.open("rb") as stream,
        np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive,
    ):
        arrays = {name: archive[name] for name in archive.files}
    parts = {name: _part(file, arrays, name) for name in ("inputs", "labels")}
    known = [name for name in arrays if name.split(".")[0] in parts]
    if parts["inputs"] is None or len(known) < len(arrays):
        raise dwalign.files.FileError(
            f"{file} must hold `inputs` (or inputs.NAME) and, where there are any, `labels`, found {sorted(arrays)}"
        )
    return dwalign.program.check_data(str(file), dwalign.Data(**parts))


def task_of(file: Path, data: Any) -> Any:
    """Classification where labels are integers, regression where they are not.

    Warns:
      UserWarning: the labels look like classes that are not written as such.
    """
    labels = data.labels
    if labels is None or not _real(labels):
        return dwalign.program.ANSWERS
    if _one_hot(labels):
        warnings.warn(
            f"{file}: labels are real numbers, so that outputs are judged by their squared error, but each row holds a "
            "single 1; classes are integers, labels.argmax(-1)",
            stacklevel=2,
        )
    return dwalign.REGRESSION


def _one_hot(labels: Any) -> bool:
    rows = isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.shape[1] > 1
    return rows and np.array_equal(labels, labels == 1) and bool((labels.sum(-1) == 1).all())


def _real(labels: Any) -> bool:
    return not isinstance(labels, np.ndarray) or labels.dtype.kind == "f"


def _part(file: Path, arrays: dict[str, np.ndarray], name: str) -> Any:
    named = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
    if name in arrays and named:
        raise dwalign.files.FileError(
            f"{file} must hold one array `{name}`, or several called {name}.NAME, found {[name, *named]}; leave one out"
        )
    if name in arrays:
        return arrays[name]
    if not named:
        return None
    if set(named) == set(map(str, range(len(named)))):
        return tuple(named[str(k)] for k in range(len(named)))
    return named
