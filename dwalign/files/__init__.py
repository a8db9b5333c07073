from dwalign.files.atomic import reserve, write_bytes
from dwalign.files.checksums import checksum, checksum_json, sealed, unsealed
from dwalign.files.errors import FileError, reading, said, unlogged, writing
from dwalign.files.names import bind, names, places, unbind
from dwalign.files.opened import open_weights
from dwalign.files.suffixes import SUFFIXES
from dwalign.files.tensors import LazyArray, Weights, put_off, read_leaf
from dwalign.files.weights import load_params, save_params
from dwalign.files.written import check_output, write_weights

__all__ = [
    "FileError",
    "LazyArray",
    "SUFFIXES",
    "Weights",
    "bind",
    "check_output",
    "checksum",
    "checksum_json",
    "load_params",
    "names",
    "open_weights",
    "places",
    "put_off",
    "read_leaf",
    "reading",
    "reserve",
    "said",
    "save_params",
    "sealed",
    "unbind",
    "unlogged",
    "unsealed",
    "write_bytes",
    "write_weights",
    "writing",
]
