"""Training: a step lowers the loss, meshes change nothing, an interrupted run continues as if it had not been."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import (
    METRICS,
    AlignerConfig,
    CheckpointError,
    Checkpoints,
    LossWeights,
    Optimisation,
    Targets,
    describe,
    init_state,
    load_aligner,
    make_model,
    make_step,
    train_aligner,
)
from dwalign.deepalign.step import device_mesh
from dwalign.symmetry import identity
from dwalign.zoo import take

# the same projection as by default, which compiles faster
OPTIMISATION = Optimisation(steps=6, batch_size=4, warmup=1, images=16, iterations=5, solver="scaling")
# that of the fixture graph_model
CONFIG = AlignerConfig("graph", channels=8, depth=1, features=16, updates=1, probes=24)


@pytest.fixture(scope="module")
def step(graph_model, network, networks, data):
    return make_step(graph_model, network.apply, networks, data, optimisation=OPTIMISATION)


@pytest.fixture
def state(graph_model, networks):
    return init_state(graph_model, OPTIMISATION, take(networks, 0), seed=0)


def run(model, step, state, folder, network, data, *, steps, resume=False, stop_after=None):
    """Train with a validation that can interrupt, as Ctrl-C would."""
    calls = []

    def validate(aligner):
        calls.append(1)
        if stop_after is not None and len(calls) > stop_after:
            raise KeyboardInterrupt
        return -float(len(calls))

    info = describe(network, CONFIG, data.inputs)
    return train_aligner(
        model, step, state, steps=steps, validate=validate, validate_every=2, folder=folder, info=info, resume=resume
    )


def test_a_step_on_a_fixed_batch_lowers_the_loss(step, state):
    first = step(state)[1]
    for _ in range(15):
        after = step(state._replace(step=jnp.int32(2)))[0]
        state = after._replace(step=jnp.int32(2))
    again = step(state._replace(step=jnp.int32(0)))[1]
    assert float(again[METRICS.index("supervised")]) < float(first[METRICS.index("supervised")])
    assert float(again.sum()) < float(first.sum())


def test_two_devices_give_what_one_gives(graph_model, network, networks, data, state):
    assert len(jax.devices()) >= 2, "conftest.py must ask for two devices"
    results = []
    for batch_size in (1, OPTIMISATION.batch_size):
        mesh = device_mesh(batch_size)
        step = make_step(graph_model, network.apply, networks, data, optimisation=OPTIMISATION, mesh=mesh)
        new, values = step(state)
        results.append((jax.tree.map(np.asarray, new.variables), np.asarray(values), mesh.size))
    assert [size for *_, size in results] == [1, 2]
    chex.assert_trees_all_close(results[0][1], results[1][1], rtol=1e-4)
    chex.assert_trees_all_close(results[0][0], results[1][0], atol=1e-3)


def test_batch_must_fit_the_mesh(graph_model, network, networks, data):
    with pytest.raises(ValueError, match="multiple of the 2 devices"):
        make_step(
            graph_model,
            network.apply,
            networks,
            data,
            optimisation=OPTIMISATION._replace(batch_size=3),
            mesh=device_mesh(2),
        )


def test_targets_add_a_loss(graph_model, network, networks, data, state):
    perms = {g: jnp.broadcast_to(p, (2, *p.shape)) for g, p in identity(network.spec).items()}
    targets = Targets(jnp.array([0, 1]), jnp.array([2, 3]), perms)
    step = make_step(graph_model, network.apply, networks, data, optimisation=OPTIMISATION, targets=targets)
    values = dict(zip(METRICS, step(state)[1].tolist(), strict=True))
    assert values["distillation"] > 0


def test_through_refinement_the_path_is_lower_and_still_learned(graph_model, network, networks, data, state):
    index, found = METRICS.index("mode_connectivity"), {}
    only = LossWeights(0.0, 0.0, 1.0, 0.0)
    for refine in (0, 5):
        options = OPTIMISATION._replace(refine=refine, warmup=0)
        step = make_step(graph_model, network.apply, networks, data, weights=only, optimisation=options)
        after, values = step(state)
        moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), after.variables, state.variables)
        found[refine] = float(values[index]), max(jax.tree.leaves(moved))
    assert found[5][0] < found[0][0] and found[5][1] > 0


def test_resume_continues_the_identical_curve(tmp_path, graph_model, step, state, network, data):
    whole = run(graph_model, step, state, tmp_path / "whole", network, data, steps=6)
    with pytest.raises(KeyboardInterrupt):
        run(graph_model, step, state, tmp_path / "cut", network, data, steps=6, stop_after=2)
    resumed = run(graph_model, step, state, tmp_path / "cut", network, data, steps=6, resume=True)
    losses = lambda trained: [[row[name] for name in ("step", *METRICS)] for row in trained.metrics]
    assert losses(resumed) == losses(whole)
    assert [row["step"] for row in resumed.metrics] == [2, 4, 6]


def test_saved_aligner_loads(tmp_path, graph_model, step, state, network, networks, data):
    trained = run(graph_model, step, state, tmp_path, network, data, steps=2)
    loaded = load_aligner(tmp_path / "checkpoints" / "best")
    a, b = take(networks, 0), take(networks, 1)
    chex.assert_trees_all_equal(loaded.scores(a, b), trained.aligner.scores(a, b))


def test_an_aligner_without_updates_can_be_saved(tmp_path, network, networks, data):
    config, example = CONFIG._replace(updates=0), take(networks, 0)
    model = make_model(network, config, data.inputs)
    variables = jax.jit(model.init)(jax.random.key(0), example, example)
    Checkpoints(tmp_path / "best").save(1, variables, describe(network, config, data.inputs))
    chex.assert_trees_all_equal(load_aligner(tmp_path / "best").variables, variables)


def test_loading_nothing_and_damage(tmp_path, graph_model, step, state, network, data):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_aligner(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="found none"):
        load_aligner(tmp_path / "empty")
    run(graph_model, step, state, tmp_path / "run", network, data, steps=2)
    best = tmp_path / "run" / "checkpoints" / "best"
    for file in best.rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"damaged|could not be read"):
        load_aligner(best)


def test_networks_with_signals_of_their_own(graph_model, network, networks, data, state):
    """Equal signals are one shared data set; pairs are drawn among the views of a signal, on its data."""
    loss = lambda outputs, labels: ((outputs[:, 0] - labels) ** 2).mean()
    options = dict(optimisation=OPTIMISATION, loss=loss)
    shared = make_step(graph_model, network.apply, networks, data, **options)
    own = make_step(graph_model, network.apply, networks, jax.tree.map(lambda x: x[None], data), views=12, **options)
    chex.assert_trees_all_close(shared(state)[1], own(state)[1], rtol=1e-5)

    # the networks of a signal are equal, so that only pairs across signals would need aligning
    twins = jax.tree.map(lambda x: jnp.repeat(x[:6], 2, 0), networks)
    signals = jax.tree.map(lambda x: jnp.stack([x + 0 * x, *[x] * 5]), data)
    values = make_step(graph_model, network.apply, twins, signals, views=2, **options)(state)[1]
    index = METRICS.index("alignment")
    assert float(values[index]) < 0.5 * float(shared(state)[1][index])
