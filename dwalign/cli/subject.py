"""What a command is about: a network, and files of its weights."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dwalign
from dwalign.cli.data import read_data, task_of
from dwalign.cli.narrate import stage
from dwalign.cli.options import Asked, Matched, check_apart, read_by
from dwalign.cli.recipe import check_beside
from dwalign.cli.words import in_words

# to check a spec takes several times the memory of a network
MOST = 2**28
DATA = {"inputs": "inputs", "labels": "inputs and labels"}


class Subject(NamedTuple):
    """JAX is loaded where it is used, since `--help` shall not wait for it.

    Attributes:
    network: the `Network`.
    weights: an opened file for each network, `dwalign.files.Weights`.
    params: their trees; leaves are read when they are asked for.
    data: what is matched on, or None.
    task: what the networks are for, told by the labels.
    key: of all that is drawn at random.
    places: for each file the names of its tensors, and where each lies in the network.
    bind: an opened file as parameters of the network.
    """

    network: Any
    weights: tuple[Any, ...]
    params: tuple[Any, ...]
    data: Any
    task: Any
    key: Any
    places: tuple[Mapping[str, str], ...] = ()
    bind: Callable[[Any], Any] = lambda weights: weights

    def in_memory(self, method: Any) -> tuple[Any, ...]:
        """The networks as `method` needs them: arrays, unless it reads weights on the host, one array at a time."""
        if method.host and self.data is None:
            return self.params
        import jax

        return tuple(jax.tree.map(np.asarray, one) for one in self.params)

    def certified(self, asked: Matched) -> bool:
        """Whether the spec is to be checked on numbers."""
        return self.size < MOST if asked.certify == "auto" else asked.certify == "yes"

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

    def check_data(self, file: Path, data: Any) -> None:
        """Raise `ValueError` unless the network takes these inputs, and the labels are those of its task."""
        import jax

        def apply(params, inputs):
            with _naming(f"{file} must hold inputs that the network takes, found {_shapes(inputs)}"):
                return self.network.apply(params, inputs)

        if data.labels is None:
            jax.eval_shape(apply, self.network.params, data.inputs)
        else:
            advice = "integers are classes, and real numbers are values that outputs should have"
            dwalign.program.check_task(str(file), self.task, apply, self.network.params, data, advice=advice)

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Errors that speak of a and b, or of networks by number, also say which files these are."""
        files = [str(one.path) for one in self.weights]
        try:
            yield
        except ValueError as error:
            if not re.search(r"\b(a|b|networks)\[", str(error)):
                raise
            told = f"a is {files[0]}, b is {files[-1]}" if len(files) == 2 else f"networks are {', '.join(files)}"
            raise ValueError(f"{error} ({told})") from error

    def write(self, output: Path, params: Any, *, like: int, overwrite: bool) -> Any:
        """Write a network as the file of number `like` is laid out; the parameters that lie there, in its types."""
        files = [one.path for one in self.weights]
        tensors, source = dwalign.files.unbind(params), self.weights[like]
        tensors = {there: tensors[name] for there, name in self.places[like].items() if there in source}
        dwalign.files.write_weights(output, tensors, like=source, overwrite=overwrite, inputs=files)
        return self.bind(dwalign.files.open_weights(output))


