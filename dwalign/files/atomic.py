"""Files that appear whole or not at all."""

import os
from pathlib import Path


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
