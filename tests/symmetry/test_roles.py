"""Roles: what may share parameters, and what must not."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np

from dwalign import network
from dwalign.networks import mlp, resnet20, transformer
from dwalign.program import infer_spec
from dwalign.symmetry import Axes, PermutationSpec, as_read, block_roles, group_roles
from tests import drawn


def roles_of(net):
    blocks = net.spec.blocks(drawn.started(net.init))
    return group_roles(net.spec), block_roles(net.spec, blocks)


def test_deeper_mlps_bring_no_new_roles():
    three, ten = roles_of(mlp(6, (5, 4, 3), 2)), roles_of(mlp(6, (7,) * 12, 2))
    assert set(three[0].values()) == set(ten[0].values()) and len(set(ten[0].values())) == 3
    assert set(three[1]) == set(ten[1])


def test_first_and_last_layers_differ():
    groups, _ = roles_of(mlp(6, (5, 5, 5), 6))
    assert len({groups["h0"], groups["h1"], groups["h2"]}) == 3


def test_not_shared_is_one_name_each():
    spec = mlp(6, (5, 5, 5), 6).spec
    assert group_roles(spec, shared=False) == {"h0": "h0", "h1": "h1", "h2": "h2"}


def test_layers_of_a_transformer_and_widths_of_a_residual_network():
    deep, shallow = (set(group_roles(transformer(depth=n).spec).values()) for n in (3, 1))
    assert deep == shallow
    narrow, wide = (set(group_roles(resnet20(width=w, depth=14).spec).values()) for w in (2, 4))
    assert narrow == wide


def torch_like(widths, inputs=6, outputs=2):
    """An MLP of kernels [out, in] under other names."""
    sizes = [inputs, *widths, outputs]
    params = [{"w": np.ones((n, m), "f"), "b": np.ones(n, "f")} for m, n in pairwise(sizes)]

    def apply(params, x):
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["w"].T + layer["b"][None])
        return x @ params[-1]["w"].T + params[-1]["b"][None]

    return network(apply, params, np.ones((2, inputs), "f"))


def test_names_and_the_order_of_dimensions_make_no_difference():
    other, ours = torch_like((5, 4, 3)), mlp(6, (5, 4, 3), 2)
    assert group_roles(other.spec) == group_roles(ours.spec)
    params = drawn.weights(other.params)
    turned = as_read(other.spec, other.spec.blocks(params))
    assert sorted(block_roles(other.spec, turned)) == sorted(roles_of(ours)[1])
    for before, after in zip(other.spec.blocks(params), turned, strict=True):
        np.testing.assert_array_equal(before.array.T, after.array)
        assert before.factors[::-1] == after.factors
    as_they_are = as_read(other.spec, other.spec.blocks(params), shared=False)
    assert [block.factors for block in as_they_are] == [block.factors for block in other.spec.blocks(params)]


def test_names_are_told_where_nothing_else_tells_arrays_apart():
    spec = PermutationSpec({"up": Axes(None, "h"), "scale": Axes("h"), "bias": Axes("h")}, {"h": 3})
    assert group_roles(spec) == {"h": "(_, self) & bias(self) & scale(self)"}
    blocks = spec.blocks({"up": np.ones((2, 3)), "scale": np.ones(3), "bias": np.ones(3)})
    assert block_roles(spec, blocks) == ["bias(.)", "scale(.)", "(2, .)"]


def test_up_and_down_differ_by_how_they_are_read():
    def apply(params, x):
        stream = x @ params["in"].T
        return (stream + jnp.tanh(stream @ params["up"].T) @ params["down"].T) @ params["out"].T

    params = {"in": np.ones((6, 4)), "up": np.ones((5, 6)), "down": np.ones((6, 5)), "out": np.ones((3, 6))}
    spec = infer_spec(apply, params, np.ones((2, 4)))
    roles = dict(zip(sorted(params), block_roles(spec, as_read(spec, spec.blocks(params))), strict=True))
    assert roles == {"down": "(., .)", "in": "(4, .)", "out": "(., 3)", "up": "(., .)"}
    assert group_roles(spec) == {
        "h0": "(., self) & (_, self) & (self, .) & (self, _)",
        "h1": "(., self) & (self, .)",
    }


def test_flat_pictures_by_channels_or_by_positions():
    places, channels = (PermutationSpec({"w": Axes(dim, "u")}, {"h": 3, "u": 5}) for dim in ((4, "h"), ("h", 4)))
    assert group_roles(places) == group_roles(channels)
    one, other = drawn.normal(4, 3, 5), drawn.normal(3, 4, 5)
    read = lambda spec, x: as_read(spec, spec.blocks({"w": x.reshape(12, 5)}))[0].array
    np.testing.assert_array_equal(read(places, one), one)
    np.testing.assert_array_equal(read(channels, other), other.swapaxes(0, 1))