def open_subject(
    asked: Asked, files: Sequence[Path], *, output: Path | None = None, like: int = 0, overwrite: bool = False
) -> Subject:
    """Open files, data and model, what is quickest first; an output, as `Subject.write` takes it, must be free.

    Raises:
      FileError: a file is missing or damaged, or is none of this network.
      ValueError: there is no such network, or no inputs to trace it with.
    """
    import jax

    if not 0 <= asked.seed < 2**63:
        raise ValueError(f"--seed must be a whole number from 0 to 2**63 - 1, got {asked.seed}")
    weights = tuple(dwalign.files.open_weights(file) for file in files)
    if output is not None:
        dwalign.files.check_output(output, like=weights[like], inputs=files, overwrite=overwrite)
        check_apart("output", output, read_by(asked))
        check_beside(output)
    data = None if asked.data is None else read_data(asked.data)
    with stage(f"reading the program of {asked.network}"):
        model, example = dwalign.frontends.find_model(asked.network)
        with _naming(f"--network {asked.network} must name a model that is known here"):
            dwalign.frontends.check_model(model)
        example = example or dwalign.frontends.example_inputs(model)
        if data is not None:
            few = dwalign.program.take_examples(data.inputs, slice(2))
            example = few if isinstance(few, tuple) else (few,)
        if example is None:
            raise ValueError(
                f"--network {asked.network}: the shape of its inputs must be known, pass --data images.npz or let the "
                "factory return (model, inputs)"
            )
        with _naming(f"--network {asked.network} must take inputs {_shapes(example)}{_from(asked.data)}"):
            # the values lie in the files
            shapes = dwalign.frontends.shapes_of(model, *example)
            network, own = dwalign.from_model(model, *example, params=shapes, key=jax.random.key(asked.seed))
    task = dwalign.program.ANSWERS if data is None else task_of(Path(str(asked.data)), data)
    try:
        known = set(dwalign.files.names(network.params))
        spelled = dwalign.frontends.names_in_files(model) if any(set(one) - known for one in weights) else {}
        for one in weights:
            if _spells(one, spelled):
                dwalign.frontends.check_layers(model, one)
        ties = dwalign.frontends.ties(model)
        named = [_respelled(one, spelled, own) for one in weights]
        placed = [dwalign.files.places(one, network.params, ties=ties) for one in named]

        def bind(one):
            bound = dwalign.files.bind(_respelled(one, spelled, own), network.params, ties=ties)
            return jax.tree.map(_widened, bound, network.params)

        params = tuple(map(bind, weights))
    except dwalign.files.FileError as error:
        if asked.data is None or data is None:
            raise
        # parameters of some models have the shapes that the inputs ask for
        raise dwalign.files.FileError(
            f"{error}, or other inputs than {_shapes(data.inputs)} in {asked.data}"
        ) from error
    back = [spelled if _spells(one, spelled) else {} for one in weights]
    places = tuple(
        {file.get(name, name): leaf for name, leaf in one.items()} for file, one in zip(back, placed, strict=True)
    )
    subject = Subject(network, weights, params, data, task, jax.random.key(asked.seed), places, bind)
    if asked.data is not None:
        subject.check_data(asked.data, data)
    return subject


def of_kinds(subject: Subject, kinds: str) -> Subject:
    """The subject with symmetries of these kinds; norms are folded first, unless they have statistics to be renewed."""
    if kinds == "permutation":
        return subject
    network = subject.network
    statistics = set(network.spec.statistics)
    found = dwalign.network(
        network.apply, network.params, network.example, statistics=lambda path: path in statistics, kinds=kinds
    )
    network = dataclasses.replace(network, spec=found.spec)
    if statistics or not subject.params:
        return subject._replace(network=network)
    import jax

    with stage("folding norms into the maps beside them"):
        networks, folded = zip(
            *(dwalign.fold_norms(network, jax.tree.map(np.asarray, one)) for one in subject.params), strict=True
        )
    # of networks that differ in what could not be folded the least is taken to be the same
    first = max(networks, key=lambda one: len(one.notes))
    return subject._replace(network=dataclasses.replace(network, apply=first.apply, spec=first.spec), params=folded)


def _widened(tensor: Any, own: Any) -> Any:
    """A tensor of fewer bits than the model holds, as its package would load it; of more it stays as it is."""
    floats = dwalign.symmetry.kind(tensor) == dwalign.symmetry.kind(own) == "float"
    if tensor.dtype == own.dtype or not floats or not np.can_cast(tensor.dtype, own.dtype):
        return tensor
    read = lambda: np.asarray(tensor, own.dtype)
    return dwalign.files.LazyArray(tensor.shape, own.dtype, read, tensor.name)


