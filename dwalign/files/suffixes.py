"""What the name of a file says of it: which format, and whether it is weights at all."""

from pathlib import Path

SUFFIXES = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".msgpack": "msgpack",
    ".orbax": "orbax",
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "keras"),
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), "torch"),
}
"""The format that each suffix stands for; folders have none."""
LISTED = ", ".join(SUFFIXES)
# pickles run code, and what Equinox writes names nothing
UNREAD = (".pkl", ".pickle", ".joblib", ".eqx")
# weights of runtimes, which folders of models hold beside others
EXPORTED = (".onnx", ".onnx_data", ".gguf", ".tflite", ".ot")
INDEX = ".index."


def is_weights(file: Path) -> bool:
    """Whether a file is weights of any format, or the index of such.

    >>> names = "model.onnx", "pytorch_model.bin.index.json", "model.safetensors.index.fp16.json", "config.json"
    >>> [is_weights(Path(name)) for name in names]
    [True, True, True, False]
    """
    return file.suffix.lower() in (*SUFFIXES, *UNREAD, *EXPORTED) or (INDEX in file.name and file.suffix == ".json")
