"""Modules of linen: variables in, variables out."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import dwalign
from tests import drawn
from tests.compiled import compilations
from tests.frontends import laws

X, KEY = drawn.normal(8, 5), jax.random.key(0)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(6)(x)))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


def test_a_module_with_batch_statistics():
    model = Net()
    evaluated = lambda variables: model.apply(variables, X, train=False)
    net, params = laws.there_and_back(model, X, answer=evaluated, key=jax.random.key(0))
    assert net.spec.sizes == {"h0": 6}
    assert jax.tree.map(jnp.shape, net.init(jax.random.key(1))) == jax.tree.map(jnp.shape, params)

    def trained(variables):
        keep = lambda call, args, kwargs, context: (
            args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)
        )
        with nn.intercept_methods(keep):
            return model.apply(variables, X, train=True, mutable=["batch_stats"])[0]

    laws.renewed(net, params, X, evaluated=evaluated, trained=trained)


def test_a_norm_that_says_for_itself_that_it_evaluates_is_trained_too():
    model = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=True), nn.relu, nn.Dense(2)])
    net, params = dwalign.from_model(model, X, key=jax.random.key(0))
    laws.renewed(net, laws.varied(params), X, evaluated=lambda variables: model.apply(variables, X))


def test_shapes_are_those_of_the_variables():
    _, params = dwalign.from_model(Net(), X, key=jax.random.key(0))
    assert dwalign.frontends.shapes_of(Net(), X) == jax.eval_shape(lambda: params)


def test_inputs_may_be_shapes():
    model, shape = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)]), jax.ShapeDtypeStruct((2, 3), jnp.float32)
    net, params = dwalign.from_model(model, shape, key=jax.random.key(0))
    same = dwalign.network(model.apply, dwalign.frontends.shapes_of(model, shape), shape)
    assert same.spec == net.spec and same.example.shape == (1, 3)
    # what is asked of an example afterwards, on numbers or not
    assert dwalign.align(net, params, params, "auto").perms["h0"].tolist() == [0, 1, 2, 3]
    assert net.init(jax.random.key(1)).keys() == {"params"}


def test_a_module_that_broadcasts_is_initialised_whatever_is_set_around():
    class Shifted(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.relu(nn.Dense(6)(x + self.param("shift", nn.initializers.ones, (5,)))))

    assert jax.config.jax_numpy_rank_promotion == "raise"
    _, params = dwalign.from_model(Shifted(), X, key=jax.random.key(0))
    assert dwalign.frontends.shapes_of(Shifted(), X) == jax.eval_shape(lambda: params)


def test_variables_are_asked_for():
    with pytest.raises(ValueError, match=r"pass params=.*or key="):
        dwalign.from_model(nn.Dense(2), X)
    with pytest.raises(ValueError, match=r"found builtins\.function; dwalign\.network"):
        dwalign.from_model(lambda x: x, X)


class Offset(nn.Module):
    by: object

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(6)(x) + self.by))


def test_equal_modules_make_equal_networks_that_compile_once():
    made = lambda width: dwalign.from_model(nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(3)]), X, key=KEY)[0]
    one, same, other = map(made, (6, 6, 7))
    assert one == same != other and hash(one) == hash(same)
    a, b = (drawn.weights(one.params, seed) for seed in range(2))
    matched = lambda net: dwalign.align(net, a, b, dwalign.activation_matching, data=dwalign.Data(X))
    found = matched(one)
    with compilations() as seen:
        chex.assert_trees_all_equal(matched(same).perms, found.perms)
    assert not seen


def test_modules_that_hold_arrays_are_themselves_alone():
    values = drawn.normal(1, 6)
    one, same, other = (dwalign.from_model(Offset(by), X, key=KEY)[0] for by in (values, values, values.copy()))
    assert one == same != other
