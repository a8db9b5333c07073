"""Files that were damaged: bytes that flip, go, or change places, and JSON that says something else.

Whoever reads one says so in one line of ours that names the file, or gives what is in it: where the format keeps
checksums that is what was written, elsewhere it may be other numbers.
"""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from dwalign import zoo
from dwalign.cli.recipe import read_recipe
from dwalign.files import FileError, open_weights, sealed, unbind, write_weights
from dwalign.files.described import describe
from dwalign.many.alignments import open_alignments, write_part
from dwalign.report.results import read_results, write_results
from dwalign.report.runs import RunError, open_run
from dwalign.report.schema import ResultsError
from dwalign.symmetry import Axes, PermutationSpec, SpecError

WEIGHTS = {
    "dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "dense/bias": np.linspace(-1, 1, 4).astype(np.float32),
    "step": np.arange(5, dtype=np.int64),
    "half": np.ones((2, 3), np.float16),
}
SPEC = PermutationSpec(
    {"up": Axes.parse("_, h0*h1"), "down": [Axes.parse("h0*h1^-1, _"), Axes.parse("1 + h2")]},
    {"h0": 2, "h1": 3, "h2": 4}, batch={"h1": ("h0",)}, kinds={"h1": "scale"},
)  # fmt: skip
# of a value in JSON: what stands in its place
OTHERS = (None, True, -1, 10**30, 1.5, float("nan"), "", "x" * 300, "\0", "../..", [], [[]], {}, {"": 0}, "h0", 0)


