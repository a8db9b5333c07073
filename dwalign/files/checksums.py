"""Checksums of what is written, so that a flipped bit is found when it is read.

Arrays have one each, objects in JSON and YAML one beside all else that they hold; what has none is taken as it is.
CRC-32 is the quickest that Python has, and finds every fault of up to 32 bits in a row; it guards against faults, not
against people.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

SUM = "crc32"


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


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object as it will be read, with the checksum of all else under the name `crc32`.

    >>> sealed({"steps": (1, 2)})
    {'steps': [1, 2], 'crc32': 2038613477}
    """
    plain = json.loads(json.dumps({name: value for name, value in content.items() if name != SUM}))
    return {**plain, SUM: checksum_json(plain)}


def unsealed(content: Any) -> Any:
    """What was given to `sealed`; what is no object, or has no checksum, is given back as it is.

    Raises:
      ValueError: the checksum is that of other content.

    >>> unsealed(sealed({"steps": (1, 2)}))
    {'steps': [1, 2]}
    >>> unsealed({"steps": [1, 3], "crc32": 2038613477})
    Traceback (most recent call last):
    ...
    ValueError: its checksum is of other content; fetch or write it again, or take crc32 out if you changed it yourself
    """
    if not isinstance(content, dict) or SUM not in content:
        return content
    rest = {name: value for name, value in content.items() if name != SUM}
    try:
        same = checksum_json(rest) == content[SUM]
    except (TypeError, RecursionError):  # YAML knows values that JSON does not
        same = False
    if not same:
        raise ValueError(
            "its checksum is of other content; fetch or write it again, or take crc32 out if you changed it yourself"
        )
    return rest
