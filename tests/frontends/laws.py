"""What holds for a model of every package."""

import jax
import numpy as np
import pytest

import dwalign
from dwalign.frontends import open_model
from tests import drawn


def varied(params, seed=0):
    """Parameters of which none is constant, which would hide what a permutation does; what is positive stays so."""
    rng = np.random.default_rng(seed)

    def vary(leaf):
        leaf = np.asarray(leaf)
        if leaf.dtype.kind != "f":
            return leaf
        noise = 0.3 * rng.standard_normal(leaf.shape)
        return (leaf * np.exp(noise) if leaf.min() > 0 else leaf + noise).astype(leaf.dtype)

    return jax.tree.map(vary, params)


def there_and_back(model, *inputs, answer, params=None, key=None, **options):
    """The network reads every symmetry; permuted and put back, the model answers as before, by its own call.

    `answer(placed)` calls what `into_model` returned, as the package does. Returns the network and its parameters.
    """
    net, params = dwalign.from_model(model, *inputs, params=params, key=key, **options)
    params = varied(params)
    fed = inputs[0] if len(inputs) == 1 else inputs
    assert net.spec.sizes and not dwalign.certify(net.spec, net.apply, params, fed, complete=True).missed

    perms = drawn.perms(net.spec)
    moved = dwalign.permute(net.spec, params, perms)
    before, after = (np.asarray(answer(dwalign.into_model(model, arrays))) for arrays in (params, moved))
    assert np.ptp(before) > 0
    np.testing.assert_allclose(jax.jit(net.apply)(params, fed), before, atol=1e-5)
    np.testing.assert_allclose(after, before, atol=1e-5)

    found = dwalign.align(net, params, moved, certified=False)
    assert float(dwalign.distance(net.spec, params, moved, perms=found.perms)) == 0.0
    return net, params


def renewed(net, params, inputs, *, evaluated, trained=None, tolerance=1e-5):
    """`train` renews what it normalises by, and nothing else: the package evaluates as it trained on these inputs.

    `evaluated(params)` and `trained(params)` are calls of the package itself, the latter with nothing dropped.
    """
    outputs, new = jax.jit(net.train)(params, inputs)
    assert np.abs(jax.jit(net.apply)(params, inputs) - outputs).max() > 1e-2
    np.testing.assert_allclose(evaluated(new), outputs, atol=tolerance)
    if trained is not None:
        np.testing.assert_allclose(trained(params), outputs, atol=1e-5)
    paths, roles = net.spec.paths, dwalign.symmetry.leaf_roles(net.spec, params)
    for path, role, one, two in zip(paths, roles, *map(jax.tree.leaves, (params, new)), strict=True):
        assert (role == "statistic") == bool(np.any(one != two)), path
    return new


def other_shapes_are_refused(model, *inputs):
    """An array of another shape is named, and none of the others is put in before."""
    params = jax.tree.map(np.array, open_model(model, *inputs).params)
    *leaves, last = map(np.zeros_like, jax.tree.leaves(params))
    wrong = jax.tree.unflatten(jax.tree.structure(params), [*leaves, last[:1]])
    with pytest.raises(ValueError, match=r"must have shape \(.+\), found \(1,"):
        dwalign.into_model(model, wrong)
    jax.tree.map(np.testing.assert_array_equal, open_model(model, *inputs).params, params)
