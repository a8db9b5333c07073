"""`find_model`: a model that somebody names on a command line."""

import ast
import contextlib
import difflib
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dwalign.extras import load
from dwalign.program import Network

WORDS = {"none": None, "true": True, "false": False}


def find_model(name: str) -> tuple[Any, tuple[Any, ...] | None]:
    """The model of that name, with fresh weights, and example inputs of two or more examples where they are known.

    | name | model |
    |-|-|
    | `timm:resnet18,num_classes=10,in_chans=1` | `timm.create_model` |
    | `torchvision:resnet18,num_classes=10` | `torchvision.models.get_model` |
    | `keras:MobileNetV2,weights=none,input_shape=32x32x3` | of `keras.applications` |
    | `hf:folder` | the class that `config.json` names, of Flax if the folder holds weights of Flax, else of torch |
    | `package.module:factory`, `file.py:factory` | what `factory()` returns: a model, or `(model, *inputs)` |

    Values are Python literals; `none`, `true` and `false` are those of Python, `32x32x3` is a tuple, other bare words
    are text. Of your own code, the current directory is importable. Nothing is downloaded unless an option asks for it.

    Raises:
      ValueError: no such model, or a name of another form.
      ImportError: the package is not installed.

    >>> find_model("resnet18")
    Traceback (most recent call last):
    ...
    ValueError: a model must be named as kind:name, such as timm:resnet18 or my_package.module:factory, found 'resnet18'
    """
    # read once, when Keras is imported, by a factory perhaps; another choice is found by the check
    os.environ.setdefault("KERAS_BACKEND", "jax")
    kind, colon, rest = name.partition(":")
    if kind in KINDS and rest:
        return KINDS[kind](rest)
    # a path may hold a colon itself
    place, colon, factory = name.rpartition(":")
    if not (colon and place and factory.isidentifier()):
        raise ValueError(
            f"a model must be named as kind:name, such as timm:resnet18 or my_package.module:factory, found {name!r}"
        )
    return _own(place, factory)


