"""What is wrong with the input of a command is one line, which names it, and nothing is written."""

import contextlib
import errno
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from dwalign import files
from dwalign.bounds import bounded
from dwalign.cli import main, script
from dwalign.cli.train import Options as Train
from dwalign.cli.words import in_words
from dwalign.frontends import find_model
from tests import drawn

NETS = """
import flax.linen as nn
import numpy as np
from dwalign.networks import mlp as pure

MODEL = nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)])
INPUTS = np.zeros((2, 6), np.float32)
number = 3

def mlp(): return MODEL, INPUTS
def bare(): return MODEL
def none(): return None
def needs(width): return MODEL, INPUTS
def fails(): return {}["width"]
def leaves(): raise SystemExit
def more(): return MODEL, INPUTS, INPUTS
def narrow(): return pure(6, (5,), 3), INPUTS[:, :4]
"""
KERNEL = "params/layers_0/kernel"
SHAPES = {"params/layers_0/bias": (5,), KERNEL: (6, 5), "params/layers_2/bias": (3,), "params/layers_2/kernel": (5, 3)}
X, Y = drawn.normal(8, 6), np.arange(8) % 3


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    with contextlib.chdir(folder):
        Path("nets.py").write_text(NETS)
        Path("syntax.py").write_text("def f(:")
        Path("imports.py").write_text("import there_is_none_of_this_name")
        a, b, c = ({name: drawn.normal(*shape, seed=k) for name, shape in SHAPES.items()} for k in range(3))
        wrong = {
            "missing": {name: b[name] for name in b if name != KERNEL},
            "extra": b | {"more": b[KERNEL]},
            "shape": b | {KERNEL: b[KERNEL][:, :4]},
            "nan": b | {KERNEL: b[KERNEL] * np.nan},
            "integers": b | {KERNEL: np.int32(b[KERNEL])},
            "text": b | {KERNEL: b[KERNEL].astype(str)},
        }
        for name, tensors in {"a": a, "b": b, "c": c, **wrong}.items():
            np.savez(f"{name}.npz", **tensors)
        whole = Path("b.npz").read_bytes()
        for name, content in {
            "cut.npz": whole[:300], "empty.npz": b"", "other.safetensors": whole, "one.msgpack": b"\x81", "b": whole,
            "file.orbax": whole,
            "README.md": b"# mine\n", "there.npz": whole,
        }.items():  # fmt: skip
            Path(name).write_bytes(content)
        data = {
            "data": {"inputs": X, "labels": Y},
            "unlabelled": {"inputs": X},
            "no_inputs": {"labels": Y},
            "narrow": {"inputs": X[:, :4], "labels": Y},
            "two": {"inputs.0": X, "inputs.1": X},
            "both": {"inputs": X, "inputs.0": X},
            "fewer": {"inputs": X, "labels": Y[:5]},
            "none": {"inputs": X[:0], "labels": Y[:0]},
            "nan_inputs": {"inputs": X * np.nan},
            "inf_inputs": {"inputs": X * np.inf, "labels": Y},
            "complex": {"inputs": X.astype(complex), "labels": Y},
            "out_of_range": {"inputs": X, "labels": Y + 1},
            "column": {"inputs": X, "labels": np.float32(Y[:, None])},
            "words": {"inputs": X, "labels": Y.astype(str)},
        }
        Path("data").mkdir()
        for name, arrays in data.items():
            np.savez(f"data/{name}.npz", **arrays)
        np.save("data/array.npy", X)
        Path("recipe.yaml").write_text(yaml.safe_dump({"command": "merge", "options": {"wieghts": [1]}}))
        Path("read.yaml").write_text(yaml.safe_dump({"command": "merge", "options": {}, "read": [1]}))
        Path("number.yaml").write_text(yaml.safe_dump({"command": "merge", "options": {3: 4}}))
        seed = {"network": "nets.py:mlp", "output": "out.npz", "seed": "x"}
        Path("seed.yaml").write_text(yaml.safe_dump({"command": "merge", "options": seed}))
        Path("broken.yaml").write_text('{"command": "me')
        Path("list.yaml").write_text(yaml.safe_dump({"command": "merge", "options": ["a"]}))
        yield folder