def _respelled(weights: Any, spelled: Mapping[str, str], own: Any) -> Any:
    """A file with the names of the network; what the package keeps in no file, as Keras does seeds, is the model's."""
    if not _spells(weights, spelled):
        return weights
    names = {there: name for name, there in spelled.items()}
    kept = {name: np.asarray(leaf) for name, leaf in dwalign.files.unbind(own).items() if name not in spelled}
    respelled = lambda pairs: {names.get(name, name): value for name, value in pairs}
    ties = respelled((name, names.get(other, other)) for name, other in weights.ties.items())
    return dataclasses.replace(weights, arrays=respelled(weights.items()) | kept, ties=ties)


def _spells(weights: Any, spelled: Mapping[str, str]) -> bool:
    """Whether a file has names of the package's own."""
    return any(there in weights and there not in spelled for there in spelled.values())


@contextlib.contextmanager
def _naming(must: str) -> Iterator[None]:
    """Whatever a program that is not ours raises, said as what it must do; what is said in our words stays."""
    try:
        yield
    except dwalign.InferenceError as error:
        raise ValueError(f"{must}, but {in_words(error)}") from error
    except (dwalign.symmetry.SpecError, dwalign.files.FileError, ImportError):
        raise
    except Exception as error:
        raise ValueError(f"{must}, but raised {dwalign.files.said(error)}") from error


def _shapes(inputs: Any) -> str:
    import jax

    return ", ".join(f"{dwalign.symmetry.dtype_of(leaf)} {np.shape(leaf)}" for leaf in jax.tree.leaves(inputs))


def _from(data: Path | None) -> str:
    return "" if data is None else f", the first of {data}, prepared as for training"


def choose_method(asked: Matched, subject: Subject) -> Any:
    """The method that is asked for; "auto" is the aligner that is given, or else that of `dwalign.choose_method`."""
    data, name = subject.data, asked.method
    if name == "auto" and asked.aligner is None:
        return dwalign.choose_method(subject.network, data).method
    if name == "auto":
        name = "deep_align" if data is None or data.labels is None else "deep_align+refine"
    try:
        method = dwalign.find_method(name)
    except ValueError as error:
        raise ValueError(f"--method {name}: {in_words(error)}") from error
    asks = {part.asks for part in method.parts}
    lacking = data is None or (method.needs == "labels" and data.labels is None)
    if method.needs in DATA and lacking:
        found = "" if data is None else f", found inputs alone in {asked.data}"
        raise ValueError(f"--method {asked.method} needs --data, an .npz with {DATA[method.needs]}{found}")
    if "aligner" in asks and asked.aligner is None:
        raise ValueError(
            f"--method {asked.method} needs --aligner: the folder that `dwalign train` made, or the name of one that "
            f"ships, of {sorted(dwalign.deepalign.SHIPPED)}"
        )
    if asked.aligner is None:
        return method
    if "aligner" not in asks:
        raise ValueError(f"--aligner is for methods that need one, such as deep_align, got --method {asked.method}")
    best = asked.aligner / "checkpoints" / "best"
    folder = next((folder for folder in (best, asked.aligner) if folder.exists()), str(asked.aligner))
    # the others learned what they look at
    inputs = data.inputs if data is not None and folder == "any" else None
    try:
        aligner = dwalign.load_aligner(folder, network=subject.network, inputs=inputs)
    except dwalign.SpecError as error:
        why = in_words(error).partition("; ")[0]
        raise ValueError(
            f"--aligner {asked.aligner} must be for networks like this one, but {why}; `dwalign train` makes one"
        ) from error
    return dwalign.chain(*(one.using(aligner=aligner) if one.asks == "aligner" else one for one in method.parts))
