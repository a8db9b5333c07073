"""What every experiment can be told, and how a script starts.

Settings of a component are the dataclass that it takes, so that flags, presets and config.json name them alike:
`--training.steps 300`, `{"training.steps": 300}`, `{"training": {"steps": 300}}`.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from dwalign import deepalign, report, zoo
from dwalign.bounds import Amount, Count, Points, settings
from dwalign.encoders import ENCODERS
from dwalign.files import FileError

T = TypeVar("T")
C = TypeVar("C", bound="Options")
Changes = Mapping[str, Any]
LOCAL = ("resume", "data_dir", "out", "skip")
ERRORS = (
    zoo.DataError,
    FileError,
    report.RunError,
    report.ResultsError,
    deepalign.CheckpointError,
    FloatingPointError,
)


@settings
class Networks:
    """How many networks play each role, those for testing in pairs."""

    train: Amount = 900
    validation: Amount = 40
    pairs: Amount = 50
    """held-out pairs on which methods are judged."""
    chunk: Count = 150
    """networks that are trained at once."""

    def size(self, views: int | None = None) -> zoo.ZooSize:
        """The size of a zoo with so many disjoint pairs for testing (of `views` of one signal)."""
        views = views or 2
        return zoo.ZooSize(self.train, self.validation, -(-self.pairs // (views // 2)) * views)


@settings
class Options:
    """What every experiment can be told."""

    data_dir: str | None = None
    """where TFDS keeps prepared data; TFDS's own default if not given."""
    preset: str = "default"
    """sets everything below, single values can still be given: smoke, paper, or what the script has besides."""
    out: str = "runs"
    """results go to a folder of OUT named after the experiment, zoos are shared in OUT/zoos."""
    resume: bool = False
    """continue an interrupted run."""
    seeds: Amount = 1
    """number of aligners, each from its own seed; 0 judges the methods that need none."""
    skip: tuple[str, ...] = ()
    """methods to leave out, such as sinkhorn, where they take too long; all but naive and deep_align can be."""

    networks: Networks = Networks()
    recipe: zoo.Recipe = zoo.Recipe()
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig()
    training: deepalign.Optimisation = deepalign.Optimisation(steps=1200)
    losses: deepalign.LossWeights = deepalign.LossWeights()
    augmentation: zoo.Augmentation = zoo.Augmentation()
    unrolled: Amount | None = None
    """steps of descent that training goes through; the pass may take more, or all of them untrained (0)."""
    target_pairs: Amount = 0
    """training pairs that refinement aligns as targets; 0 trains without them."""
    target_steps: Amount = 20
    validate_every: Count = 100

    refine_images: Count | None = 1024
    """training images in each step of refinement; all if not given."""
    sinkhorn_iterations: Count = 1000
    chunk: Count = 10
    """pairs that are aligned at once."""
    points: Points = 25
    """networks on the path that are judged, both ends included; an odd number."""


SMOKE: Changes = {
    "networks.train": 40,
    "networks.validation": 8,
    "networks.pairs": 4,
    "networks.chunk": 40,
    "recipe.epochs": 10,
    "aligner.channels": 16,
    "aligner.depth": 2,
    "aligner.features": 32,
    "aligner.updates": 1,
    "target_pairs": 20,
    "target_steps": 5,
    "training.steps": 20,
    "validate_every": 10,
    "refine_images": 256,
    "sinkhorn_iterations": 20,
    "chunk": 2,
}


# networks, pairs and steps as in the paper, for those who have an accelerator
PAPER: Changes = {
    "networks.train": 8000,
    "networks.validation": 100,
    "networks.pairs": 200,
    "training.steps": 25000,
}


def change(options: T, changes: Changes) -> T:
    """The same with other values, named as on the command line: `change(options, {"training.steps": 20})`."""
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        new = change(getattr(options, first), {rest: value}) if rest else value
        options = dataclasses.replace(options, **{first: new})  # type: ignore[type-var]
    return options


def read_options(
    kind: type[C],
    args: Sequence[str],
    description: str | None,
    *,
    own: Callable[[Any], Changes] = lambda first: {},
    **presets: Changes,
) -> C:
    """Command line to options.

    What no flag gives comes from the preset, or else from `own(options)`, the defaults of a data set or a network.
    `presets` are those that the script has in place of `SMOKE` and `PAPER`, or beside them.
    """
    first, _ = tyro.cli(kind, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    choices = {f.name: getattr(first, f.name) for f in dataclasses.fields(kind) if f.name in ("dataset", "network")}
    presets = {"default": {}, "smoke": SMOKE, "paper": PAPER} | presets
    if first.preset not in presets:
        raise report.RunError(f"options: preset must be one of {sorted(presets)} here, found {first.preset!r}")
    base = change(kind(preset=first.preset, **choices), {**own(first), **presets[first.preset]})
    options = tyro.cli(kind, args=args, default=base, description=description)
    check(options)
    return options


def check(options: Options) -> None:
    """Raise `RunError` for options that do not fit one another, which would fail only after hours."""
    # parts of an experiment make zoos without these
    networks = options.networks
    if min(networks.train, networks.validation) < 2 or networks.pairs < 1:
        raise report.RunError(
            "options: networks.train and networks.validation must be at least 2 and networks.pairs 1, found "
            f"{networks.train}, {networks.validation} and {networks.pairs}"
        )
    if options.aligner.encoder not in ENCODERS:
        raise report.RunError(
            f"options: aligner.encoder must be one of {sorted(ENCODERS)}, found {options.aligner.encoder!r}"
        )
    if options.unrolled is not None and not 0 <= options.unrolled <= options.aligner.descent:
        raise report.RunError(
            "options: training goes through at most the steps of the pass: unrolled must be from 0 to "
            f"aligner.descent, found {options.unrolled} and {options.aligner.descent}"
        )
    if networks.pairs % options.chunk:
        raise report.RunError(
            f"options: chunk must divide networks.pairs, found {options.chunk} and {networks.pairs}; "
            f"give --chunk {math.gcd(options.chunk, networks.pairs)}"
        )


def open_folder(options: Options, experiment: str) -> tuple[Path, dict[str, Any]]:
    """The run's folder, and the options that decide its results."""
    settings = {key: value for key, value in dataclasses.asdict(options).items() if key not in LOCAL}
    return report.open_run(Path(options.out) / experiment, settings, resume=options.resume), settings


def run(main: Callable[[Any], Any], read: Callable[[list[str]], Any]) -> None:
    """Run a script; what can be expected to fail ends with one line."""
    try:
        main(read(sys.argv[1:]))
    except ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command with --resume continues")