MERGE = "merge a.npz b.npz --network nets.py:mlp --method weight_matching -o out.npz"
THREE = MERGE.replace("b.npz", "b.npz c.npz")
TRAIN = "train a.npz b.npz c.npz a.npz b.npz c.npz --network nets.py:mlp -o out"


PYTHON = (
    r"\b(Data|Task|Network)\(|\b(data|task|renew|key|params|network|overwrite|chunk)=|lambda|\.using\("
    r"|^dwalign \w+: \w+: "
)


def of(file):
    return MERGE.replace("b.npz", file)


def judged_on(file):
    return f"evaluate a.npz --network nets.py:mlp --data data/{file}"


def named(network):
    return f"spec --network {network}"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (of("none.npz"), "none.npz must be a file or folder"),
        (of("missing.npz"), f"missing.npz must hold missing {KERNEL} choose"),
        (of("extra.npz"), "extra.npz must hold not in the network are more choose"),
        (of("shape.npz"), f"shape.npz: {KERNEL} must have shape (6, 5), found (6, 4); choose"),
        (of("nan.npz"), "finite layers_0 kernel 30 NaN b is nan.npz"),
        (THREE.replace("c.npz", "nan.npz"), "finite networks[2] layers_0 kernel 30 NaN a.npz, b.npz, nan.npz"),
        (of("integers.npz"), "same kinds of numbers layers_0 kernel int32 convert b is integers.npz"),
        (of("text.npz"), f"text.npz: {KERNEL} must be numbers"),
        (of("cut.npz"), "cut.npz must be a whole .npz"),
        (of("empty.npz"), "empty.npz must be npz an empty file"),
        (of("other.safetensors"), "other.safetensors must be safetensors looks like npz rename"),
        (of("one.msgpack"), "one.msgpack must be a whole msgpack"),
        (of("b"), "b must end in one of"),
        (of("file.orbax"), "file.orbax must be a folder, as Orbax writes one"),
        (of("data"), "data must be a folder of safetensors or Orbax"),
        (judged_on("gone.npz"), "data/gone.npz must be an .npz"),
        (judged_on("array.npy"), "data/array.npy must be an .npz np.savez"),
        (judged_on(""), "data must be an .npz"),
        (judged_on("../cut.npz"), "data/../cut.npz must be an .npz"),
        (judged_on("unlabelled.npz"), "data/unlabelled.npz must hold `labels`"),
        (judged_on("no_inputs.npz"), "data/no_inputs.npz must hold `inputs`"),
        (
            judged_on("narrow.npz"),
            "a.npz: must have shape (4, 5) or other inputs than float32 (8, 4) in data/narrow.npz",
        ),
        (judged_on("two.npz"), "nets.py:mlp must take inputs the first of data/two.npz"),
        (judged_on("both.npz"), "data/both.npz must hold one array `inputs` leave one out"),
        (judged_on("fewer.npz"), "data/fewer.npz: equally many examples"),
        (judged_on("none.npz"), "data/none.npz: at least one"),
        (judged_on("nan_inputs.npz"), "data/nan_inputs.npz: 48 NaN"),
        (judged_on("inf_inputs.npz"), "data/inf_inputs.npz: the loss of a.npz must be finite"),
        (judged_on("complex.npz"), "data/complex.npz: real numbers, found complex64"),
        (judged_on("out_of_range.npz"), "data/out_of_range.npz: labels must be classes 0 to 2, found 1 to 3"),
        (judged_on("column.npz"), "data/column.npz: labels of the shape of the outputs, (8, 3), found (8, 1)"),
        (judged_on("words.npz"), "data/words.npz: labels must be an array of numbers, found <U"),
        ("evaluate nan.npz --network nets.py:mlp --data data/data.npz", "finite nan.npz layers_0 kernel"),
        (f"{MERGE} --test data/unlabelled.npz", "--test data/unlabelled.npz must hold `labels`"),
        (f"{MERGE} --test data/out_of_range.npz", "data/out_of_range.npz: labels must be classes"),
        (
            f"{MERGE} --test data/narrow.npz",
            "data/narrow.npz must hold inputs that the network takes, found float32 (8, 4)",
        ),
        (named("nets.py:bare"), "nets.py:bare: the shape of its inputs must be known, pass --data"),
        (named("nets.py:none"), "nets.py:none must name a model NoneType"),
        (named("nets.py:needs"), "nets.py:needs without arguments, but raised TypeError width"),
        (named("nets.py:fails"), "nets.py:fails must return a model KeyError: 'width'"),
        (named("nets.py:leaves"), "nets.py:leaves must return a model SystemExit"),
        (named("nets.py:more"), "nets.py:more must take inputs float32 (2, 6), float32 (2, 6), but raised TypeError"),
        (named("nets.py:narrow"), "nets.py:narrow must take inputs float32 (2, 4), but apply could not be traced"),
        (named("nets.py:number"), "nets.py must have a function number"),
        (named("syntax.py:f"), "syntax.py must be a file that Python can import SyntaxError"),
        (named("imports.py:f"), "imports.py must be a file that Python can import there_is_none_of_this_name"),
        (named("gone.py:f"), "gone.py must be a file"),
        (named("gone.module:f"), "gone.module must be a module that Python can import"),
        (named("resnet18"), "must be named as kind:name"),
        (f"{MERGE} --seed -1", "--seed must be a whole number from 0"),
        (f"{MERGE} --seed {2**64}", "--seed must be a whole number from 0"),
        (f"{MERGE} --weights 0 0", "--weights must be finite 0.0 0.0"),
        (f"{MERGE} --weights 1 -1", "--weights must be finite 1.0 -1.0"),
        (f"{THREE} --weights nan 1 1", "--weights must be finite nan"),
        (f"{MERGE} --weights 1", "--weights must be one number a file, got 1 for 2"),
        (f"{MERGE} --layers layers_0", "--layers must be PATTERN=WEIGHT 'layers_0'"),
        (f"{MERGE} --layers *=nan", "--layers must be PATTERN=WEIGHT '*=nan'"),
        (f"{MERGE} --layers *=30", "--layers must be PATTERN=WEIGHT from 0 to 1"),
        (f"{MERGE} --layers layer7=0.3", "--layers: 'layer7' must be a group or fit"),
        (f"{MERGE} --keep head", "--keep: 'head' must be a group or fit"),
        (f"{MERGE} --report gone/page.html", "--report must be a file in a folder that exists"),
        (f"{MERGE} --report out.npz", "--report must be another file"),
        (f"{MERGE} --report out.recipe.yaml", "--report must be another file"),
        (f"{MERGE} --report b.npz --overwrite", "--report must be another file"),
        (
            MERGE.replace("out.npz", "data/data.npz") + " --data data/data.npz --overwrite",
            "--output must be another file than data/data.npz, which is read",
        ),
        (
            MERGE.replace("out.npz", "data/data.npz") + " --test data/data.npz --overwrite",
            "--output must be another file than data/data.npz, which is read",
        ),
        ("spec --network nets.py:mlp -o nets.py --overwrite", "--output must be another file than nets.py, which is"),
        (
            TRAIN.replace(".npz --n", ".npz a.npz b.npz c.npz a.npz --n")
            + " --data data/data.npz --pairs 2 --report data/data.npz --overwrite",
            "--report must be another file than data/data.npz, which is read",
        ),
        (f"{MERGE} --aligner gone", "--aligner is for methods that need one"),
        (MERGE.replace("weight_matching", "deep_align"), "deep_align needs --aligner"),
        (MERGE.replace("weight_matching", "auto --aligner gone"), "gone must be a folder 'any' which ship not exist"),
        (MERGE.replace("weight_matching", "refine"), "refine needs --data, an .npz with inputs and labels"),
        (
            MERGE.replace("weight_matching", "naive+refine --data data/unlabelled.npz"),
            "naive+refine needs --data, an .npz with inputs and labels, found inputs alone in data/unlabelled.npz",
        ),
        (MERGE.replace("weight_matching", "weight_maching"), "did you mean 'weight_matching'?"),
        (
            MERGE.replace("weight_matching", "weight_matching+naive"),
            "--method weight_matching+naive: naive cannot start from another method",
        ),
        (
            MERGE.replace("weight_matching", "deep_align --aligner mnist"),
            "--aligner mnist must be for networks like this one inputs (784,), found (6,) `dwalign train`",
        ),
        (f"{THREE} --how features", "'weight_matching' does not compare features those that do are 'features'"),
        (MERGE.replace("out.npz", "there.npz"), "there.npz exists --overwrite"),
        (MERGE.replace("out.npz", "b.npz") + " --overwrite", "b.npz must not be an input"),
        (MERGE.replace("out.npz", "data") + " --overwrite", "data must end in one of"),
        (MERGE.replace("out.npz", "."), "must end in one of"),
        (MERGE.replace("out.npz", "gone/out.npz"), "gone/out.npz must lie in a folder that exists; make gone"),
        (MERGE.replace("out.npz", "README.npz"), "README.md would be replaced"),
        (MERGE.replace("out.npz", "out.keras"), "out.keras needs the configuration"),
        ("compare a.npz b.npz --network nets.py:mlp --points 4", "--points must be odd and at least 3"),
        ("spec --network nets.py:mlp -o b.npz", "--output b.npz exists"),
        ("spec --network nets.py:mlp -o gone/spec.json", "--output must be a file in a folder that exists"),
        (f"{TRAIN} --data data/unlabelled.npz", "data/unlabelled.npz must hold `labels`"),
        (f"{TRAIN} --data data/data.npz --validation nan", "--validation must be a share"),
        (f"{TRAIN} --data data/data.npz --validate-every 0", "--validate-every must be at least 1"),
        (f"{TRAIN}/deeper --data data/data.npz", "out/deeper"),
        (
            f"{TRAIN} --data data/data.npz --aligner.encoder graph",
            "--aligner.* is for training from nothing --start none",
        ),
        (TRAIN, "needs --data, an .npz with inputs and labels"),
        (f"{TRAIN} --data data/data.npz --pairs 1", "--pairs must be 0, or at least 2, got 1"),
        (f"{TRAIN} --data data/data.npz --pairs 2", "needs 4 networks or more beside those of 2 pairs got 2"),
        (f"{TRAIN} --data data/data.npz --report page.html", "--report needs pairs"),
        (f"{TRAIN} --data data/data.npz --tries -1", "--tries must be at least 0"),
        ("rerun gone.yaml", "gone.yaml must be a recipe"),
        ("rerun list.yaml", "list.yaml must be a recipe"),
        ("rerun broken.yaml", "broken.yaml must be a recipe that dwalign wrote (ScannerError: while scanning"),
        ("rerun read.yaml", "read.yaml must be a recipe"),
        ("rerun number.yaml", "number.yaml must be a recipe"),
        ("rerun recipe.yaml", "recipe.yaml: options must be those of this version wieghts"),
        ("merg", "the command must be one of"),
    ],
)
def test_one_line_and_nothing_written(command, words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = {file: file.read_bytes() for file in Path().rglob("*.*") if file.is_file() and file.suffix != ".pyc"}
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if not line.startswith("  ")]
    assert not out and len(said) == 1, "what is wrong is one line, beside those that say how long what took"
    assert not re.search(PYTHON, said[0]), "what to do is said in options"
    place = 0
    for word in words.split(" "):
        assert word in said[0][place:], f"{word!r} of {words!r} must be in {said[0]!r}"
        place += said[0][place:].index(word)
    assert before == {file: file.read_bytes() for file in before}
    assert not any(file not in before for file in Path().rglob("*.*") if file.is_file() and file.suffix != ".pyc")


