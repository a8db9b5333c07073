"""Benchmarks time what they say: compilation apart, sizes left out that would take too long, slopes of known curves."""

import bench
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.networks import mlp


def test_all_work_can_be_traced():
    config = bench.Config(inputs=3, examples=4, batch=2, steps=(2,), methods=("features", "refine@1"))
    named = dict(bench.work(config, mlp(3, (4,), 10)))
    assert {name for title in bench.PANELS for name in bench.PANELS[title]} - set(named) <= set(
        bench.Config().methods
    ) | {"training step of 8 pairs"}
    for name, one in named.items():
        if one.given:
            leading = {leaf.shape[:1] for leaf in jax.tree.leaves(jax.eval_shape(one.run, *one.given)) if leaf.shape}
            assert "training" in name or leading == {(2,)}, name


def test_slopes_are_those_of_powers():
    times = {n: 3e-6 * n**2.5 for n in (32, 64, 128, 256)}
    assert bench.exponent(times) == pytest.approx(2.5)


def test_seconds_are_expected_by_what_varies():
    times = {2: 1.0, 4: 3.0}
    assert bench.expected("depth", times, 8) == pytest.approx(3 * 2**1.5)
    assert bench.expected("width", times, 8) == pytest.approx(3 * 2**3.5)


def test_a_compiled_program_and_a_call_on_the_host_are_timed():
    config = bench.Config(repeats=2)
    found = bench.measure(config, bench.Work(lambda x: x @ x, (jnp.ones((64, 64)),), 4, 1e6))
    assert {"compile, s", "memory, MB", "pairs a second", "products"} <= found.keys()
    assert found["pairs a second"] == pytest.approx(4 / found["seconds"])
    calls = []
    found = bench.measure(config, bench.Work(lambda: calls.append(np.ones(3)), (), 1))
    assert len(calls) == 3 and "compile, s" not in found
