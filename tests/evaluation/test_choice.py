"""The functions that take a method take "auto" too, and then what `choose_method` chooses for what they are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import choose_method
from dwalign.evaluation import aligned_distances, benchmark, mean_barrier, planted_recovery
from dwalign.merging import align_unequal
from dwalign.program import Data, Task, network
from tests import drawn

X = drawn.normal(9, 5)
# two outputs: nothing for the aligner that ships
apply = lambda p, x: (jnp.tanh(x @ p["up"]) @ p["down"], jnp.cos(x @ p["up"]) @ p["down"])
A, B = drawn.named(up=(5, 6), down=(6, 2)), drawn.named(up=(5, 4), down=(4, 2))
NET, NARROW = network(apply, A, X), network(apply, B, X)
PAIRS = drawn.named(up=(2, 5, 6), down=(2, 6, 2))
OTHERS = jax.tree.map(lambda leaf: leaf[::-1], PAIRS)
TASK = Task(lambda out, labels: jnp.mean((out[0] - labels) ** 2), lambda out, labels: out[0][:, 0] > labels[:, 0])
TEST = Data(X, drawn.normal(9, 2))
KEY = jax.random.key(0)

GIVEN = {
    "benchmark": lambda method, data: [
        (one.alignments, one.curve)
        for one in benchmark(
            NET, [method], PAIRS, OTHERS, TEST, key=KEY, data=data, task=TASK, chunk=2, points=3
        ).values()
    ],
    "aligned_distances": lambda method, data: aligned_distances(NET, PAIRS, method, data=data),
    "planted_recovery": lambda method, data: planted_recovery(NET, method, A, key=KEY, noise=2.0, data=data),
    "align_unequal": lambda method, data: align_unequal(NET, NARROW, A, B, method, data=data),
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("data", [None, Data(X)])
def test_auto_is_what_is_chosen_for_the_data(name, data):
    chosen = choose_method(NET, data).method
    assert str(chosen) == ("anchored_matching" if data is None else "activation_matching_correlation")
    jax.tree.map(np.testing.assert_array_equal, GIVEN[name]("auto", data), GIVEN[name](chosen, data))


def test_auto_of_a_mean_barrier_has_no_data():
    """Two orders of the same units."""
    first, second = (
        {"up": A["up"][None, :, order], "down": A["down"][None, order]}
        for order in (slice(None), slice(None, None, -1))
    )
    barrier = mean_barrier(NET, first, second, Data(X, np.asarray(apply(A, X)[0])), task=TASK)
    assert barrier("auto") == barrier("anchored_matching") != barrier("naive")
