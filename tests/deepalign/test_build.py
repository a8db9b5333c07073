"""Aligners whose parameters are shared by role serve networks of other widths and depths."""

import jax
import jax.numpy as jnp
import pytest

from dwalign.deepalign import Aligner, AlignerConfig, deep_align, fit_aligner, make_model
from dwalign.networks import mlp
from dwalign.symmetry import SpecError, inverse, permute, random_perms

CONFIG = AlignerConfig(channels=8, depth=2, features=16, updates=2, probes=24, shared=True)


@pytest.mark.parametrize("kind", ["graph", "probe"])
@pytest.mark.parametrize("widths", [(9, 5), (4, 7, 5, 8, 6)])
def test_other_widths_and_depths(kind, widths, network, data):
    config = CONFIG._replace(encoder=kind)
    home = make_model(network, config, data.inputs)
    example = network.init(jax.random.key(0))
    variables = jax.jit(home.init)(jax.random.key(1), example, example)
    other = mlp(6, widths, 3)
    aligner = fit_aligner(Aligner(make_model(other, config, data.inputs), variables), other)
    v = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), other.init(jax.random.key(2))
    )
    planted = random_perms(other.spec, jax.random.key(3))
    found = jax.jit(lambda a, b: deep_align(other.spec, a, b, aligner=aligner).perms)(
        v, permute(other.spec, v, planted)
    )
    wanted = inverse(other.spec, planted)
    assert all(jnp.array_equal(found[g], wanted[g]) for g in wanted)


def test_what_does_not_fit_is_named(network, data):
    alone = CONFIG._replace(encoder="graph", shared=False)
    example = network.init(jax.random.key(0))
    variables = jax.jit(make_model(network, alone, data.inputs).init)(jax.random.key(1), example, example)
    deeper = mlp(6, (7, 5, 7, 7), 3)
    with pytest.raises(SpecError, match="train with shared=True"):
        fit_aligner(Aligner(make_model(deeper, alone, data.inputs), variables), deeper)


def test_dws_cannot_be_shared(network, data):
    with pytest.raises(ValueError, match="take graph or probe"):
        make_model(network, CONFIG._replace(encoder="dws"), data.inputs)
