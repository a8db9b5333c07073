from dwalign.files.atomic import write_bytes
from dwalign.files.errors import FileError
from dwalign.files.names import bind, names, unbind
from dwalign.files.opened import open_weights, write_weights
from dwalign.files.tensors import LazyArray, Weights
from dwalign.files.weights import load_params, save_params

__all__ = [
    "FileError",
    "LazyArray",
    "Weights",
    "bind",
    "load_params",
    "names",
    "open_weights",
    "save_params",
    "unbind",
    "write_bytes",
    "write_weights",
]
