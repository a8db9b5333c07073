"""What a command is about: a network, and files of its weights."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dwalign
from dwalign.cli.data import read_data, task_of
from dwalign.cli.narrate import stage
from dwalign.cli.options import Asked, Matched

# to check a spec takes several times the memory of a network
MOST = 2**28


class Subject(NamedTuple):
    """JAX is loaded where it is used, since `--help` shall not wait for it.

    Attributes:
    network: the `Network`.
    weights: an opened file for each network, `dwalign.files.Weights`.
    params: their trees; leaves are read when they are asked for.
    data: what is matched on, or None.
    task: what the networks are for, told by the labels.
    key: of all that is drawn at random.
    """

    network: Any
    weights: tuple[Any, ...]
    params: tuple[Any, ...]
    data: Any
    task: Any
    key: Any

    def in_memory(self, method: Any) -> tuple[Any, ...]:
        """The networks as `method` needs them: arrays, unless it reads weights on the host, one array at a time."""
        if method.host and self.data is None:
            return self.params
        import jax

        return tuple(jax.tree.map(np.asarray, one) for one in self.params)

    def certified(self, asked: Matched) -> bool:
        """Whether the spec is to be checked on numbers."""
        return self.size < MOST if asked.certify is None else asked.certify

    @property
    def size(self) -> int:
        """Numbers in one network."""
        import jax

        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.network.params))

    def named(self, networks: Sequence[Any]) -> dict[str, Any]:
        """Networks, one a file, by the names of the files."""
        names = [one.path.name for one in self.weights]
        own = [name if names.count(name) == 1 else f"{name} ({k + 1})" for k, name in enumerate(names)]
        return dict(zip(own, networks, strict=True))

    def write(self, output: Path, params: Any, *, like: int, overwrite: bool) -> None:
        """Write a network as the file of number `like` is laid out; a folder gets what else lies in that one."""
        files = [one.path for one in self.weights]
        tensors = dwalign.files.unbind(params)
        source = self.weights[like]
        dwalign.files.write_weights(output, tensors, like=source, overwrite=overwrite, inputs=files)
        if output.is_dir() and source.path.is_dir() and source.format == "safetensors":
            # config.json, the tokenizer and the like, without which nobody can load it
            for file in source.path.iterdir():
                if file.is_file() and file.suffix not in dwalign.files.SUFFIXES and not (output / file.name).exists():
                    shutil.copy2(file, output / file.name)


def open_subject(
    asked: Asked, files: Sequence[Path], *, output: Path | None = None, like: int = 0, overwrite: bool = False
) -> Subject:
    """Open files, data and model, what is quickest first; an output, as `Subject.write` takes it, must be free.

    Raises:
      FileError: a file is missing or damaged, or is none of this network.
      ValueError: there is no such network, or no inputs to trace it with.
    """
    import jax

    weights = tuple(dwalign.files.open_weights(file) for file in files)
    if output is not None:
        dwalign.files.check_output(output, like=weights[like], inputs=files, overwrite=overwrite)
    data = None if asked.data is None else read_data(asked.data)
    with stage(f"reading the program of {asked.network}"):
        model, example = dwalign.frontends.find_model(asked.network)
        if data is not None:
            few = dwalign.program.take_examples(data.inputs, slice(2))
            example = few if isinstance(few, tuple) else (few,)
        if example is None:
            raise ValueError(
                f"--network {asked.network}: the shape of its inputs must be known, pass --data images.npz or let the "
                "factory return (model, inputs)"
            )
        # the values lie in the files
        shapes = dwalign.frontends.shapes_of(model)
        network, _ = dwalign.from_model(model, *example, params=shapes, key=jax.random.key(asked.seed))
    params = tuple(dwalign.files.bind(one, network.params) for one in weights)
    task = task_of(data) if data else dwalign.CLASSIFICATION
    return Subject(network, weights, params, data, task, jax.random.key(asked.seed))


def choose_method(asked: Matched, subject: Subject) -> Any:
    """The method that is asked for; "auto" is the best that the data allow, by the tables of the README."""
    if asked.method == "auto":
        labels = subject.data is not None and subject.data.labels is not None
        inputs = "activation_matching_correlation"
        return dwalign.find_method(f"{inputs}+refine" if labels else inputs if subject.data else "weight_matching")
    method = dwalign.find_method(asked.method)
    if asked.aligner is None:
        return method
    folder = asked.aligner / "checkpoints" / "best"
    aligner = dwalign.load_aligner(folder if folder.exists() else asked.aligner, network=subject.network)
    return dwalign.chain(*(one.using(aligner=aligner) if one.asks == "aligner" else one for one in method.parts))
