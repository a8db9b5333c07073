"""Roles: what may share parameters, and what must not."""

from dwalign.networks import mlp, resnet20, transformer
from dwalign.symmetry import block_roles, group_roles
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
