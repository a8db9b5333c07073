from dwalign.files.atomic import write_bytes
from dwalign.files.weights import FileError, load_params, save_params

__all__ = ["FileError", "load_params", "save_params", "write_bytes"]
