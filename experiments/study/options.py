"""What every experiment can be told, and how a script starts."""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from dwalign import deepalign, report, zoo

C = TypeVar("C", bound="Options")
LOCAL = ("resume", "data_dir", "out", "skip")
ERRORS = (
    zoo.DataError,
    zoo.ZooError,
    report.RunError,
    report.ResultsError,
    deepalign.CheckpointError,
    FloatingPointError,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What every experiment can be told."""

    data_dir: str | None = None
    """where TFDS keeps prepared data; TFDS's own default if not given."""
    preset: Literal["smoke", "default", "paper"] = "default"
    """sets everything below; single values can still be given."""
    out: str = "runs"
    """results go to a folder of OUT named after the experiment, zoos are shared in OUT/zoos."""
    resume: bool = False
    """continue an interrupted run."""
    seeds: int = 1
    """number of aligners, each from its own seed; 0 judges the methods that need none."""
    skip: tuple[str, ...] = ()
    """methods to leave out, such as sinkhorn, where they take too long; all but naive and deep_align can be."""

    train_networks: int = 900
    validation_networks: int = 40
    test_pairs: int = 50
    zoo_chunk: int = 150
    epochs: int = 40
    zoo_batch_size: int = 64
    zoo_learning_rate: float = 2e-3

    encoder: Literal["dws", "graph", "probe"] = "probe"
    """the default is as good as any by measurement at equal training time."""
    channels: int | None = None
    """width of the encoder; its own default if not given."""
    depth: int | None = None
    """rounds of messages (graph, probe) or hidden layers (dws); likewise."""
    features: int = 128
    probes: int = 128
    """inputs that the aligner learns, for the probe encoder and for descent."""
    updates: int = 3
    """unrolled score updates."""
    descent: int = 0
    """unrolled steps of midpoint refinement on learned inputs."""
    unrolled: int | None = None
    """steps of descent that training goes through; the pass may take more, or all of them untrained (0)."""
    outputs: Literal["logits", "values"] = "logits"
    """of the networks."""
    shared: bool = False
    """layers of one role share the encoder's parameters."""
    target_pairs: int = 0
    """training pairs that refinement aligns as targets; 0 trains without them."""
    target_steps: int = 20
    through: int = 0
    """steps of refinement through which the aligner is trained."""
    hard: bool = False
    """take the losses of permutations, not of soft plans; their gradient is that of the plans."""
    steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 1e-3
    supervised: float = 1.0
    alignment: float = 1.0
    mode_connectivity: float = 1.0
    midpoint: bool = True
    """take the mode-connectivity loss at the midpoint, not anywhere on the path as the paper does."""
    distillation: float = 1.0
    validate_every: int = 100

    refine_images: int = 1024
    """training images in each step of refinement."""
    sinkhorn_iterations: int = 1000
    chunk: int = 10
    """pairs that are aligned at once."""
    points: int = 25
    """networks on the path that are judged, both ends included; an odd number."""


SMOKE = dict(
    train_networks=40,
    validation_networks=8,
    test_pairs=4,
    zoo_chunk=40,
    epochs=10,
    channels=16,
    depth=2,
    features=32,
    updates=1,
    target_pairs=20,
    target_steps=5,
    steps=20,
    validate_every=10,
    refine_images=256,
    sinkhorn_iterations=20,
    chunk=2,
)


# networks, pairs and steps as in the paper, for those who have an accelerator
PAPER = dict(train_networks=8000, validation_networks=100, test_pairs=200, steps=25000)


def read_options(
    kind: type[C],
    args: Sequence[str],
    description: str | None,
    *,
    own: Callable[[Any], Mapping[str, Any]] = lambda first: {},
    smoke: Mapping[str, Any] = SMOKE,
    paper: Mapping[str, Any] = PAPER,
) -> C:
    """Command line to options.

    What no flag gives comes from the preset, or else from `own(options)`, the defaults of a data set or a network.
    """
    first, _ = tyro.cli(kind, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    choices = {f.name: getattr(first, f.name) for f in dataclasses.fields(kind) if f.name in ("dataset", "network")}
    preset: Mapping[str, Any] = {"smoke": smoke, "default": {}, "paper": paper}[first.preset]
    base = dataclasses.replace(kind(preset=first.preset, **choices), **{**own(first), **preset})
    options = tyro.cli(kind, args=args, default=base, description=description)
    check(options)
    return options


def check(options: Options) -> None:
    """Raise `RunError` for what would fail only after hours."""
    least = dict(seeds=0, steps=1, validate_every=1, batch_size=1, chunk=1, test_pairs=1, zoo_chunk=1, epochs=1)
    least |= dict(train_networks=2, validation_networks=2)
    if wrong := [f"{name} at least {low}" for name, low in least.items() if getattr(options, name) < low]:
        found = {name: getattr(options, name) for name in least}
        raise report.RunError(f"options: need {', '.join(wrong)}, found {found}")
    if options.unrolled is not None and not 0 <= options.unrolled <= options.descent:
        raise report.RunError(
            "options: training goes through at most the steps of the pass: unrolled must be from 0 to descent, "
            f"found {options.unrolled} and {options.descent}"
        )
    if options.points < 3 or options.points % 2 == 0:
        raise report.RunError(f"options: points must be odd and at least 3, found {options.points}")
    if options.test_pairs % options.chunk:
        raise report.RunError(
            f"options: chunk must divide test_pairs, found {options.chunk} and {options.test_pairs}; "
            f"give --chunk {math.gcd(options.chunk, options.test_pairs)}"
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
