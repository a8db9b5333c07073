"""Imports go one way, heavy ones are lazy, nothing executes data, experiments use public names only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    "cli",
    "apply",
    "frontends",
    "report",
    "many",
    "evaluation",
    "merging",
    "deepalign",
    "zoo",
    "networks",
    "matching",
    "encoders",
    "assignment",
    "program",
    "symmetry",
    "files",
    "bounds",
    "processes",
    "memory",
    "shown",
    "extras",
    "kept",
    "lazy",
)
HEAVY = {
    "PIL",
    "array_record",
    "grain",
    "matplotlib",
    "orbax",
    "ott",
    "pyarrow",
    "skimage",
    "sklearn",
    "tensorflow_datasets",
    "tqdm",
}
HEAVY |= {"equinox", "h5py", "haiku", "keras", "timm", "torch", "torchax", "torchvision", "transformers"}
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}

LIBRARY = sorted((ROOT / "dwalign").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))


def name(file):
    return str(file.relative_to(ROOT))


def imports(tree):
    """Every module that the tree imports; for `from m import n` both m and m.n, as n may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def upward(layer, tree):
    """The imports that a file of this layer must not have."""
    below = LAYERS[LAYERS.index(layer) :]
    for module in imports(tree):
        top, *rest = module.split(".")
        if top == "" or (top == "dwalign" and rest and rest[0] not in below and rest[0] != "__version__"):
            yield module


def unsafe(tree):
    yield from (module for module in imports(tree) if module.split(".")[0] in UNSAFE_MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
                yield node.func.id
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    yield "allow_pickle"


def private(tree):
    """Names of dwalign that are not public: modules inside packages, names with an underscore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("dwalign.") and a.name.count(".") > 1)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dwalign":
            if node.module.count(".") > 1:
                yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name.startswith("_"))


def loaded_on_import(tree):
    """The imports outside of functions."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in inside:
            yield from imports(node)


@pytest.mark.parametrize("file", LIBRARY, ids=name)
def test_imports_go_down(file):
    layer = file.relative_to(ROOT / "dwalign").parts[0].removesuffix(".py")
    if layer in ("__init__", "__main__"):
        layer = "cli"
    assert layer in LAYERS, f"{name(file)}: {layer} is not in the layout; add it to CONTRIBUTING.md and to LAYERS here"
    assert not list(upward(layer, ast.parse(file.read_text()))), "may import only from itself and the layers below"


@pytest.mark.parametrize("file", LIBRARY, ids=name)
def test_heavy_imports_are_lazy(file):
    found = {module.split(".")[0] for module in loaded_on_import(ast.parse(file.read_text()))}
    assert not found & HEAVY, "import these inside the function that needs them"


@pytest.mark.parametrize("file", LIBRARY + EXPERIMENTS, ids=name)
def test_nothing_executes_data(file):
    assert not list(unsafe(ast.parse(file.read_text())))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=name)
def test_experiments_use_public_names(file):
    assert not list(private(ast.parse(file.read_text()))), "import from dwalign or from dwalign.<package>"


def test_the_checks_see_violations():
    assert list(upward("symmetry", ast.parse("def f():\n    from dwalign import zoo")))
    assert list(upward("matching", ast.parse("import dwalign.networks.mlp")))
    assert list(upward("matching", ast.parse("from ..networks import mlp")))
    assert not list(upward("zoo", ast.parse("from dwalign.networks import mlp\nimport jax")))
    assert list(unsafe(ast.parse("from pickle import loads")))
    assert list(unsafe(ast.parse("np.load(f, allow_pickle=True)")))
    assert list(unsafe(ast.parse("eval(text)"))) and not list(unsafe(ast.parse("model.eval()")))
    assert list(private(ast.parse("from dwalign.zoo.storage import Zoo")))
    assert list(private(ast.parse("from dwalign.zoo import _decode")))
    assert not list(private(ast.parse("from dwalign.networks import mlp")))
    assert "ott" in list(loaded_on_import(ast.parse("if x:\n    import ott")))
    assert not list(loaded_on_import(ast.parse("def f():\n    import ott")))