class Damage(NamedTuple):
    """Attributes:
    how: bytes that flip ("bit"), go ("cut", "gone"), come ("twice", "noise") or change places ("swap"); in JSON a value
      that goes ("field") or is another one ("value").
    at, to: where, as a share of all places.
    what: which bit or value; how many bytes.
    """

    how: str
    at: float = 0.5
    to: float = 0.5
    what: int = 0


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
      write: makes one, given where.
      read: what is in it.
      error: what may be raised instead.
      exact: whether a reader can tell that a byte changed.
    """

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    error: type[Exception] = FileError
    exact: bool = False


shares = st.floats(0, 1, exclude_max=True)
BYTES = ("bit", "cut", "gone", "twice", "noise", "swap")
FIELDS = ("field", "value", "twin")


def damages(text: bool) -> st.SearchStrategy[Damage]:
    return st.builds(Damage, st.sampled_from(BYTES + FIELDS if text else BYTES), shares, shares, st.integers(0, 63))


def harm(content: bytes, damage: Damage) -> bytes:
    """The content, damaged."""
    if damage.how in FIELDS:
        return _other(content, damage)
    size, length = len(content), 1 << damage.what % 8
    at, to = int(damage.at * size), int(damage.to * size)
    part, there = content[at : at + length], content[to : to + length]
    out = bytearray(content)
    if damage.how == "bit" and size:
        out[at] ^= 1 << damage.what % 8
    elif damage.how == "cut":
        del out[at:]
    elif damage.how == "gone":
        del out[at : at + length]
    elif damage.how == "twice":
        out[to:to] = part
    elif damage.how == "noise":
        out[at : at + length] = np.random.default_rng(to).bytes(length)
    else:
        out[at : at + len(there)], out[to : to + len(part)] = there, part
    return bytes(out)


def _other(content: bytes, damage: Damage) -> bytes:
    """JSON with one value changed."""
    tree = json.loads(content)
    places = list(_places(tree))
    inside, key = places[int(damage.at * len(places))]
    if damage.how == "field":
        del inside[key]
    elif damage.how == "twin":
        there, other = places[int(damage.to * len(places))]
        inside[key] = copy.deepcopy(there[other])
    else:
        inside[key] = OTHERS[damage.what % len(OTHERS)]
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def arrays(path: Path) -> dict[str, Any]:
    return {name: np.asarray(array) for name, array in open_weights(path).items()}


def _weights(suffix: str, exact: bool = False) -> Kind:
    return Kind(f"w{suffix}", lambda path: write_weights(path, WEIGHTS), arrays, exact=exact)


def _keras(path: Path) -> None:
    """What Keras's own archive holds: a configuration and weights."""
    import zipfile

    inner = path.with_suffix(".weights.h5")
    write_weights(inner, WEIGHTS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(inner, "model.weights.h5")
    inner.unlink()


def _shards(folder: Path) -> None:
    folder.mkdir()
    names = list(WEIGHTS)
    shards = {"a.safetensors": names[:2], "b.safetensors": names[2:]}
    for file, inside in shards.items():
        write_weights(folder / file, {name: WEIGHTS[name] for name in inside})
    places = {name: file for file, inside in shards.items() for name in inside}
    index = {"metadata": {"total_size": 120}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _networks(folder: Path) -> None:
    stacked = {name: np.stack([array, 2 * array]) for name, array in WEIGHTS.items()}
    with contextlib.redirect_stderr(io.StringIO()):
        zoo.save_networks(folder, lambda k: stacked, 4, shard=2)


def _read_networks(folder: Path) -> dict[str, Any]:
    networks = zoo.open_networks(folder)
    return {f"{k}/{name}": array for k in range(len(networks)) for name, array in unbind(networks[k]).items()}


def _alignments(folder: Path) -> None:
    describe(folder / "alignments.json", {"spec": SPEC.to_json(), "parts": [2, 2]})
    rng = np.random.default_rng(0)
    for part in range(2):
        columns = {name: rng.random(2).astype(np.float32) for name in ("before", "after")}
        columns |= {name: rng.integers(9, size=2) for name in ("a", "b")}
        rows = {group: np.tile(np.arange(n), (2, *SPEC.batch_shape(group), 1)) for group, n in SPEC.sizes.items()}
        perms = {group: rng.permuted(one, axis=-1) for group, one in rows.items()}
        write_part(folder, part, columns, perms)


def _read_alignments(folder: Path) -> dict[str, Any]:
    found = open_alignments(folder)
    parts = [found.part(k) for k in range(len(found.parts))]
    return {"spec": found.spec} | {
        f"{k}/{kind}/{name}": array
        for k, part in enumerate(parts)
        for kind, arrays in zip(("columns", "perms"), part, strict=True)
        for name, array in arrays.items()
    }


def _results(path: Path) -> None:
    number = {"mean": 0.5, "ci95": [0.4, 0.6], "values": [[0.5, 0.5]]}
    curve = {"lambdas": [0.0, 1.0], "loss": [1.0, 2.0], "accuracy": [0.5, 0.6]}
    metrics = dict.fromkeys(("barrier", "auc", "midpoint_accuracy", "seconds_per_pair"), number)
    target = {"method": "a", "metric": "auc", "against": "b", "factor": 1.0, "ratio": None, "met": False}
    about = {"python": "3", "platform": "p", "cores": 1, "packages": {}}
    whole = {"experiment": "e", "config": {}, "environment": about, "zoo": {}, "targets": [target]}
    write_results(path, {**whole, "methods": {"a": {**metrics, "curve": curve}}})


CONFIG = {"preset": "smoke", "training": {"steps": 10, "rate": 0.1}, "seeds": [1, 2], "name": None}
RECIPE = {"dwalign": "1", "command": "merge", "options": {"a": "a.npz", "output": "o.npz"}, "read": {"a.npz": "0"}}
KINDS = {
    kind.name: kind
    for kind in (
        _weights(".safetensors"),
        _weights(".npz", exact=True),
        _weights(".msgpack"),
        _weights(".h5"),
        Kind("w.keras", _keras, arrays, exact=True),
        _weights(".pt", exact=True),
        _weights(".orbax"),
        Kind("shards", _shards, arrays),
        Kind("networks", _networks, _read_networks),
        Kind("alignments", _alignments, _read_alignments),
        Kind(
            "spec.json", lambda path: path.write_text(SPEC.to_json()),
            lambda path: PermutationSpec.from_json(path.read_bytes().decode("utf-8", "replace")), SpecError,
        ),
        Kind("results.json", _results, read_results, ResultsError),
        Kind(
            "config.json", lambda path: path.write_text(json.dumps(sealed(CONFIG))),
            lambda path: open_run(path.parent, CONFIG, resume=True) and None, RunError,
        ),
        Kind("run.recipe.yaml", lambda path: path.write_text(json.dumps(sealed(RECIPE))), read_recipe),
    )
}  # fmt: skip
TEXT = ("shards", "networks", "alignments", "spec.json", "results.json", "config.json", "run.recipe.yaml")
Case = tuple[str, tuple[Damage, ...], float]
cases: st.SearchStrategy[Case] = st.sampled_from(list(KINDS)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(damages(name in TEXT), min_size=1, max_size=2).map(tuple), shares)
)


def judge(name: str, damage: tuple[Damage, ...], which: float, folder: Path) -> str:
    """What came of it: "refused", "same" or "other"; an exception says what must not be.

    Args:
      which: of the files of a folder, as a share of all.
      folder: empty.
    """
    kind, path = KINDS[name], folder / name
    kind.write(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    file = files[int(which * len(files))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, content = kind.read(path), file.read_bytes()
        for one in damage:
            if one.how in FIELDS and not _is_json(content):
                continue
            content = harm(content, one)
        file.write_bytes(content)
        try:
            found = kind.read(path)
        except kind.error as error:
            said = str(error)
            assert "\n" not in said and "\x1b" not in said and len(said) < 900, f"an error must be one line: {said}"
            assert str(folder) in said or kind.error is SpecError, f"an error must name the file: {said}"
            return "refused"
    same = alike(whole, found)
    assert same or not kind.exact, "what was read must be what was written, since the format has checksums"
    return "same" if same else "other"


def alike(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray):
        return (
            isinstance(two, np.ndarray)
            and one.dtype == two.dtype
            and one.shape == two.shape
            and one.tobytes() == two.tobytes()
        )
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(alike(one[key], two[key]) for key in one)
    return bool(one == two)


def _is_json(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict | list) and bool(list(_places(json.loads(content))))
    except (ValueError, RecursionError):
        return False
