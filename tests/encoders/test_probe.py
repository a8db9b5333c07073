"""The probe encoder: starts as activation matching, stays equivariant, finite for dead units, exact untrained."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import hungarian
from dwalign.encoders.probe import ProbeEncoder
from dwalign.matching.activation import activation_matching
from dwalign.networks import mlp
from dwalign.program import Units, make_capture
from dwalign.symmetry import Axes, PermutationSpec, SpecError, permute, random_perms

NET = mlp(9, (8, 7), 3)
INPUTS = jax.random.normal(jax.random.key(10), (12, 9))


# positions [m, 2] between examples and units, and units batched over heads
HEADS = PermutationSpec(
    {"in": Axes(None, "h0", "h1"), "out": Axes("h0", "h1", None)},
    {"h0": 3, "h1": 4},
    batch={"h1": ("h0",)},
)


@make_capture
def capture_heads(params, inputs):
    pre = jnp.einsum("mpi,ihu->mphu", inputs, params["in"])
    post = jnp.tanh(pre) * jnp.tanh(jnp.sum(pre**2, -1, keepdims=True))
    return jnp.einsum("mphu,huo->mo", post, params["out"])


def case(name):
    """spec, params, encoder, variables away from the start."""
    if name == "mlp":
        spec, params = NET.spec, NET.init(jax.random.key(0))
        encoder = ProbeEncoder(spec, capture=NET.capture, inputs=INPUTS, features=8, rounds=1)
    else:
        keys = jax.random.split(jax.random.key(0), 3)
        spec, params = (
            HEADS,
            {"in": jax.random.normal(keys[0], (5, 3, 4)), "out": jax.random.normal(keys[1], (3, 4, 2))},
        )
        inputs = jax.random.normal(keys[2], (6, 2, 5))
        encoder = ProbeEncoder(spec, capture=capture_heads, inputs=inputs, features=8, rounds=1)
    # numpy, because a compiled init takes longer than the test
    rng = np.random.default_rng(1)
    fill = lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32)
    return spec, params, encoder, jax.tree.map(fill, jax.eval_shape(encoder.init, jax.random.key(1), params))


def as_one_of_two(function):
    stacked = jax.jit(jax.vmap(function))
    return lambda v: jax.tree.map(lambda x: x[1], stacked(jax.tree.map(lambda x: jnp.stack([x + 1, x]), v)))


@pytest.mark.parametrize(
    "name, wrap",
    [("mlp", lambda f: f), ("mlp", as_one_of_two), ("heads", jax.jit), ("mlp", jax.jit)],
    ids=["eager", "vmap", "heads", "jit"],
)
def test_equivariance(name, wrap):
    spec, params, encoder, variables = case(name)
    perms = random_perms(spec, jax.random.key(2))
    tree = PermutationSpec({g: Axes(*spec.batch.get(g, ()), g, None) for g in spec.sizes}, spec.sizes, batch=spec.batch)
    encode = wrap(lambda v: encoder.apply(variables, v))
    expected = permute(tree, encode(params), perms)
    chex.assert_trees_all_close(encode(permute(spec, params, perms)), expected, atol=1e-4)


@pytest.mark.parametrize("centred", [False, True], ids=["inner products", "correlations"])
@pytest.mark.parametrize("name", ["mlp", "heads"])
def test_simulates_activation_matching(name, centred):
    spec, a, encoder, _ = case(name)
    b = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(x.size), x.shape), a)
    encoder = encoder.clone(kinds=("post",), rounds=0, learned=False, centred=centred)
    assert not encoder.init(jax.random.key(0), a)
    for g, n in spec.sizes.items():
        x, y = encoder.apply({}, a)[g], encoder.apply({}, b)[g]
        scores = jnp.einsum("...id,...jd->...ij", x, y, precision="highest")
        # the scores from their definition: [examples and positions, batch, n]
        u, v = (encoder.capture(p, encoder.inputs)[1].post[g].reshape(-1, *spec.batch_shape(g), n) for p in (a, b))
        if centred:
            u, v = (z - z.mean(0, keepdims=True) for z in (u, v))
            u, v = (z / jnp.sqrt((z**2).mean(0, keepdims=True) + 1e-8) for z in (u, v))
        expected = jnp.einsum("p...i,p...j->...ij", u, v, precision="highest") / len(u)
        chex.assert_trees_all_close(scores, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("correlation", [False, True])
def test_agrees_with_the_method_of_that_name(correlation):
    a, b = NET.init(jax.random.key(0)), NET.init(jax.random.key(1))
    encoder = ProbeEncoder(
        NET.spec, capture=NET.capture, inputs=INPUTS, kinds=("post",), rounds=0, learned=False, centred=correlation
    )
    x, y = encoder.apply({}, a), encoder.apply({}, b)
    batch = (INPUTS, jnp.zeros(len(INPUTS), int))
    result = activation_matching(NET.spec, a, b, capture=NET.capture, batch=batch, correlation=correlation)
    chex.assert_trees_all_close({g: x[g] @ y[g].T for g in x}, result.scores, atol=1e-4)


def test_the_learned_correction_starts_at_zero_and_learns_at_once():
    params = NET.init(jax.random.key(0))
    full = ProbeEncoder(NET.spec, capture=NET.capture, inputs=INPUTS, features=8, rounds=1)
    plain = full.clone(rounds=0)
    variables = jax.jit(full.init)(jax.random.key(1, impl="unsafe_rbg"), params)
    probes = {"params": {k: variables["params"][k] for k in ("probes", "readout", "weights")}}
    chex.assert_trees_all_equal(variables["params"]["probes"], INPUTS)
    chex.assert_trees_all_close(jax.jit(full.apply)(variables, params), plain.apply(probes, params), atol=1e-6)
    total = lambda v: sum(jnp.sum(x[0] * x[1]) for x in full.apply(v, params).values())
    grads = jax.jit(jax.grad(total))(variables)["params"]
    assert all(float(jnp.abs(grads[k]).max()) > 0 for k in ("probes", "readout", "weights"))
    assert all(float(jnp.abs(grads[f"out_{g}"]["kernel"]).max()) > 0 for g in NET.spec.sizes)


def test_sensitivities_are_gradients_of_the_read_out():
    params = NET.init(jax.random.key(0))
    encoder = ProbeEncoder(
        NET.spec, capture=NET.capture, inputs=INPUTS, kinds=("sensitivity",), rounds=0, centred=False
    )
    variables = encoder.init(jax.random.key(1), params)
    readout = variables["params"]["readout"]
    _, units = NET.capture(params, INPUTS)
    last = params["params"]["dense_2"]["kernel"]
    expected = (units.pre["h1"][:, 0] > 0) * (readout @ last.T)
    found = encoder.apply(variables, params)["h1"]
    chex.assert_trees_all_close(found, expected.T / jnp.sqrt(len(INPUTS)), atol=1e-5)


def test_dead_units_have_finite_gradients():
    _, params, encoder, variables = case("mlp")
    kernel = params["params"]["dense_1"]["kernel"].at[:, :2].set(0)
    dead = {"params": {**params["params"], "dense_1": {"bias": jnp.zeros(7), "kernel": kernel}}}
    total = lambda v, p: sum(jnp.sum(jnp.tanh(x)) for x in encoder.apply(v, p).values())
    for network in (dead, jax.tree.map(jnp.zeros_like, params)):
        value, grads = jax.jit(jax.value_and_grad(total, (0, 1)))(variables, network)
        chex.assert_tree_all_finite((value, grads))


def test_untrained_features_recover_a_planted_permutation():
    net = mlp(64, (32, 32, 32), 10)
    unit = lambda x: x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-12)

    def draw(key):
        keys = jax.random.split(key, 4)
        encoder = ProbeEncoder(
            net.spec, capture=net.capture, inputs=jax.random.normal(keys[3], (16, 64)), features=8, rounds=1
        )
        params, perms = net.init(keys[0]), random_perms(net.spec, keys[1])
        variables = encoder.init(keys[2], params)
        moved = encoder.apply(variables, permute(net.spec, params, perms))
        own = encoder.apply(variables, params)
        return {g: jnp.all(hungarian(unit(moved[g]) @ unit(own[g]).T) == perms[g]) for g in perms}

    found = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(3, impl="unsafe_rbg"), 100))
    assert {g: int(x.sum()) for g, x in found.items()} == dict.fromkeys(net.spec.sizes, 100)


def test_errors_say_what_is_missing():
    params = NET.init(jax.random.key(0))
    with pytest.raises(ValueError, match="kinds must hold some of"):
        ProbeEncoder(NET.spec, capture=NET.capture, inputs=INPUTS, kinds=("posts",)).init(jax.random.key(0), params)
    nothing = lambda p, x, readout=None: (x, Units({}, {}))
    with pytest.raises(SpecError, match=r"'h0' units \[m, ..., 8,\], found only"):
        encoder = ProbeEncoder(NET.spec, capture=nothing, inputs=INPUTS, kinds=("post",))
        encoder.init(jax.random.key(0), params)
