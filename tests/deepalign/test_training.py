"""Training: a step lowers the loss, meshes change nothing, an interrupted run continues as if it had not been."""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
import optax
import pytest

from dwalign.deepalign import (
    METRICS,
    AlignerConfig,
    CheckpointError,
    Checkpoints,
    DeepAlign,
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
from dwalign.deepalign.step import device_mesh, make_optimiser
from dwalign.networks import mlp
from dwalign.program import Data, Network, Task
from dwalign.symmetry import identity, take_networks
from tests import drawn
from tests.deepalign.untrained import stack, untrained

# the same projection as by default, which compiles faster
OPTIMISATION = Optimisation(steps=6, batch_size=4, warmup=0, images=16, iterations=5, solver="scaling")
CONFIG = AlignerConfig("graph", channels=4, depth=1, features=8, updates=1, probes=24)


class Setting(NamedTuple):
    """What `make_step` asks for."""

    model: DeepAlign
    network: Network
    networks: Any
    data: Data


@pytest.fixture(scope="module")
def shallow(data):
    """A graph encoder for twelve networks with one hidden layer: most programs here need not be any larger."""
    network = mlp(6, (7,), 3)
    networks = stack(*(drawn.weights(network.params, seed) for seed in range(12)))
    return Setting(make_model(network, CONFIG, data.inputs), network, networks, data)


@pytest.fixture(scope="module")
def step(shallow):
    return make_step(*shallow, optimisation=OPTIMISATION)


@pytest.fixture(scope="module")
def state(shallow):
    # a step may use up the arrays of JAX that it is given
    return jax.tree.map(np.asarray, fresh(shallow))


def fresh(setting, optimisation=OPTIMISATION):
    return init_state(setting.model, optimisation, take_networks(setting.networks, 0), seed=0)


def run(setting, step, state, folder, *, steps, resume=False, stop_after=None):
    """Train with a validation that can interrupt, as Ctrl-C would."""
    calls = []

    def validate(aligner):
        calls.append(1)
        if stop_after is not None and len(calls) > stop_after:
            raise KeyboardInterrupt
        return -float(len(calls))

    info = describe(setting.network, CONFIG, setting.data.inputs)
    options = dict(steps=steps, validate=validate, validate_every=2, folder=folder, info=info, resume=resume)
    return train_aligner(setting.model, step, state, **options)


def largest_move(after, before):
    """Of any parameter."""
    moved = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - y).max(), after.variables, before.variables)
    return max(jax.tree.leaves(moved))


def loss_falls(step, state, weights=LossWeights()):
    """Whether one step lowers the loss that it differentiates, on the batch and path that it takes."""
    after, before = step(state)
    _, again = step(after._replace(step=state.step))
    total = lambda values: np.asarray(values) @ np.array(dataclasses.astuple(weights))
    return total(again) < total(before)


