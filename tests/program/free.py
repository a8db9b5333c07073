"""What is free in a program, read and certified; shared by the tests of kinds."""

import jax.numpy as jnp
from jax import lax

from dwalign.program import certify, infer_spec
from tests import drawn

X = drawn.normal(3, 5)


def inferred(apply, params, *inputs, complete=True):
    """With the certificate of it."""
    spec = infer_spec(apply, params, *inputs, kinds="all")
    return spec, certify(spec, apply, params, *inputs, complete=complete)


def written(spec):
    return dict(zip(spec.paths, map(str, spec.written), strict=True))


def norm(h, eps=0.0):
    return h * lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + eps)
