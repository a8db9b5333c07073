"""What is killed in `kills.py`: work that writes all that the library writes, the same whenever it is done.

All that it needs is imported here, once for all processes.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dwalign
import dwalign.cli.align
import dwalign.cli.merge  # commands load nothing before they run
from dwalign import apply, cli, deepalign, extras, files, zoo
from dwalign.networks import mlp

for heavy in ("array_record.python.array_record_module", "grain", "pyarrow.parquet"):
    extras.load(heavy)

NET = """
import flax.linen as nn
import numpy as np

def make():
    return nn.Sequential([nn.Dense(6), nn.relu, nn.Dense(3)]), np.zeros((2, 4), np.float32)
"""


def make_zoo(folder: Path) -> None:
    """Networks in files of one each."""
    network, data, recipe = _small()
    dataset = zoo.Dataset("drawn", data, data, data, 2)
    zoo.get_zoo(network, dataset, recipe, zoo.ZooSize(8, 1, 1), folder=folder, chunk=1)


def records(folder: Path) -> None:
    """Networks in files of records, of one each."""
    network, data, recipe = _small()
    with _quiet():
        zoo.make_networks(network, data, recipe, 8, folder=folder, shard=1, batch=2)


def pairs(folder: Path) -> None:
    """All pairs of five networks aligned, in files of three."""
    network, _, _ = _small()
    networks = [_drawn(network.params, k) for k in range(5)]
    every = np.argwhere(~np.eye(5, dtype=bool))
    with _quiet():
        dwalign.align_many(network, networks, every, "naive", folder=folder, batch=2, part=3)


def train(folder: Path) -> None:
    """A loop whose steps cost nothing: all of its time is log and checkpoints."""
    model = deepalign.DeepAlign(mlp(2, (3,), 2).spec, None)
    start = deepalign.TrainState(jnp.int32(0), {"params": {"w": jnp.zeros(1000)}}, (), jnp.int32(0))
    step = lambda state: (
        state._replace(step=state.step + 1, variables={"params": {"w": jnp.full(1000, state.step * 1.0)}}),
        jnp.arange(4.0),
    )

    def validate(aligner) -> float:
        """Better at every other step."""
        k = int(aligner.variables["params"]["w"][0])
        return -k * (-1.0) ** k

    options = dict(steps=8, validate_every=1, info={}, resume=True)
    deepalign.train_aligner(model, step, start, validate=validate, folder=folder / "run", **options)


def checkpoint(folder: Path) -> None:
    """Saved, continued from what is there, and saved again."""
    checkpoints = deepalign.Checkpoints(folder / "run" / "checkpoints" / "last")
    start = {"w": jnp.zeros(1000), "key": jax.random.key(0)}
    state = start if checkpoints.latest() is None else checkpoints.restore(start)
    for step in range(checkpoints.latest() or 0, 8):
        state = {**state, "w": state["w"] + 1}
        checkpoints.save(step + 1, state, {"step": step + 1})
    found = checkpoints.restore(start)["w"]
    (folder / "found.json").write_text(str(float(found[0])))


def merge(folder: Path) -> None:
    """The commands, again and again: weights, recipe and card of each."""
    given = _networks(folder, 2)
    for k in range(3):
        _command("merge", *given, "--output", f"merged{k}.safetensors")
    _command("align", *given, "--output", "aligned.npz")


def many(folder: Path) -> None:
    """Of five networks, by the command and by the functions, in several formats."""
    given = _networks(folder, 5)
    _command("merge", *given, "--output", "universe.safetensors")
    _command("merge", *given, "--how", "running_mean", "--output", "mean.msgpack")
    params = [files.bind(files.open_weights(file), TREE) for file in given]
    network = dwalign.network(_apply, TREE, np.zeros((2, 4), np.float32))
    merged = apply.merge(network, *params[:2], "weight_matching", certified=False)
    files.save_params(Path("two.safetensors"), merged)
    merged = dwalign.merging.merge_many(network, params, how="merge_many").params
    files.save_params(Path("many.safetensors"), merged)


SHAPES = {"layers_0": {"bias": (6,), "kernel": (4, 6)}, "layers_2": {"bias": (3,), "kernel": (6, 3)}}
TREE = {
    "params": {
        layer: {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in inside.items()}
        for layer, inside in SHAPES.items()
    }
}


def _networks(folder: Path, count: int) -> list[str]:
    """Files of so many, beside the folder: on its disk there may be no room."""
    os.chdir(folder)
    given = Path("..", "given")
    given.mkdir(exist_ok=True)
    files.write_bytes(given / "net.py", NET.encode())
    for k in range(count):
        files.save_params(given / f"{k}.safetensors", _drawn(TREE, k))
    return [str(given / f"{k}.safetensors") for k in range(count)]


def _drawn(like, seed: int):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), like)


def _small() -> tuple[dwalign.Network, dwalign.Data, zoo.Recipe]:
    """What is trained, on what, and how."""
    inputs = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    data = dwalign.Data(inputs, (np.arange(8) % 2).astype(np.int32))
    return mlp(4, (3,), 2), data, zoo.Recipe(epochs=1, batch_size=4)


def _apply(variables, x):
    first, last = variables["params"]["layers_0"], variables["params"]["layers_2"]
    return jax.nn.relu(x @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        yield said


def _command(name: str, *words: str) -> None:
    with _quiet() as said:
        code = cli.main([name, *words, "--network", "../given/net.py:make", "--overwrite"])
    assert code == 0, said.getvalue()


WORK = {work.__name__: work for work in (make_zoo, train, checkpoint, merge, many, records, pairs)}


def work(name: str, folder: str, begun) -> None:
    """One of them, in a process of its own; what the first one compiles is there for all after it."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).parent / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    begun.send(True)
    WORK[name](Path(folder))
