"""Barrier and area of curves that are known in closed form; one pair, jitted, vmapped, in any chunks."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.evaluation import Curve, assess, curve
from dwalign.networks import mlp
from dwalign.program import Data, Network, Task
from dwalign.symmetry import Axes, PermutationSpec
from tests import drawn
from tests.compiled import compilations

LABELS = jnp.zeros(7, int)


def apply(params, inputs):
    """Outputs that are the parameter, whatever the input; the loss makes of it what it likes."""
    return jnp.broadcast_to(params["w"], (inputs.shape[0], 2))


# with a statistic that training makes the number of examples
POINT = Network(
    apply,
    PermutationSpec({"w": Axes(None), "seen": Axes()}, {}, statistics=["['seen']"]),
    {"w": jnp.zeros(2), "seen": jnp.zeros(())},
    jnp.zeros((1, 1)),
    train=lambda params, inputs: (apply(params, inputs), params | {"seen": jnp.float32(inputs.shape[0])}),
)


def point(x, y=0.0):
    return {"w": jnp.array([x, y]), "seen": jnp.zeros(())}


def hill(outputs, labels):
    """1 - x^2: from x = -1 to x = 1 the path climbs to 1 half way, 2/3 on average over endpoints of 0.

    With u = 2 lambda - 1 on the path, psi = 1 - u^2, so barrier = 1 and AUC = 2/3.
    """
    return jnp.mean(1 - outputs[:, 0] ** 2)


def valley(outputs, labels):
    return -hill(outputs, labels)


def walk(loss, a=-1.0, b=1.0, network=POINT, **options):
    return curve(network, point(a), point(b), Data(jnp.zeros((7, 1)), LABELS), task=Task(loss), points=201, **options)


def test_statistics_are_renewed_before_networks_are_judged():
    counts = dataclasses.replace(POINT, apply=lambda params, inputs: apply(params, inputs) + params["seen"])
    loss = lambda outputs, labels: outputs[:, 1].mean()
    np.testing.assert_allclose(walk(loss, network=counts).loss, 0.0)
    np.testing.assert_allclose(walk(loss, network=counts, renew=jnp.zeros((5, 1))).loss, 5.0)


def test_hill():
    found = walk(hill)
    chex.assert_shape(list(found), (201,))
    assert found.barrier == pytest.approx(1.0, abs=1e-5)
    assert found.auc == pytest.approx(2 / 3, abs=1e-3)
    assert found.excess[0] == pytest.approx(0.0, abs=1e-6) and found.excess[-1] == pytest.approx(0.0, abs=1e-6)


def test_a_valley_has_no_barrier_and_no_area():
    found = walk(valley)
    assert found.excess.min() == pytest.approx(-1.0, abs=1e-5)
    assert found.barrier == pytest.approx(0.0, abs=1e-6) and found.auc == 0


def test_the_line_between_the_endpoints_is_taken_off():
    """From 0 to 1 the loss falls from 1 to 0: psi = lambda - lambda^2, barrier 1/4, AUC 1/6."""
    found = walk(hill, 0.0, 1.0)
    assert found.barrier == pytest.approx(0.25, abs=1e-5) and found.auc == pytest.approx(1 / 6, abs=1e-3)


def test_direction():
    """lambda = 0 is a, lambda = 1 is b."""
    found = walk(lambda outputs, labels: outputs[:, 0].mean(), 3.0, 5.0)
    chex.assert_trees_all_close(found.loss, 3 + 2 * found.lambdas, rtol=1e-5)


def test_accuracy_and_midpoint():
    inputs, labels = jnp.zeros((4, 1)), jnp.array([0, 0, 0, 1])
    found = curve(POINT, point(1.0), point(0.0, 1.5), Data(inputs, labels), points=5)
    np.testing.assert_allclose(found.accuracy, [0.75, 0.75, 0.25, 0.25, 0.25])
    assert found.midpoint_accuracy == pytest.approx(0.25)


@pytest.fixture(scope="module")
def pairs():
    net = mlp(5, (6, 4), 3)
    many = lambda *seeds: jax.tree.map(lambda *x: np.stack(x), *(drawn.weights(net.params, seed) for seed in seeds))
    return net, many(0, 1, 2), many(3, 4, 5), Data(drawn.normal(23, 5, seed=2), np.arange(23) % 3)


def one(tree, k):
    return jax.tree.map(lambda leaf: leaf[k], tree)


def test_loss_is_that_of_the_network_on_the_whole_set(pairs):
    net, a, b, (inputs, labels) = pairs
    found = curve(net, one(a, 0), one(b, 0), Data(inputs, labels), points=3, chunk=4)
    middle = jax.tree.map(lambda x, y: (x + y) / 2, one(a, 0), one(b, 0))
    for k, params in enumerate((one(a, 0), middle, one(b, 0))):
        outputs = net.apply(params, inputs)
        expected = -jnp.mean(jax.nn.log_softmax(outputs)[jnp.arange(23), labels])
        assert found.loss[k] == pytest.approx(float(expected), rel=1e-5)
        assert found.accuracy[k] == pytest.approx(float(jnp.mean(outputs.argmax(-1) == labels)))


@pytest.mark.parametrize("chunk", [5, 23, 1000])
def test_chunks_change_nothing(pairs, chunk):
    net, a, b, batch = pairs
    walk = lambda **options: curve(net, one(a, 0), one(b, 0), batch, points=5, **options)
    chex.assert_trees_all_close(walk(chunk=chunk), walk(chunk=6), rtol=1e-5, atol=1e-6)


def test_vmap(pairs):
    net, a, b, batch = pairs
    solve = lambda a, b: curve(net, a, b, batch, points=5, chunk=6)
    eager = [solve(one(a, k), one(b, k)) for k in range(3)]
    together = jax.jit(jax.vmap(solve))(a, b)
    chex.assert_trees_all_close(together, jax.tree.map(lambda *x: jnp.stack(x), *eager), rtol=1e-5, atol=1e-6)
    for name in ("barrier", "auc", "midpoint_accuracy"):
        expected = jnp.stack([getattr(each, name) for each in eager])
        chex.assert_trees_all_close(getattr(together, name), expected, rtol=1e-4, atol=1e-6)


def test_another_pair_compiles_nothing(pairs):
    net, a, b, batch = pairs

    def judged(k):
        return curve(net, one(a, k), one(b, k), batch, points=3, chunk=6), assess(net, one(a, k), batch, chunk=6)

    judged(0)
    with compilations() as seen:
        judged(1)
    assert not seen


def test_lambdas_may_be_shared_by_many_pairs():
    lambdas = jnp.linspace(0, 1, 5)
    loss = jnp.stack([jnp.zeros(5), 1 - (2 * lambdas - 1) ** 2])
    chex.assert_trees_all_close(Curve(lambdas, loss, loss).barrier, jnp.array([0.0, 1.0]))
    chex.assert_shape(Curve(lambdas, loss, loss).auc, (2,))


def test_gradients_flow():
    grad = jax.grad(lambda b: walk(hill, 0.0, b).auc)(1.0)
    assert grad == pytest.approx(1 / 3, abs=1e-3)  # AUC = b^2 / 6


@pytest.mark.parametrize("points", [1, 2, 24])
def test_points_must_hold_the_midpoint(pairs, points):
    net, a, b, batch = pairs
    with pytest.raises(ValueError, match=f"odd and at least 3.*{points}"):
        curve(net, one(a, 0), one(b, 0), batch, points=points)


def test_other_bad_input(pairs):
    net, a, b, (inputs, labels) = pairs
    with pytest.raises(ValueError, match="chunk must be a whole number of at least 1; got 0"):
        curve(net, a, b, Data(inputs, labels), chunk=0)
    with pytest.raises(ValueError, match="equally many"):
        curve(net, a, b, Data(inputs, labels[:-1]))
