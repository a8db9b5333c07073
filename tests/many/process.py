"""One of several processes that train networks, align them and train an aligner: FOLDER ADDRESS COUNT NUMBER."""

import sys
from pathlib import Path

import jax
import numpy as np

from dwalign import align_many, deepalign, zoo
from dwalign.deepalign.step import device_mesh
from dwalign.many.features import stacked
from dwalign.networks import mlp
from dwalign.program import Data

OPTIMISATION = deepalign.Optimisation(steps=4, batch_size=8, warmup=0, images=8, iterations=3)


def work(folder):
    rng, net = np.random.default_rng(0), mlp(6, (5,), 3)
    data = Data(rng.standard_normal((16, 6)).astype(np.float32), np.arange(16) % 3)
    recipe = zoo.Recipe(epochs=1, batch_size=16)
    networks = zoo.make_networks(net, data, recipe, 5, folder=folder / "zoo", shard=3, batch=3)
    pairs = np.argwhere(~np.eye(5, dtype=bool))
    align_many(net, networks, pairs, folder=folder / "pairs", batch=8, part=10)

    model = deepalign.make_model(net, deepalign.AlignerConfig("noise", probes=4, updates=0))
    step = deepalign.make_step(model, net, stacked(list(networks)), data, optimisation=OPTIMISATION)
    state = deepalign.init_state(model, OPTIMISATION, net.params, seed=0)
    assert device_mesh(OPTIMISATION.batch_size).size == len(jax.devices())
    validate = jax.jit(lambda aligner: aligner.scores(networks[0], networks[1])["h0"].std())
    for steps in (2, 4):
        options = dict(steps=steps, validate=validate, validate_every=2, info={}, resume=True)
        trained = deepalign.train_aligner(model, step, state, folder=folder / "aligner", **options)
    assert len(trained.metrics) == 2 and trained.best_step is not None


if __name__ == "__main__":
    folder, address, count, number = sys.argv[1:]
    jax.distributed.initialize(address, int(count), int(number))
    work(Path(folder))
