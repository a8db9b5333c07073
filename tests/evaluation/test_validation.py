"""The mean barrier of pairs is that of their curves, and one program serves whoever asks about a network."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from dwalign.deepalign import Aligner, AlignerConfig, deep_align, make_model
from dwalign.evaluation import curve, mean_barrier
from dwalign.matching import naive, weight_matching
from dwalign.networks import mlp
from dwalign.program import CLASSIFICATION, Data, Task
from tests import drawn
from tests.compiled import compilations

NET = mlp(4, (5,), 3)
ONES = [drawn.weights(NET.params, seed) for seed in range(6)]
DATA = Data(drawn.normal(20, 4, seed=1), np.arange(20) % 3)


def smaller(outputs, labels):
    """A loss that rises as two networks are mixed, whatever they are for: of untrained ones cross-entropy may not."""
    return -(outputs**2).mean()


TASK = Task(smaller, CLASSIFICATION.hits)


def pairs(*numbers):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(ONES[k] for k in numbers))


def test_mean_of_pairs_by_one_program():
    two = mean_barrier(NET, pairs(0, 2), pairs(1, 3), DATA, task=TASK)("naive")
    with compilations() as seen:
        three = mean_barrier(NET, pairs(0, 2, 4), pairs(1, 3, 5), DATA, task=TASK)(naive)
    assert not seen
    apart = [float(curve(NET, ONES[k], ONES[k + 1], DATA, points=3, task=TASK).barrier) for k in (0, 2, 4)]
    assert two == pytest.approx(np.mean(apart[:2]), rel=1e-5) and three == pytest.approx(np.mean(apart), rel=1e-5)


def test_each_pair_has_data_of_its_own():
    other = Data(drawn.normal(20, 4, seed=2), DATA.labels)
    both = Data(*(np.stack(leaves) for leaves in zip(DATA, other, strict=True)))
    found = mean_barrier(NET, pairs(0, 2), pairs(1, 3), both, task=TASK, per_pair=True)(naive)
    apart = [curve(NET, ONES[k], ONES[k + 1], data, points=3, task=TASK).barrier for k, data in ((0, DATA), (2, other))]
    assert found == pytest.approx(float(np.mean(apart)), rel=1e-5)


@pytest.mark.parametrize(("first", "second"), [((0, 2), (1, 3, 4)), ((0, 1, 2), (3, 4)), ((), ())])
def test_pairs_have_two_ends(first, second):
    stacks = [
        jax.tree.map(lambda leaf, k=k: jax.numpy.asarray(leaf[: len(k)]), pairs(0, 1, 2)) for k in (first, second)
    ]
    with pytest.raises(ValueError, match="equally many"):
        mean_barrier(NET, *stacks, DATA)


def test_what_lies_on_one_device_is_brought_to_all():
    model = make_model(NET, AlignerConfig("noise", probes=4, updates=0))
    variables = jax.jit(lambda params: model.init(jax.random.key(0), params, method="encode"))(ONES[0])
    there = jax.device_put((variables, DATA), jax.devices()[1])
    found = [
        mean_barrier(NET, pairs(0, 2), pairs(1, 3), data, task=TASK)(deep_align.using(aligner=Aligner(model, known)))
        for known, data in ((variables, DATA), there)
    ]
    assert found[0] == found[1] > 0


def on_all_devices():
    """Of five pairs, which no number of devices but one divides; one or two on each device at once."""
    net = mlp(4, (12, 12), 3)
    a, b = (
        jax.tree.map(lambda *x: np.stack(x), *(drawn.weights(net.params, 2 * k + side) for k in range(5)))
        for side in (0, 1)
    )
    return [mean_barrier(net, a, b, DATA, task=TASK, batch=batch)(weight_matching) for batch in (1, 2)]


def test_devices_change_nothing():
    program = "from tests.evaluation import test_validation as t; print(t.jax.device_count(), *t.on_all_devices())"
    # those of the suite, of which the last that says how many counts
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    number, *there = map(float, done.stdout.split())
    here = on_all_devices()
    assert jax.device_count() < number == 8
    assert there[0] == here[0] > 0 and there == pytest.approx(here, rel=1e-5)
