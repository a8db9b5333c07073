"""What is killed in `test_kills.py`: work that writes all that the library writes, the same whenever it is done."""

import contextlib
import io
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dwalign
from dwalign import cli, deepalign, zoo
from dwalign.networks import mlp

NET = """
import flax.linen as nn
import numpy as np

def make():
    return nn.Sequential([nn.Dense(6), nn.relu, nn.Dense(3)]), np.zeros((2, 4), np.float32)
"""


def make_zoo(folder: Path) -> None:
    """Networks in files of one each."""
    rng = np.random.default_rng(0)
    data = dwalign.Data(rng.normal(size=(8, 4)).astype(np.float32), (np.arange(8) % 2).astype(np.int32))
    dataset = zoo.Dataset("drawn", data, data, data, 2)
    recipe = zoo.Recipe(epochs=1, batch_size=4)
    zoo.get_zoo(mlp(4, (3,), 2), dataset, recipe, zoo.ZooSize(8, 1, 1), folder=folder, chunk=1)


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


def merge(folder: Path) -> None:
    """The command, again and again: weights, recipe and card of each."""
    os.chdir(folder)
    Path("net.py").write_text(NET)
    for k in range(2):
        rng = np.random.default_rng(k)
        shapes = {"layers_0/bias": 6, "layers_0/kernel": (4, 6), "layers_2/bias": 3, "layers_2/kernel": (6, 3)}
        tensors = {f"params/{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        dwalign.files.write_weights(f"{k}.safetensors", tensors, overwrite=True)
    files = ["0.safetensors", "1.safetensors", "--network", "net.py:make", "--overwrite"]
    for k in range(3):
        with contextlib.redirect_stdout(io.StringIO()):
            assert cli.main(["merge", *files, "--output", f"merged{k}.safetensors"]) == 0


WORK = {work.__name__: work for work in (make_zoo, train, merge)}


def work(name: str, folder: str, begun) -> None:
    """One of them, in a process of its own."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_disable_most_optimizations", True)
    begun.send(True)
    WORK[name](Path(folder))
