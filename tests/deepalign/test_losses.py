"""The values of the losses: which way round permutations enter them, on ones that are not their own inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import METRICS, Optimisation, losses
from dwalign.deepalign.step import pair_losses
from dwalign.matching.latents import from_scores
from dwalign.program import cross_entropy
from dwalign.symmetry import Axes, Monomial, PermutationSpec, inverse, permute, take_networks, to_matrices, transpose
from dwalign.zoo import Augmentation

# cycles: the inverse of each moves every unit elsewhere
PERMS = {"h0": np.roll(np.arange(7), 1), "h1": np.roll(np.arange(5), 2)}


def one_of_two(function):
    stacked = jax.jit(jax.vmap(function))
    return lambda *args: np.asarray(stacked(*jax.tree.map(lambda x: np.stack([x, x]), args)))[1]


@pytest.fixture
def wrap():
    """How a step calls the losses: vmapped, in a compiled program."""
    return one_of_two


@pytest.fixture
def pair(network, networks):
    """a, and b with a = permute(spec, b, PERMS)."""
    a = take_networks(networks, 0)
    return a, permute(network.spec, a, inverse(network.spec, PERMS))


def test_supervised_is_small_at_the_true_labels_alone(wrap, network):
    loss = wrap(lambda *args: losses.supervised(network.spec, *args))
    scores = {g: 30.0 * plan for g, plan in to_matrices(PERMS).items()}
    assert float(loss(scores, PERMS)) < 1e-6
    assert float(loss(scores, inverse(network.spec, PERMS))) > 29
    flat = {g: 0.0 * q for g, q in scores.items()}
    np.testing.assert_allclose(loss(flat, PERMS), np.log([7, 5]).mean(), rtol=1e-5)


def test_supervised_takes_rows_and_columns(wrap):
    """One row is undecided between two units: it costs log 2 there, and one column of them nearly all."""
    loss = wrap(lambda *args: losses.supervised(PermutationSpec({"w": Axes("h")}, {"h": 3}), *args))
    q = 30.0 * np.eye(3, dtype=np.float32)
    q[0, 1] = 30.0
    rows, columns = np.log(2) / 3, np.log(2) / 3
    np.testing.assert_allclose(loss({"h": q}, {"h": np.arange(3)}), (rows + columns) / 2, rtol=1e-4)
    tilted = np.array([[0.0, 0.0], [9.0, 9.0]])  # rows undecided, columns sure and half of them wrong
    expected = 0.5 * (np.log(2) + 0.5 * (9 + 2 * np.log1p(np.exp(-9))))
    np.testing.assert_allclose(loss({"h": tilted}, {"h": np.arange(2)}), expected, rtol=1e-4)


def test_supervised_takes_signs_and_maps(wrap):
    """The order alone costs nothing; each sign that is undecided log 2, and a map its squared distance."""
    spec = PermutationSpec({"w": Axes("h", "m")}, {"h": 3, "m": 3}, kinds={"h": "sign", "m": "orthogonal"})
    loss = wrap(lambda *args: losses.supervised(spec, *args))
    order = np.array([1, 2, 0])
    known = {"h": Monomial(order, None, np.array([[1.0], [-1.0], [1.0]], np.float32)), "m": np.eye(3, dtype=np.float32)}
    matrix = np.eye(3, dtype=np.float32)[order]
    # row i has the sign of its unit
    scores = lambda sure, turn: from_scores(spec, {"h": 30 * (matrix * sure[:, None])[None], "m": 3 * turn})
    right = np.array([1.0, -1.0, 1.0], np.float32)
    np.testing.assert_allclose(loss(scores(right, np.eye(3, dtype=np.float32)), known), 0, atol=1e-4)
    np.testing.assert_allclose(loss(scores(-right, np.eye(3, dtype=np.float32)), known), 60 / 2, rtol=1e-4)
    flipped = np.diag([1.0, 1.0, -1.0]).astype(np.float32)
    np.testing.assert_allclose(loss(scores(right, flipped), known), (4 / 3) / 2, rtol=1e-4)


def test_alignment_vanishes_at_the_planted_permutation_alone(wrap, network, pair):
    spec, plans = network.spec, to_matrices(PERMS)
    loss = wrap(lambda a, b, plans: losses.alignment(spec, a, b, plans))
    assert float(loss(*pair, plans)) < 1e-10
    assert float(loss(*pair, transpose(spec, plans))) > 0.1
    zero = jax.tree.map(np.zeros_like, pair[1])
    np.testing.assert_allclose(loss(pair[0], zero, plans), 1.0, rtol=1e-5)


def test_mode_connectivity_is_the_own_loss_at_the_planted_permutation_alone(wrap, network, pair, data):
    spec, plans = network.spec, to_matrices(PERMS)
    task_loss = jax.jit(lambda v: cross_entropy(network.apply(v, data.inputs), data.labels))
    loss = wrap(lambda a, b, plans, weight: losses.mode_connectivity(spec, a, b, plans, weight, task_loss))
    own, other = (float(task_loss(v)) for v in (pair[0], jax.tree.map(lambda x: 2 * x, pair[0])))
    np.testing.assert_allclose(loss(*pair, plans, np.float32(0.3)), own, rtol=1e-5)
    assert abs(float(loss(*pair, transpose(spec, plans), np.float32(0.3))) - own) > 1e-2
    doubled = jax.tree.map(lambda x: 2 * x, pair[1])
    np.testing.assert_allclose(loss(pair[0], doubled, plans, np.float32(1.0)), other, rtol=1e-5)
    np.testing.assert_allclose(loss(pair[0], doubled, plans, np.float32(0.0)), own, rtol=1e-5)


class Exact:
    """Stands in for the model: the features are the networks, the scores the very permutation, strongly scaled."""

    def __init__(self, spec, scale=1e3):
        self.spec, self.scale = spec, scale

    def apply(self, _, *args, method):
        return getattr(self, method)(*args)

    def encode(self, params):
        return dict(zip(self.spec.sizes, map(unit_rows, incoming(params, len(self.spec.sizes))), strict=True))

    def product(self, x, y):
        return {g: self.scale * (jnp.matmul(x[g], y[g].T, precision="highest") - 0.99) for g in x}

    def compare(self, a, x, b, y):
        return self.product(x, y)


def incoming(params, layers):
    """For each group a row a unit that does not depend on the order of other groups: sorted incoming weights."""
    for k in range(layers):
        layer = params["params"][f"dense_{k}"]
        yield jnp.concatenate([jnp.sort(layer["kernel"].T, -1), layer["bias"][:, None]], -1)


def unit_rows(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def own_loss(network, data, params):
    return jax.jit(lambda v: cross_entropy(network.apply(v, data.inputs), data.labels))(params)


def compute(model, network, data, a, b, perms, **options):
    found = pair_losses(
        model,
        {},
        a,
        b,
        key=jax.random.key(0),
        task_loss=lambda v: cross_entropy(network.apply(v, data.inputs), data.labels),
        augmentation=Augmentation(noise=0, zeroing=0, quantile=0, scaling=0),
        optimisation=Optimisation(solver="scaling", **options),
        perms=perms,
    )
    return dict(zip(METRICS, found, strict=True))


def test_the_losses_of_a_pair_agree_on_what_is_whose(network, pair, data):
    values = jax.jit(lambda a, b, perms: compute(Exact(network.spec), network, data, a, b, perms))
    found = values(*pair, PERMS)
    own = own_loss(network, data, pair[0])
    assert float(found["supervised"]) < 0.05, "the labels must be the inverse of how the copy was moved"
    assert float(found["distillation"]) < 0.05
    assert float(found["alignment"]) < 1e-3
    np.testing.assert_allclose(found["mode_connectivity"], own, rtol=1e-2)
    assert float(values(*pair, inverse(network.spec, PERMS))["distillation"]) > 1


def test_hard_losses_are_those_of_the_permutation(network, pair, data):
    weak = Exact(network.spec, scale=3.0)
    both = jax.jit(lambda a, b: [compute(weak, network, data, a, b, None, hard=flag) for flag in (False, True)])
    soft, hard = both(*pair)
    own = own_loss(network, data, pair[0])
    assert float(hard["alignment"]) < 1e-6 < 0.1 < float(soft["alignment"])
    np.testing.assert_allclose(hard["mode_connectivity"], own, rtol=1e-4)
