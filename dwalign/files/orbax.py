"""Orbax: a folder of arrays, as `StandardCheckpointer` writes it. It is saved in one piece.

Checksums of the arrays lie in its metadata, for Orbax keeps none.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.extras import load
from dwalign.files.atomic import reserve
from dwalign.files.checksums import SUM, checksum
from dwalign.files.errors import FileError, few, reading, said, unlogged
from dwalign.files.names import nest, unbind
from dwalign.files.tensors import LazyArray, Weights, Writing


class Layout(NamedTuple):
    """The tree, the name of each leaf, which ones were numbers of Python, text and metadata."""

    structure: Any
    names: list[str]
    scalars: frozenset[str] = frozenset()
    kept: dict[str, Any] = {}  # noqa: RUF012
    about: dict[str, Any] = {}  # noqa: RUF012


def is_checkpoint(path: Path) -> bool:
    return (path / "_METADATA").is_file()


def open(path: Path) -> Weights:
    ocp = load("orbax.checkpoint")
    arrays: dict[str, LazyArray] = {}
    kept, scalars = {}, set()
    with reading(path, "one whole Orbax checkpoint"):
        with unlogged(), ocp.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.metadata(path.absolute())
        tree, about = found.item_metadata.tree, dict(found.custom_metadata or {})
        sums = about.pop(SUM, {})
        structure, leaves = jax.tree.structure(tree), unbind(tree)
        for k, (name, leaf) in enumerate(leaves.items()):
            read = partial(_read, path, structure, k)
            dtype = getattr(leaf, "dtype", None)
            if dtype is None:
                kept[name] = read()
                continue
            arrays[name] = LazyArray(tuple(leaf.shape or ()), np.dtype(dtype), read, name, path, sums.get(name))
            if type(leaf).__name__ == "ScalarMetadata":
                scalars.add(name)
    layout = Layout(structure, list(leaves), frozenset(scalars), kept, about)
    return Weights(path, "orbax", arrays, {key: str(value) for key, value in about.items()}, layout=layout)


def write(file: Path, writing: Writing) -> None:
    ocp = load("orbax.checkpoint")
    layout: Layout = writing.layout or _nested(writing)
    leaves, sums = [], {}
    for name in layout.names:
        if name in layout.kept:
            leaf = layout.kept[name]
        else:
            leaf = writing.pull(name)
            sums[name] = checksum(name, leaf)
        leaves.append(leaf.item() if name in layout.scalars else leaf)
    tree = layout.structure.unflatten(leaves)
    reserve(file.parent, sum(np.asarray(leaf).nbytes for leaf in leaves))
    try:
        with unlogged(), ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(file.absolute(), tree, custom_metadata={**layout.about, SUM: sums})
    except Exception as error:  # of many kinds: tensorstore's for a full disk, ValueError for arrays without numbers
        raise FileError(
            f"{writing.path} could not be written by Orbax ({said(error)}); free space or choose .npz"
        ) from error


def _nested(writing: Writing) -> Layout:
    # Orbax keeps one of two arrays whose keys, joined by dots, are the same
    dotted = [name.replace("/", ".") for name in writing.names]
    same = [name for name, plain in zip(writing.names, dotted, strict=True) if dotted.count(plain) > 1]
    if same:
        raise FileError(f"{writing.path}: names must differ when joined by dots, found {few(same)}; rename one")
    tree = nest(writing.path, {name: name for name in writing.names})
    return Layout(jax.tree.structure(tree), jax.tree.leaves(tree))


def _read(path: Path, structure: Any, k: int) -> Any:
    ocp = load("orbax.checkpoint")
    leaves = [ocp.PLACEHOLDER] * structure.num_leaves
    leaves[k] = 0
    item = structure.unflatten(leaves)
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    with unlogged(), ocp.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.restore(path.absolute(), args=ocp.args.PyTreeRestore(item=item, restore_args=how))
    return jax.tree.leaves(found)[k]
