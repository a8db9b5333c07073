"""Every method on networks whose arrays are stored in every way, beside arrays that are no weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dwalign
from dwalign import Data
from dwalign.symmetry import permute
from tests import drawn
from tests.nights import long

X = np.random.default_rng(0).standard_normal((24, 6)).astype(np.float32)
Y = np.arange(24) % 3


def forward(params, x):
    wide = {name: params[name].astype(jnp.float32) for name in ("int8", "float16", "bfloat16", "mask")}
    h = jax.nn.relu(x @ (wide["int8"] * wide["mask"]) / 40 + wide["float16"][None])
    h = jax.nn.relu(h @ wide["bfloat16"] + params["running_mean"][None])
    return (h @ params["complex64"]).real


def network(seed):
    rng = np.random.default_rng(seed)
    return {
        "int8": rng.integers(-99, 99, (6, 7)).astype(np.int8),
        "float16": rng.standard_normal(7).astype(np.float16),
        "bfloat16": jnp.asarray(rng.standard_normal((7, 5)), jnp.bfloat16),
        "complex64": (rng.standard_normal((5, 3)) + 1j * rng.standard_normal((5, 3))).astype(np.complex64),
        "mask": rng.random((6, 7)) < 0.9,
        "running_mean": rng.standard_normal(5).astype(np.float32),
        "step": np.int32(seed),
        "rngs": jax.random.key(seed),
    }


METHODS = {
    "weight_matching": {"restarts": 2},
    "features": {},
    "activation_matching_correlation": {},
    "straight_through": {"iterations": 2},
    "sinkhorn": {"iterations": 2},
    "refine": {"steps": 2},
}


@functools.cache
def inferred(wide):
    return dwalign.network(forward, network(0), X)


# what x64 changes for the other methods is in test_arguments.py
@pytest.mark.parametrize(
    "method, wide",
    [
        *((name, False) for name in METHODS),
        *((name, True) for name in ("weight_matching", "refine")),
        *long(("straight_through", True)),
    ],
)
def test_methods_take_every_storage(method, wide):
    with jax.enable_x64(wide):
        a = network(0)
        net = inferred(wide)
        spec = net.spec
        assert set(spec.sizes.values()) == {7, 5}
        b = permute(spec, a, drawn.perms(spec, 1)) | {n: network(1)[n] for n in ("step", "rngs")}
        found = dwalign.align(net, a, b, method, data=Data(X, Y), certified=False, **METHODS[method])
        if method not in ("sinkhorn", "refine"):  # which are not done after two steps
            assert dwalign.distance(spec, a, b, perms=found.perms) == 0
        merged = dwalign.interpolate(spec, a, b, 0.5, perms=found.perms)
        assert {n: leaf.dtype for n, leaf in merged.items()} == {n: leaf.dtype for n, leaf in a.items()}
