"""Packages that load a name when it is asked for, so that importing them stays cheap and asks for no extra."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lazily(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose names its stub, `__init__.pyi`, imports.

    The stub is the one list of them, which type checkers and editors read too.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text())
    home = {
        alias.name: statement.module
        for statement in stub.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if home[name] == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(str(home[name])), name)

    return get, lambda: sorted(home)
