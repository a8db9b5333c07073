"""What commands can be told alike."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import tyro

Files = tyro.conf.Positional[tuple[Path, ...]]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """Of every command that reads networks."""

    network: str
    """what the files hold: timm:resnet18, torchvision:resnet18, keras:MobileNetV2, hf:FOLDER, with options after commas
    (timm:resnet18,num_classes=10); or package.module:factory or FILE.py:factory, a function without arguments that
    returns a model, or a model and example inputs; what dwalign.network makes of any JAX function is one"""
    data: Path | None = None
    """.npz that holds `inputs` and, where there are any, `labels`; several inputs are called `inputs.NAME`, or
    `inputs.0`, `inputs.1`, ..."""
    seed: int = 0
    """of all that is drawn at random"""
    json: bool = False
    """print one JSON object in place of text"""
    dry_run: bool = False
    """say what would be matched, what is fixed and why, and the memory and time to expect, and do nothing"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matched(Asked):
    """Of every command that aligns networks."""

    method: str = "auto"
    """anchored_matching, activation_matching_correlation, refine, ..., or several joined by +; auto takes what suits
    the data: refinement after activation matching with labels, else the aligner that comes with the package where it
    fits the network, else activation matching with inputs and anchored weight matching without; with --aligner it is
    that one, refined with labels"""
    kinds: Literal["permutation", "all"] = "permutation"
    """all to use signs, scales, orthogonal and linear maps beside the order of units, which transformers ask for: norms
    are folded into the maps beside them, as dwalign.fold_norms does, and what is written runs in the same model"""
    certify: Literal["auto", "yes", "no"] = "auto"
    """check on numbers that permuting does not change the function; auto does up to 268 million numbers, since it takes
    several times the memory of a network"""
    aligner: Path | None = None
    """a trained aligner, for methods that need one: the folder that `dwalign train` made, or the name of one that comes
    with the package: any, or mnist for MLPs that were trained on MNIST"""


def read_by(asked: Asked) -> list[Path]:
    """The files and folders that a command is told to read, which it never writes over."""
    kind, _, place = asked.network.partition(":")
    model = [Path(kind)] if kind.endswith(".py") else [Path(place.partition(",")[0])] if kind == "hf" else []
    more = (getattr(asked, name, None) for name in ("data", "test"))
    aligner = getattr(asked, "aligner", None)
    return [
        *getattr(asked, "files", ()),
        *model,
        *filter(None, more),
        *([aligner] if isinstance(aligner, Path) else []),
    ]


def check_apart(option: str, file: Path, taken: Iterable[Path]) -> None:
    """Raise `ValueError` where what is written would take the place of what is read, or is written beside it."""
    for one in taken:
        if file.resolve() in (one.resolve(), *one.resolve().parents):
            raise ValueError(f"--{option} must be another file than {one}, which is read or written too, got {file}")


def check_free(option: str, file: Path, overwrite: bool, taken: Iterable[Path]) -> None:
    """Raise `ValueError` unless this option names a file that may be written, and none of those that are taken."""
    check_apart(option, file, taken)
    if file.is_dir() or not file.parent.is_dir():
        raise ValueError(f"--{option} must be a file in a folder that exists, got {file}; choose or make another")
    if file.exists() and not overwrite:
        raise ValueError(f"--{option} {file} exists; choose another name, or say --overwrite")
