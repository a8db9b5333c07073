"""Normalisations by name."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from dwalign.networks.norm import NORMS, make_norm


def test_every_name_gives_a_layer_and_none_the_identity():
    for kind in NORMS:
        assert isinstance(make_norm(kind, name="norm"), nn.Module)
    x = jnp.ones(3)
    assert make_norm(None, name="norm")(x) is x
    assert make_norm("group", name="norm", groups=4).num_groups == 4
    assert make_norm("batch", name="norm", train=True).use_running_average is False


def test_errors():
    with pytest.raises(ValueError, match="must be one of"):
        make_norm("instance", name="norm")
