"""Two CPU devices for the tests of meshes; implicit rank promotion is an error."""

import atexit
import functools
import gc
import importlib
import os
from importlib import metadata
from pathlib import Path

import pytest

# in the environment, so that processes which tests start compile alike
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
        # nearly all of the suite's time is compilation of programs that run once: fast ones take twice as long; later
        # versions have no other ones, and end a process that names the flag
        "--xla_cpu_use_fusion_emitters=false" if metadata.version("jaxlib") < "0.11" else "",
        # of the compilation of a small program a third is splitting it into parts for many cores
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)

import jax
from jax._src.interpreters import mlir

jax.config.update("jax_numpy_rank_promotion", "raise")

# JAX lowers each program in a context of its own, into which it loads all dialects, and keeps it with the program; in
# one for all a small program takes a fifth less time, and the processes of the suite a fraction of the memory. There is
# no public way, and the suite does without where this one is gone
if hasattr(mlir, "make_ir_context"):
    _one_for_all, _of_its_own = functools.cache(mlir.make_ir_context), mlir.make_ir_context

    def _make_ir_context():
        # what is lowered while another program is, such as a constant that is computed then, would become a part of it
        return _of_its_own() if mlir.ir.Context.current else _one_for_all()

    mlir.make_ir_context = _make_ir_context

# traces are many small objects that live as long as their programs: looking through them again and again takes as long
# as every fourteenth test
gc.set_threshold(20_000, 20, 20)

ROOT = Path(__file__).parent


@pytest.fixture(autouse=True, scope="module")
def look_at_new_objects_alone():
    """What other modules left is millions of objects: to look through them takes seconds, each time."""
    gc.collect()
    gc.freeze()


def pytest_collect_file(file_path):
    """A module that nothing has imported pytest executes itself, after its package, which may have just imported it.

    Of its classes there would be two, and objects of one are none of the other.
    """
    is_module = file_path.suffix == ".py" and not file_path.stem.startswith("__")
    if is_module and file_path.is_relative_to(ROOT / "dwalign"):
        importlib.import_module(".".join(file_path.relative_to(ROOT).with_suffix("").parts))


def pytest_unconfigure():
    """To look through millions of objects once more, and to take them apart one by one, takes a process seconds."""
    gc.freeze()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # its results are sent
        atexit.register(os._exit, 0)
