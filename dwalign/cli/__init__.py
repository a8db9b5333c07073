"""The door for people: `dwalign merge a.safetensors b.safetensors --network timm:resnet18 -o merged.safetensors`.

One command a file, thin: what a command does is done by the library. Files here import nothing heavy when they are
loaded, so that `--help` answers at once.
"""

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from dwalign.cli.words import in_words

COMMANDS = {
    "spec": "what can be permuted in a network, what is fixed, and why",
    "align": "write one network in the order of another",
    "merge": "two or more networks into one file",
    "compare": "distances before and after alignment, and what lies between networks",
    "evaluate": "loss and accuracy of networks on data",
    "train": "train an aligner for a network of your own",
    "report": "one HTML page of a merge or an experiment",
    "rerun": "do again what a recipe says",
}


def script() -> None:
    """`main` as a process of its own, which ends with its status.

    What was interrupted ends at once: XLA's threads may still be at work, and read what an interpreter takes down that
    leaves in good order.
    """
    status = main()
    if status > 128:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 for what the caller can put right."""
    if args is None:
        # so that what is half written is taken away
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    args = list(sys.argv[1:] if args is None else args)
    name, *rest = args or ["--help"]
    if name == "--version":
        import dwalign

        print(f"dwalign {dwalign.__version__}")
        return 0
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        print(f"dwalign: the command must be one of {', '.join(COMMANDS)}, got {name!r}", file=sys.stderr)
        return 2
    return run(name, rest)


def usage() -> str:
    """What `dwalign --help` prints."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items())
    return "\n".join(
        ["usage: dwalign COMMAND ...", "", "Align, compare and merge independently trained networks.", "", *lines, ""]
        + ["`dwalign COMMAND --help` says more of one command."]
    )


def run(name: str, args: Sequence[str]) -> int:
    """Run the command of this name; what can be expected to fail ends with one line."""
    asked = None
    try:
        import tyro

        from dwalign.memory import enough_memory

        command = importlib.import_module(f"dwalign.cli.{name}")
        asked = tyro.cli(command.Options, prog=f"dwalign {name}", args=list(args))
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"dwalign {name}: {message}", file=sys.stderr)
            with enough_memory(name, {}):
                command.main(asked)
    # what the library says is wrong with what it was given; with a traceback for who wants to know where
    except (ValueError, RuntimeError, ImportError, OSError, FloatingPointError, MemoryError) as error:
        if os.environ.get("DWALIGN_TRACEBACK"):
            raise
        print(f"dwalign {name}: {in_words(error, asked)}", file=sys.stderr)
        return 2
    # help has been printed, or what is wrong with the options, of a recipe's too
    except SystemExit as left:
        return int(left.code or 0)
    except KeyboardInterrupt:
        print(f"dwalign {name}: interrupted", file=sys.stderr)
        return 130
    return 0
