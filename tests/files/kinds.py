"""Files of every kind for the tests."""

import ml_dtypes
import numpy as np

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
OTHERS = ("bool", "complex64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
TYPES = FLOATS + OTHERS
NEEDS = {".pt": ("torch",), ".h5": ("h5py",)}


def numbers(dtype):
    """Twelve numbers that every type tells apart from others, in views that lie in memory in odd ways."""
    kind = getattr(ml_dtypes, dtype, dtype)
    plain = np.arange(12).reshape(3, 4) % 7
    array = (plain % 2 == 1) if dtype == "bool" else plain.astype(kind)
    return {
        f"{dtype}/rows": array,
        f"{dtype}/columns": np.asfortranarray(array),
        f"{dtype}/steps": array[::-1, ::2],
        f"{dtype}/scalar": array[1, 1],
        f"{dtype}/none": np.zeros((0, 3), kind),
    }


def same(found, wanted):
    """Bit for bit, in shape and type."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    bits = lambda array: np.ascontiguousarray(array).tobytes()
    return found.dtype == wanted.dtype and found.shape == wanted.shape and bits(found) == bits(wanted)
