"""Records as people read them: their arrays by type and shape."""

from typing import Any

import jax
import numpy as np


def brief(tree: Any) -> str:
    """The `repr` of a tree, with types and shapes in place of arrays.

    >>> brief({"kernel": np.zeros((3, 4)), "scale": 1})
    "{'kernel': float64[3,4], 'scale': 1}"
    """
    return repr(jax.tree.map(lambda leaf: _Named(leaf) if hasattr(leaf, "shape") else leaf, tree))


class _Named:
    def __init__(self, array: Any):
        self.name = f"{array.dtype}[{','.join(map(str, np.shape(array)))}]"

    def __repr__(self) -> str:
        return self.name