@pytest.fixture(scope="module")
def of_arrays():
    """The optimiser of `OPTIMISATION`, of one array at a time."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, OPTIMISATION.learning_rate, 0, 6, 0.01 * OPTIMISATION.learning_rate
    )
    adamw = optax.adamw(schedule, weight_decay=OPTIMISATION.weight_decay)
    return optax.chain(optax.clip_by_global_norm(OPTIMISATION.clip), adamw)


def test_one_vector_gets_the_updates_of_its_arrays(of_arrays):
    params, *grads = (drawn.named(seed, kernel=(3, 4), bias=(4,), scale=()) for seed in range(4))

    def updated(optimiser):
        state, updates = optimiser.init(params), []
        for one in grads:
            found, state = optimiser.update(one, state, params)
            updates.append(found)
        return updates

    of_one_vector = jax.jit(lambda: updated(make_optimiser(OPTIMISATION)))()
    chex.assert_trees_all_close(of_one_vector, jax.jit(lambda: updated(of_arrays))(), rtol=1e-5)


def test_a_state_with_another_optimiser_is_refused(tmp_path, state, of_arrays):
    before = state._replace(optimiser=of_arrays.init(state.variables["params"]))
    Checkpoints(tmp_path).save(2, before, {})
    with pytest.raises(CheckpointError, match=r"must be one of this model, with .* arrays, found .*\.mu.* start again"):
        Checkpoints(tmp_path).restore(state)


def test_one_step_lowers_the_loss_on_its_batch_with_graph(step, state):
    assert loss_falls(step, state)


def test_one_step_lowers_the_loss_on_its_batch_with_dws(shallow):
    config = dataclasses.replace(CONFIG, encoder="dws")
    setting = shallow._replace(model=make_model(shallow.network, config, shallow.data.inputs))
    assert loss_falls(make_step(*setting, optimisation=OPTIMISATION), fresh(setting))


def test_a_step_through_descent_is_differentiated(shallow):
    """Its gradients, of gradients, are compared with differences where Sinkhorn is tested; here they are traced."""
    config = dataclasses.replace(CONFIG, descent=2)
    setting = shallow._replace(model=make_model(shallow.network, config, shallow.data.inputs))
    state = fresh(setting)
    after, values = jax.eval_shape(make_step(*setting, optimisation=OPTIMISATION), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert values.shape == (len(METRICS),)


def test_two_devices_give_what_one_gives_with_an_equal_signal(step, shallow, state):
    assert len(jax.devices()) >= 2, "conftest.py must ask for two devices"
    one, two = device_mesh(1), device_mesh(OPTIMISATION.batch_size)
    assert (one.size, two.size) == (1, 2)
    signal = shallow._replace(data=jax.tree.map(lambda x: x[None], shallow.data))
    alone = make_step(*signal, views=12, optimisation=OPTIMISATION, mesh=one)
    new, values = alone(state)
    after, found = step(state)  # on the mesh of all devices
    assert len(found.sharding.device_set) == 2
    chex.assert_trees_all_close(np.asarray(found), np.asarray(values), rtol=1e-4)
    host = lambda state: jax.tree.map(np.asarray, state.variables)
    chex.assert_trees_all_close(host(after), host(new), atol=1e-3)


def test_a_state_starts_with_all_that_the_whole_pass_asks_for(model, networks):
    example = take_networks(networks, 0)
    found = jax.eval_shape(lambda: init_state(model, OPTIMISATION, example, seed=0)).variables
    chex.assert_trees_all_equal_shapes_and_dtypes(
        found, jax.eval_shape(model.init, jax.random.key(0), example, example)
    )


def test_a_state_has_what_every_architecture_asks_for():
    config = dataclasses.replace(CONFIG, shared=True)
    nets = [mlp(6, widths, 3) for widths in ((7,), (5, 5), (4, 4, 4))]
    models = [make_model(net, config, np.zeros((2, 6), np.float32)) for net in nets]
    *others, (model, example) = zip(models, [net.params for net in nets], strict=True)
    flat = lambda state: {str(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(state.variables)}
    shapes = lambda *given, **more: flat(jax.eval_shape(lambda: init_state(*given, **more)))
    each = [shapes(one, OPTIMISATION, network, 0) for one, network in [*others, (model, example)]]
    # none has every role
    assert all(set().union(*each) - set(one) for one in each)
    assert shapes(model, OPTIMISATION, example, 0, others=others) == each[0] | each[1] | each[2]


def test_batch_must_fit_the_mesh(shallow):
    with pytest.raises(ValueError, match="multiple of the 2 devices"):
        make_step(*shallow, optimisation=dataclasses.replace(OPTIMISATION, batch_size=3), mesh=device_mesh(2))


def test_targets_add_a_loss_and_the_solver_of_ott_learns_with_probe(shallow):
    config = dataclasses.replace(CONFIG, encoder="probe")
    setting = shallow._replace(model=make_model(shallow.network, config, shallow.data.inputs))
    perms = {g: np.broadcast_to(p, (2, *p.shape)) for g, p in identity(shallow.network.spec).items()}
    targets = Targets(np.array([0, 1]), np.array([2, 3]), perms)
    options = dataclasses.replace(OPTIMISATION, solver="ott")
    weights = LossWeights(0.5, 1.0, 2.0, 1.5)
    step = make_step(*setting, optimisation=options, targets=targets, weights=weights)
    state = fresh(setting, options)
    values = dict(zip(METRICS, step(state)[1].tolist(), strict=True))
    assert values["distillation"] > 0
    assert loss_falls(step, state, weights)


def test_through_refinement_the_path_is_lower_and_still_learned(step, shallow, state):
    options, only = dataclasses.replace(OPTIMISATION, refine=5), LossWeights(0.0, 0.0, 1.0, 0.0)
    refined = make_step(*shallow, weights=only, optimisation=options)
    after, values = refined(state)
    index = METRICS.index("mode_connectivity")
    assert float(values[index]) < float(step(state)[1][index]) and largest_move(after, state) > 0


def test_losses_of_permutations_of_two_layers_are_learned_from_on_two_devices(graph_model, network, networks, data):
    options, only = dataclasses.replace(OPTIMISATION, hard=True), LossWeights(0.0, 1.0, 1.0, 0.0)
    setting = Setting(graph_model, network, networks, data)
    state = jax.tree.map(np.asarray, fresh(setting))
    after, values = make_step(*setting, weights=only, optimisation=options)(state)
    assert len(values.sharding.device_set) == 2 and largest_move(after, state) > 0


def test_resume_continues_the_identical_curve(tmp_path, shallow, step, state):
    whole = run(shallow, step, state, tmp_path / "whole", steps=6)
    with pytest.raises(KeyboardInterrupt):
        run(shallow, step, state, tmp_path / "cut", steps=6, stop_after=2)
    resumed = run(shallow, step, state, tmp_path / "cut", steps=6, resume=True)
    losses = lambda trained: [[row[name] for name in ("step", *METRICS)] for row in trained.metrics]
    assert losses(resumed) == losses(whole)
    assert [row["step"] for row in resumed.metrics] == [2, 4, 6]


def test_saved_aligner_loads(tmp_path, shallow, step, state):
    trained = run(shallow, step, state, tmp_path, steps=2)
    loaded = load_aligner(tmp_path / "checkpoints" / "best")
    chex.assert_trees_all_equal(loaded.variables, trained.aligner.variables)
    assert loaded.model.spec == shallow.model.spec


def test_an_aligner_without_updates_can_be_saved(tmp_path, network, networks, data):
    config, example = dataclasses.replace(CONFIG, updates=0), take_networks(networks, 0)
    model = make_model(network, config, data.inputs)
    variables = untrained(model, example)
    Checkpoints(tmp_path / "best").save(1, variables, describe(network, config, data.inputs))
    chex.assert_trees_all_equal(load_aligner(tmp_path / "best").variables, variables)


def test_loading_nothing_and_damage(tmp_path, shallow, step, state):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_aligner(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="found none"):
        load_aligner(tmp_path / "empty")
    run(shallow, step, state, tmp_path / "run", steps=2)
    best = tmp_path / "run" / "checkpoints" / "best"
    for file in best.rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"damaged|could not be read"):
        load_aligner(best)


def test_networks_with_signals_of_their_own(step, shallow, state):
    """Pairs are drawn among the views of a signal, on its data."""
    # the networks of a signal are equal, so that only pairs across signals would need aligning
    twins = jax.tree.map(lambda x: np.repeat(x[:6], 2, 0), shallow.networks)
    signals = jax.tree.map(lambda x: np.stack([x] * 6), shallow.data)
    task = Task(lambda outputs, labels: 0.0 * outputs.sum() + 7.0)
    options = dict(optimisation=OPTIMISATION, task=task)
    setting = shallow._replace(networks=twins, data=signals)
    values = make_step(*setting, views=2, **options)(state)[1]
    found, shared = (dict(zip(METRICS, v.tolist(), strict=True)) for v in (values, step(state)[1]))
    assert found["alignment"] < 0.5 * shared["alignment"]
    assert found["mode_connectivity"] == 7, "the loss must be the one that is asked for"
