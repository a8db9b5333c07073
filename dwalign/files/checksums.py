"""Checksums of what is written, so that a flipped bit is found when it is read.

CRC-32 is the quickest that Python has, and finds every fault of up to 32 bits in a row; it guards against faults, not
against people.
"""

import json
import zlib
from typing import Any

import numpy as np


def checksum(name: str, array: np.ndarray) -> int:
    """Of an array of any shape: its name, type, shape and numbers.

    >>> checksum("w", np.float32([1, 2])) == checksum("w", np.float32([[1, 2]]))
    False
    """
    array = np.asarray(array)
    about = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), about)


def checksum_json(value: Any) -> int:
    """Of a JSON value, in whatever order its names are.

    >>> checksum_json({"a": 1, "b": (2, 3)}) == checksum_json({"b": [2, 3], "a": 1})
    True
    """
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