def parse_options(text: str) -> tuple[str, dict[str, Any]]:
    """`name,option=value,...`.

    >>> parse_options("resnet18,num_classes=10,act=relu,pool=none,shape=32x32x3,sizes=(1, 2)")
    ('resnet18', {'num_classes': 10, 'act': 'relu', 'pool': None, 'shape': (32, 32, 3), 'sizes': (1, 2)})
    """
    name, _, options = text.partition(",")
    sizes = re.sub(r"(?<==)\d+(?:x\d+)+", lambda found: f"({found[0].replace('x', ',')})", options)
    try:
        call = ast.parse(f"_({sizes})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            raise SyntaxError("not options")
        return name, {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"options of {name} must be option=value, with Python literals for values and commas between them, found "
            f"{options!r}"
        ) from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return WORDS.get(node.id.lower(), node.id)
    return ast.literal_eval(node)


def _timm(text: str) -> tuple[Any, Any]:
    name, options = parse_options(text)
    timm = load("timm")
    model = _made("timm", name, lambda: timm.create_model(name, **options), timm.list_models)
    channels, height, width = model.default_cfg.get("input_size", (3, 224, 224))
    size = options.get("img_size", (height, width))
    size = size if isinstance(size, tuple) else (size, size)
    return model, (_drawn((2, options.get("in_chans", channels), *size)),)


def _torchvision(text: str) -> tuple[Any, Any]:
    name, options = parse_options(text)
    models = load("torchvision").models
    model = _made("torchvision", name, lambda: models.get_model(name, **options), models.list_models)
    # those of detection, video and the like take other things than pictures
    pictures = type(model).__module__.count(".") == 2
    return model, (_drawn((2, 3, 224, 224)),) if pictures else None


def _keras(text: str) -> tuple[Any, Any]:
    name, options = parse_options(text)
    from dwalign.frontends.keras import check_backend, example_inputs

    check_backend()
    applications = load("keras").applications
    known = lambda: [known for known in dir(applications) if known[0].isupper()]
    if not hasattr(applications, name):
        raise ValueError(_unknown("keras.applications", name, known()))
    with _theirs(f"keras.applications.{name} must be made with these options"):
        model = getattr(applications, name)(**options)
    return model, example_inputs(model)


def _hugging_face(text: str) -> tuple[Any, Any]:
    folder = Path(text).expanduser()
    if not (folder / "config.json").is_file():
        raise ValueError(f"hf: must be followed by a folder that holds config.json, found {text!r}")
    named = json.loads((folder / "config.json").read_text()).get("architectures")
    if not named:
        raise ValueError(f"{folder / 'config.json'} must name a class in its 'architectures', found {named!r}; add it")
    transformers = load("transformers")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    flax = hasattr(transformers, f"Flax{named[0]}") and any(folder.glob("flax_model*"))
    kind = getattr(transformers, f"Flax{named[0]}" if flax else named[0], None)
    if kind is None:
        raise ValueError(f"transformers {transformers.__version__} must have the class {named[0]}, which it has not")
    from dwalign.frontends.transformers import older_names

    with older_names():
        model = kind(config, _do_init=False) if flax else kind(config)
    return model, _dummies(config, kind.main_input_name)


def _dummies(config: Any, main: str) -> tuple[dict[str, np.ndarray]] | None:
    """Pictures or token numbers, by name; of other inputs nobody knows the shape."""
    if main == "pixel_values" and hasattr(config, "image_size"):
        size = config.image_size
        sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
        return ({main: _drawn((2, getattr(config, "num_channels", 3), *sides))},)
    if main != "input_ids":
        return None
    numbers = np.arange(16, dtype=np.int32).reshape(2, 8) % max(1, config.vocab_size)
    more = {"decoder_input_ids": numbers[:, ::-1].copy()} if config.is_encoder_decoder else {}
    return ({main: numbers} | more,)


def _own(place: str, factory: str) -> tuple[Any, Any]:
    with _importable(os.getcwd()):
        module = _imported(place)
        if not callable(getattr(module, factory, None)):
            raise ValueError(f"{place} must have a function {factory}, found none of that name")
        with _theirs(f"{place}:{factory} must return a model or (model, *inputs) when it is called without arguments"):
            made = getattr(module, factory)()
    if isinstance(made, Network):
        return made, made.example if isinstance(made.example, tuple) else (made.example,)
    # a transformed function of Haiku is a tuple, too
    return (made[0], made[1:] or None) if type(made) is tuple else (made, None)


def _imported(place: str) -> Any:
    if not place.endswith(".py"):
        with _theirs(f"{place} must be a module that Python can import here, or a file that ends in .py"):
            return importlib.import_module(place)
    if not Path(place).is_file():
        raise ValueError(f"{place} must be a file, found none of that name in {os.getcwd()}")
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # what a class of it is asked for by name, copying it say, is looked up there
    sys.modules.setdefault(spec.name, module)
    with _theirs(f"{place} must be a file that Python can import"):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _theirs(must: str) -> Iterator[None]:
    """Whatever code that is not ours raises, said as what it must do."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{must}, but raised {type(error).__name__}: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def _importable(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _made(package: str, name: str, make: Callable[[], Any], known: Callable[[], list[str]]) -> Any:
    if name not in known():
        raise ValueError(_unknown(package, name, known()))
    with _theirs(f"{package} must make {name} with these options"):
        return make()


def _unknown(package: str, name: str, known: list[str]) -> str:
    near = ", ".join(difflib.get_close_matches(name, known, cutoff=0.0)) or "none"
    return f"{package} must have a model of that name, found none called {name!r}; near it are {near}"


def _drawn(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


KINDS: dict[str, Callable[[str], tuple[Any, Any]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "keras": _keras,
    "hf": _hugging_face,
}
