"""The work of one of several devices, counted: what is said of it, without compiling a step."""

import bench_devices
import jax
import jax.numpy as jnp
import pytest


def test_work_is_beside_the_share_of_one_device(tmp_path, monkeypatch):
    counted = {1: {"operations": 8e9, "bytes": 4e9}, 4: {"operations": 2.2e9, "bytes": 1e9}}
    monkeypatch.setattr(bench_devices, "work", lambda config, count: counted[count])
    panels = bench_devices.main(bench_devices.Config(devices=(1, 4), out=str(tmp_path)))["panels"]
    assert panels["operations"]["x ideal"]["4 devices"]["mean"] == pytest.approx(1.1)
    assert panels["bytes"]["x ideal"]["4 devices"]["mean"] == panels["bytes"]["x ideal"]["1 device"]["mean"] == 1
    assert panels["operations"]["billions a device"]["1 device"]["mean"] == 8


def test_what_a_slice_leaves_unread_is_no_work():
    """Two kernels, each of a part of a vector of 1,000 numbers, and one kernel of all of another."""

    def parts(vector, other):
        return jnp.exp(2 * vector[:100]), jnp.exp(3 * vector[:10]), jnp.exp(other).sum()

    program = jax.jit(parts).lower(jnp.zeros(1000), jnp.zeros(500)).compile()
    assert bench_devices.unread(program.as_text()) == 4 * (1000 - 100 + 1000 - 10)
