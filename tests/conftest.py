"""Two CPU devices for the tests of meshes; implicit rank promotion is an error."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
# nearly all of the suite's time is compilation of programs that run once
jax.config.update("jax_disable_most_optimizations", True)
