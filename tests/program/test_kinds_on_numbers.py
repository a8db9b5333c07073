"""A kind that is wrong, and one that is missed, is told by numbers."""

import jax
import jax.numpy as jnp
import pytest

from dwalign.program import CertificateError, certify
from dwalign.symmetry import Axes, PermutationSpec
from tests.drawn import named as weights
from tests.program.free import X, inferred, norm


def two_layers(p, x):
    return jax.nn.relu(x @ p["up"]) @ p["down"]


def spec_of(kind, up="h", down="h"):
    return PermutationSpec({"up": Axes(None, up), "down": Axes(down, None)}, {"h": 6}, kinds={"h": kind})


@pytest.mark.parametrize(
    "wrong",
    [
        spec_of("scale"),
        spec_of("scale", down="h^-2"),
        spec_of("sign"),
        spec_of("monomial", down="h^-1"),
        spec_of("orthogonal"),
        spec_of("linear", down="h^-1"),
    ],
    ids=lambda spec: str(spec.written[0]) + spec.kinds["h"],
)
def test_a_wrong_kind_or_power_is_no_symmetry(wrong):
    with pytest.raises(CertificateError, match="'h'"):
        certify(wrong, two_layers, weights(up=(5, 6), down=(6, 2)), X)


@pytest.mark.parametrize(
    ("middle", "spec", "missed"),
    [
        (lambda h: h, spec_of("orthogonal"), {"scales", "maps"}),
        (lambda h: h, spec_of("scale", down="h^-1"), {"maps", "signs"}),
        (jnp.abs, spec_of("scale", down="h^-1"), {"signs"}),
        (jnp.abs, spec_of("sign", up="h", down="h^0"), {"scales"}),
        (norm, spec_of("sign"), {"maps"}),
        (lambda h: h**2, spec_of("sign", up="h", down="h^0"), {"scales"}),
        (jax.nn.relu, spec_of("scale", down="h^-1"), set()),
        (jnp.tanh, spec_of("sign"), set()),
    ],
)
def test_numbers_show_what_a_declared_kind_misses(middle, spec, missed):
    apply = lambda p, x: middle(x @ p["up"]) @ p["down"]
    certificate = certify(spec, apply, weights(up=(5, 6), down=(6, 2)), X, complete=True)
    text = " ".join(note.why for note in certificate.missed)
    assert {what for what in ("scales", "maps", "signs") if f"more {what}" in text} == missed
    assert all(
        "['up']" in note.why and "['down']" in note.why for note in certificate.missed if "signs" not in note.why
    )


def test_what_only_large_weights_show():
    """As solvers take smaller steps for them."""
    most = lambda p: jnp.min(jnp.sum(p["up"] ** 2, 0))
    apply = lambda p, x: (lambda h: jnp.where(most(p) > 25, jnp.tanh(h), h) @ p["down"])(x @ p["up"])
    spec, certificate = inferred(apply, weights(up=(5, 6), down=(6, 2)), X)
    assert dict(spec.kinds) == {"h0": "sign"} and not certificate.missed


def test_one_of_two_directions_is_missed():
    axes = {"one": Axes(None, "h"), "two": Axes(None, "h^0"), "down": Axes("h^-1", None)}
    spec = PermutationSpec(axes, {"h": 6}, kinds={"h": "monomial"})
    apply = lambda p, x: (x @ p["one"]) * (x @ p["two"]) @ p["down"]
    params = weights(one=(5, 6), two=(5, 6), down=(6, 2))
    found = [note.why for note in certify(spec, apply, params, X, complete=True).missed]
    assert len(found) == 2 and "scales are (1)" in found[0] and "signs are (1)" in found[1]
    assert all("['two']" in why for why in found)
    # nothing is asked of specs that have orders alone
    assert not certify(spec.with_kinds(), apply, params, X, complete=True).missed


def test_what_the_rules_do_not_know_is_found_on_numbers():
    """Factors are sums in logarithms, and factors again after them."""
    apply = lambda p, x: jnp.exp(jnp.log(jnp.abs(x @ p["up"])) / 2) @ p["down"]
    spec, certificate = inferred(apply, weights(up=(5, 6), down=(6, 2)), X)
    assert dict(spec.kinds) == {"h0": "sign"}
    (note,) = certificate.missed
    assert "group 'h0'" in note.why and "scales are (1), on ['down'], ['up']" in note.why


def test_a_batched_group_is_probed_at_one_index():
    """Values of linear attention: declared as scales they are maps."""
    axes = {"v": Axes(None, "head", "d"), "o": Axes("head", "d^-1", None)}
    params = weights(v=(5, 3, 2), o=(3, 2, 4))
    apply = lambda p, x: jnp.einsum("bi,ihd,hdo->bo", x, p["v"], p["o"])
    for kind, missed in ("scale", 2), ("linear", 0):
        kinds = {"d": kind}
        spec = PermutationSpec(axes, {"head": 3, "d": 2}, batch={"d": ("head",)}, kinds=kinds)
        found = [note for note in certify(spec, apply, params, X, complete=True).missed if "more" in note.why]
        assert len(found) == missed and all("group 'd'" in note.why and note.dimension < 3 for note in found)
