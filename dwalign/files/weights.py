"""A tree of arrays as safetensors, each under the name of its path, read back bit for bit."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from dwalign.files.names import bound, unbind
from dwalign.files.opened import open_weights
from dwalign.files.written import write_weights

PyTree = Any


def save_params(file: str | Path, params: PyTree) -> None:
    """Write a tree of arrays as safetensors, or as its name asks for, which appears whole or not at all.

    An array is named by its path, `params/dense_0/kernel`, and read back bit for bit.

    Raises:
      FileError: it could not be written, two arrays have one name, or an array is of a type that safetensors does not
        have: random keys, 4-bit integers, complex128, objects.
    """
    write_weights(file, unbind(params), overwrite=True)


def load_params(file: str | Path, like: PyTree) -> PyTree:
    """Read what `save_params` wrote into the structure of `like`; leading axes may be added to its shapes.

    Raises:
      FileError: the file is damaged, or holds other arrays than `like`.
    """
    ends = lambda found, wanted: found[len(found) - len(wanted) :] == wanted
    return jax.tree.map(np.asarray, bound(open_weights(file), like, ends, "end in"))
