"""Numbers at their ends: dead and equal units, nothing but zeros, large and small scales, every type of floats."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dwalign import Data, apply, matching, networks
from dwalign.symmetry import inverse
from tests import drawn

NET = networks.mlp(4, (6,), 3)
A = drawn.weights(NET.params)
HIDDEN = drawn.perms(NET.spec)
X = drawn.normal(16, 4, seed=1)
DATA, KEY = Data(X, np.arange(16) % 3), jax.random.key(0)
METHODS = {
    "weights": matching.weight_matching,
    "features": matching.feature_matching,
    "activations": matching.activation_matching,
    "correlations": matching.activation_matching_correlation,
    "refined": matching.chain(matching.weight_matching, matching.refine.using(steps=2)),
}


def scaled(factor, dtype=np.float32):
    return jax.tree.map(lambda leaf: (factor * leaf).astype(dtype), A)


def with_units(change):
    """The network with other units: those that write them and those that read them, changed alike."""
    first, last = (A["params"][name] for name in ("dense_0", "dense_1"))
    first = {"kernel": change(first["kernel"].T).T, "bias": change(first["bias"])}
    return {"params": {"dense_0": first, "dense_1": last | {"kernel": change(last["kernel"])}}}


def dead(rows):
    alive = np.array([1, 0, 1, 0, 1, 1], np.float32)
    return rows * alive.reshape(-1, *(1,) * (rows.ndim - 1))


def twice(rows):
    return rows[[0, 1, 2, 2, 2, 5]]


EDGES = {
    "huge": scaled(1e30),
    "tiny": scaled(1e-30),
    "large": scaled(1e6),
    "small": scaled(1e-6),
    "float64": scaled(1, np.float64),
    "bfloat16": scaled(1, ml_dtypes.bfloat16),
    "float16": scaled(1, np.float16),
    "dead": with_units(dead),
    "twice": with_units(twice),
    "zeros": scaled(0),
}
# of these nobody can tell all units apart
ALIKE = ("dead", "twice", "zeros")
# each type and method is a program of its own, and those of features and refinement take seconds
RUN = [edge for edge in EDGES if edge not in ("huge", "tiny")]
FEW = {"activations": RUN, "correlations": RUN, "features": ("dead", "huge", "tiny"), "refined": ("bfloat16",)}
CASES = [(name, edge) for name in METHODS for edge in FEW.get(name, EDGES)]


def found_by(name, params):
    method = METHODS[name]
    copy = apply.permute(NET.spec, params, HIDDEN)
    return copy, method(NET, params, copy, key=KEY, data=DATA if method.needs in ("inputs", "labels") else None)


def is_finite(tree):
    return all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name, edge", CASES)
def test_results_are_finite_and_the_hidden_order_where_units_differ(name, edge):
    params = EDGES[edge]
    with jax.enable_x64(edge == "float64"):
        copy, found = found_by(name, params)
        again = found_by(name, params)[1]
        merged = apply.interpolate(NET.spec, params, copy, 0.5, perms=found.perms)
        # of squares of these no float holds the sum
        away = apply.distance(NET.spec, params, copy, perms=found.perms) if edge != "huge" else 0
    assert is_finite((found, merged, away))
    assert np.array_equal(found.perms["h0"], again.perms["h0"])
    assert sorted(np.asarray(found.perms["h0"]).tolist()) == list(range(6))
    assert jax.tree.leaves(merged)[0].dtype == jax.tree.leaves(params)[0].dtype
    if edge not in ALIKE:
        assert np.array_equal(found.perms["h0"], inverse(NET.spec, HIDDEN)["h0"])
        assert away == 0


@pytest.mark.parametrize("edge", ALIKE)
def test_ties_are_broken_alike_inside_programs_and_outside(edge):
    params = EDGES[edge]
    copy = apply.permute(NET.spec, params, HIDDEN)
    solve = lambda a, b: matching.weight_matching(NET.spec, a, b, key=KEY).perms["h0"]
    eager = solve(params, copy)
    stack = functools.partial(jax.tree.map, lambda leaf: jnp.stack([leaf, leaf]))
    both = jax.jit(jax.vmap(solve))(stack(params), stack(copy))
    assert np.array_equal(jax.jit(solve)(params, copy), eager)
    assert np.array_equal(both[0], eager) and np.array_equal(both[1], eager)


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e-44])
def test_averages_of_huge_tiny_and_subnormal_weights(size):
    a, b = scaled(size), scaled(-size)
    assert not any(leaf.any() for leaf in jax.tree.leaves(apply.interpolate(NET.spec, a, b, 0.5)))
    alone = apply.interpolate(NET.spec, a, b, 0.0)
    assert all(map(np.array_equal, jax.tree.leaves(alone), jax.tree.leaves(a)))


@pytest.mark.parametrize("size", [1e15, 1e-15])
def test_distances_of_large_and_small_weights(size):
    away = apply.distance(NET.spec, scaled(size), scaled(-size))
    square = sum((4.0 * leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(scaled(size)))
    assert np.allclose(float(away), np.sqrt(square), rtol=1e-5, atol=0)


def test_scores_beyond_all_numbers_are_refused_in_our_words():
    """Inside a compiled method too, where the host finds it: no traceback of another library."""
    with pytest.raises(ValueError, match=r"^hungarian: scores must be finite, found \d+ NaN or infinite values$"):
        found_by("activations", scaled(1e30))


@pytest.mark.parametrize("name, what", [("correlations", "the scores of h0"), ("refined", "the loss")])
def test_what_vanishes_in_the_program_is_not_matched_in_silence(name, what):
    """No power of two can be taken out of a program; of nothing but zeros there is nothing to be found."""
    with pytest.raises(ValueError, match=rf"weights must be of a size .*found up to 2\^-99, at which {what} does not"):
        found_by(name, scaled(1e-30))


def test_small_responses_are_correlated_as_large_ones_are():
    small, large = (found_by("correlations", scaled(size))[1].scores["h0"] for size in (1e-6, 1))
    assert np.allclose(small, large, atol=1e-4)
