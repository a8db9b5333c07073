"""What compiled programs have the host compute: on CPUs, where it lies next to them, and in threads."""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

# the sum of n^3 over assignments of n units that repays the start of a thread: some milliseconds of work
WORTH_A_THREAD = 2e7
_TAKEN = threading.Lock()


def host_primitive(
    name: str, shapes: Callable, on_host: Callable, on_device: Callable, batched: Callable
) -> Callable[..., list[jax.Array]]:
    """A function of arrays that programs for CPUs call on the host, and programs for accelerators hold.

    A primitive, so that of the two only that of the platform is traced, and neither is where nothing is compiled.
    Gradients do not flow through it: give it what `jax.lax.stop_gradient` gives.

    Args:
      name: of the primitive.
      shapes: `(*abstract arrays, **how)` to a list of `jax.ShapeDtypeStruct`, of the results.
      on_host: `(*arrays, **how)` to a list of arrays of NumPy, which hold nothing of what is given.
      on_device: the same, traced.
      batched: `(bind, arrays, axes, **how)` to results and their batch axes, where `bind` is what is returned here.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    def called(*arrays, **how):
        def in_place(_, out, *buffers):
            for place, found in zip(out, on_host(*map(np.asarray, buffers), **how), strict=True):
                np.asarray(place)[...] = found

        # pure_callback hands its operands to the device once more, and waits for a thread that on one core is its own
        return buffer_callback(in_place, shapes(*arrays, **how))(*arrays)

    results = lambda *arrays, **how: [jax.core.ShapedArray(one.shape, one.dtype) for one in shapes(*arrays, **how)]
    primitive.def_abstract_eval(results)
    primitive.def_impl(lambda *arrays, **how: [jax.device_put(x) for x in on_host(*map(np.asarray, arrays), **how)])
    batching.primitive_batchers[primitive] = lambda arrays, axes, **how: batched(primitive.bind, arrays, axes, **how)
    mlir.register_lowering(primitive, mlir.lower_fun(on_device))
    mlir.register_lowering(primitive, mlir.lower_fun(called), platform="cpu")
    return primitive.bind


def in_threads(solve: Callable[[Any], Any], problems: Sequence[Any], work: float) -> list[Any]:
    """What `solve` gives for each, in order; in threads where that pays, and where no other call has taken these.

    Args:
      solve: releases the interpreter's lock most of the time, as scipy's solver does.
      work: the sum of n^3 over all assignments.
    """
    threads = int(min(len(problems), cores(), work / WORTH_A_THREAD))
    if threads < 2 or not _TAKEN.acquire(blocking=False):
        return [solve(problem) for problem in problems]
    try:
        # threads of BLAS wait for each other by spinning, on the processors that these are for
        with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            return list(pool.map(solve, problems))
    finally:
        _TAKEN.release()


@functools.cache
def _blas():
    # loaded here: to look through all libraries takes some milliseconds
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def cores() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
