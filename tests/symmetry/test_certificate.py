"""The certificate: right specs pass, wrong ones are named, missed symmetries are found."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.symmetry import Axes, CertificateError, PermutationSpec, certify, infer_spec

X = jax.random.normal(jax.random.key(1), (3, 5))
PARAMS = {"up": jnp.ones((5, 9)), "bias": jnp.zeros(9), "down": jnp.ones((9, 2))}
SPEC = PermutationSpec({"bias": Axes("h"), "down": Axes("h", None), "up": Axes(None, "h")}, {"h": 9})


def apply(params, x):
    return jax.nn.relu(x @ params["up"] + params["bias"][None]) @ params["down"]


def test_a_right_spec_passes_and_misses_nothing():
    found = certify(SPEC, apply, PARAMS, X, complete=True)
    assert found.error < 1e-5 and found.missed == ()


@pytest.mark.parametrize("left_out", ["bias", "down", "up"])
def test_the_array_that_does_not_fit_is_named(left_out):
    axes = {**SPEC.axes, left_out: Axes(*(None,) * len(SPEC.axes[left_out].dims))}
    wrong = PermutationSpec(axes, {"h": 9})
    # zero biases and equal weights would pass if they were not disturbed
    with pytest.raises(CertificateError, match="group 'h'"):
        certify(wrong, apply, PARAMS, X)


def test_the_one_array_too_many_is_named():
    wrong = PermutationSpec({**SPEC.axes, "last": Axes("h")}, {"h": 9})
    params = {**PARAMS, "last": jnp.ones(9)}
    with pytest.raises(CertificateError, match=r"must not be on \['last'\]"):
        certify(wrong, lambda p, x: jnp.cumsum(apply(p, x) @ jnp.ones((2, 9)) * p["last"][None], -1), params, X)


def test_a_symmetry_that_a_spec_misses_is_reported_where_the_program_shows_it():
    # h + (h reversed) is the same for every exchange of mirrored pairs only; h + 0 * reversed for all of them
    hidden = lambda p, x: apply(p, x) + 0 * jnp.sum(jnp.cumsum(x @ p["up"], -1), -1, keepdims=True)
    spec = infer_spec(hidden, PARAMS, X)
    assert not spec.sizes
    missed = certify(spec, hidden, PARAMS, X, complete=True).missed
    assert [note.size for note in missed] == [9] and "cumsum" in missed[0].why
    assert certify(spec, hidden, PARAMS, X, complete=True, moderate=10).missed == ()


def test_what_a_spec_leaves_out_is_reported():
    nothing = PermutationSpec({name: Axes(*(None,) * leaf.ndim) for name, leaf in PARAMS.items()}, {})
    missed = certify(nothing, apply, PARAMS, X, complete=True).missed
    assert {(note.path, note.dimension) for note in missed} == {("['bias']", 0), ("['down']", 0), ("['up']", 1)}
    assert all(note.size == 9 and "not declared" in note.why for note in missed)


def test_independent_heads_that_a_spec_ties_are_reported():
    heads = lambda p, x: jnp.einsum("bhq,hqo->bo", jnp.tanh(jnp.einsum("bi,ihq->bhq", x, p["up"])) ** 3, p["down"])
    params = {"up": jnp.ones((5, 4, 3)), "down": jnp.ones((4, 3, 2))}
    tied = PermutationSpec({"up": Axes(None, "g", "h"), "down": Axes("g", "h", None)}, {"g": 4, "h": 3})
    missed = certify(tied, heads, params, X, complete=True).missed
    assert missed and all("4 independent copies" in note.why for note in missed)
    assert certify(infer_spec(heads, params, X), heads, params, X, complete=True).missed == ()


@pytest.mark.parametrize("beside", ["large", "imaginary"])
def test_a_wrong_output_is_seen_beside_others(beside):
    wrong = PermutationSpec({**SPEC.axes, "bias": Axes(None)}, {"h": 9})
    outputs = {
        "large": lambda p, x: (1e8 * jnp.ones(3), apply(p, x)),
        "imaginary": lambda p, x: jax.lax.complex(jnp.ones((3, 2)), apply(p, x)),
    }[beside]
    with pytest.raises(CertificateError, match="group 'h'"):
        certify(wrong, outputs, PARAMS, X)
    assert certify(SPEC, outputs, PARAMS, X).error < 1e-4


def test_keys_are_inputs_like_others():
    dropped = lambda p, x, key: apply(p, x) * jax.random.bernoulli(key, 0.5, (3, 1))
    spec = infer_spec(dropped, PARAMS, X, jax.random.key(0))
    assert certify(spec, dropped, PARAMS, X, jax.random.key(0)).error < 1e-5 and dict(spec.sizes) == {"h0": 9}


def test_abstract_shapes_are_filled():
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (PARAMS, X))
    assert certify(SPEC, apply, *abstract).error < 1e-4
    wrong = PermutationSpec({**SPEC.axes, "bias": Axes(None)}, {"h": 9})
    with pytest.raises(CertificateError):
        certify(wrong, apply, *abstract)


def test_batch_statistics_stay_positive():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(7)(x))))

    model = Model()
    params = model.init(jax.random.key(0), X)
    assert certify(infer_spec(model.apply, params, X), model.apply, params, X, complete=True).missed == ()


def test_functions_that_cannot_be_certified():
    rng = np.random.default_rng(0)

    def noisy(params, x):
        noise = jax.pure_callback(lambda: rng.normal(size=()).astype(np.float32), jax.ShapeDtypeStruct((), jnp.float32))
        return apply(params, x) + noise

    with pytest.raises(CertificateError, match="pure function"):
        certify(SPEC, noisy, PARAMS, X)
    with pytest.raises(CertificateError, match="finite"):
        certify(SPEC, lambda p, x: apply(p, x) / 0, PARAMS, X)