def test_what_a_page_needs_is_missed_before_anything_is_done(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*MERGE.split(), "--report", "page.html"]) == 2
    assert "dwalign[figures]" in capsys.readouterr().err and not Path("out.npz").exists()


def test_options_that_are_no_options_end_with_status_2(capsys):
    assert main([*MERGE.split(), "--sed", "3"]) == 2
    assert "--seed" in capsys.readouterr().err
    assert main(["merge", "--help"]) == 0


def test_a_recipe_with_an_option_that_is_none(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["rerun", "seed.yaml"]) == 2
    said = capsys.readouterr().err
    assert "--seed" in said and "dwalign rerun seed.yaml" in said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_writing(number, status, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = set(Path().iterdir())
    monkeypatch.setattr(files.npz, "write", lambda file, writing: file.touch() or signal.raise_signal(number))
    monkeypatch.setattr(sys, "argv", ["dwalign", *MERGE.split()])
    own = signal.getsignal(signal.SIGTERM)
    # what a shell runs in the background begins with it ignored
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = main()
    except SystemExit as left:
        found = left.code
    finally:
        signal.signal(signal.SIGTERM, own)
        signal.signal(signal.SIGINT, interrupt)
    assert found == status and set(Path().iterdir()) == before


@pytest.mark.parametrize("status", [130, 143])
def test_what_was_interrupted_leaves_at_once(status, monkeypatch):
    """XLA's threads crashed the process that went on to take its interpreter down."""
    left: list = []
    monkeypatch.setattr("dwalign.cli.main", lambda: status)
    monkeypatch.setattr("os._exit", left.append)
    with pytest.raises(SystemExit):
        script()
    assert left == [status]


@pytest.mark.parametrize("wrapped", [False, True])
def test_full_memory_is_said_in_options(wrapped, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def assess(*args, **options):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")

    monkeypatch.setattr("dwalign.evaluation.assess", bounded(assess) if wrapped else assess)
    assert main(["evaluate", "a.npz", "--network", "nets.py:mlp", "--data", "data/data.npz"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "dwalign evaluate: the memory of the device is full, 17,179,869,184 bytes more were needed; try fewer examples "
        "in --data or the memory of the host (JAX_PLATFORMS=cpu)"
    )
    told = in_words(MemoryError("full"), Train(network="nets.py:mlp", output=Path("out")))
    assert re.search("a smaller --recipe.batch-size, .*--training.batch-size.* or the memory of the host", told)


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(files.FileError, match=r"net\.md could not be written \(No space left on device\)"):
        files.write_bytes(tmp_path / "net.md", b"text")


def test_recipes_of_two_versions_lie_beside_one_another(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("net.v1.npz", "net.v2.npz"):
        assert main(MERGE.replace("out.npz", name).split()) == 0
    assert Path("net.v1.recipe.yaml").exists() and Path("net.v2.md").exists()
    first = np.asarray(files.open_weights("net.v1.npz")[KERNEL])
    assert main("rerun net.v1.recipe.yaml --overwrite".split()) == 0, "its own recipe and card may be replaced"
    assert np.array_equal(first, np.asarray(files.open_weights("net.v1.npz")[KERNEL]))


NORMED = """
import flax.linen as nn
import numpy as np

def make():
    norm = nn.BatchNorm(use_running_average=True)
    return nn.Sequential([nn.Dense(5), norm, nn.relu, nn.Dense(3)]), np.zeros((2, 6), np.float32)
"""


def test_statistics_that_need_data_are_told_of_before_anything_is_done(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    Path("normed.py").write_text(NORMED)
    model, inputs = find_model("normed.py:make")
    for k in range(2):
        files.write_weights(f"normed{k}.npz", files.unbind(drawn.started(model.init, *inputs, seed=k)), overwrite=True)
    merge = "merge normed0.npz normed1.npz --network normed.py:make --method weight_matching --overwrite -o normed.npz"
    for more, warned in {"--dry-run": 1, "--test data/data.npz": 1, "--data data/data.npz": 0}.items():
        assert main([*merge.split(), *more.split()]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
        assert len(lines) == warned, lines
        assert all("the statistics" in line and "pass --data" in line and not re.search(PYTHON, line) for line in lines)
