"""Arguments that were mistaken for others: what must be given in their place."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.symmetry.alignment import Alignment
from dwalign.symmetry.axes import SpecError
from dwalign.symmetry.dtypes import kind
from dwalign.symmetry.elements import Monomial
from dwalign.symmetry.lists import as_arrays
from dwalign.symmetry.spec import PermutationSpec


def check_spec(caller: str, spec: Any) -> None:
    """Raise `SpecError` unless `spec` is one."""
    if isinstance(spec, PermutationSpec):
        return
    if isinstance(getattr(spec, "spec", None), PermutationSpec):
        advice = f"pass the .spec of this {type(spec).__name__}"
    else:
        advice = "the order is (spec, a, b); infer_spec(apply, params, inputs) reads one off a program"
    raise SpecError(f"{caller}: spec must be a PermutationSpec, got {type(spec).__name__}; {advice}")


def check_key(caller: str, key: Any) -> None:
    """Raise `ValueError` unless `key` is a random key of JAX."""
    if not isinstance(key, jax.Array) or not (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or (key.dtype == np.uint32 and key.ndim)
    ):
        found = f"an array of {key.dtype}" if isinstance(key, jax.Array) else type(key).__name__
        raise ValueError(f"{caller}: key must be a random key, jax.random.key(0), got {found}")


def check_perms(caller: str, spec: PermutationSpec, perms: Any, name: str = "perms") -> dict[str, Any]:
    """The `perms`, lists of numbers as arrays.

    Raises:
      SpecError: they do not map groups of the spec to permutations or to matrices of the right shapes. That integers
        are permutations is seen where they are not traced; matrices need not be doubly stochastic.
    """
    check_spec(caller, spec)
    if isinstance(perms, Alignment):
        raise SpecError(f"{caller}: {name} must map groups to indices, got an Alignment; pass its .perms")
    if not isinstance(perms, Mapping):
        raise SpecError(f"{caller}: {name} must map groups to indices, got {type(perms).__name__}")
    if unknown := set(perms) - set(spec.sizes):
        raise SpecError(f"{caller}: {name} names groups {sorted(map(str, unknown))}, the spec has {sorted(spec.sizes)}")
    perms = {group: element if hasattr(element, "dtype") else as_arrays(element) for group, element in perms.items()}
    for group, element in perms.items():
        _check_element(f"{caller}: {name}[{group!r}]", spec, group, element)
    return perms


def _check_element(what: str, spec: PermutationSpec, group: str, element: Any) -> None:
    n, own, directions = spec.sizes[group], spec.kinds[group], spec.directions[group]
    if isinstance(element, Monomial):
        if not any(directions):
            raise SpecError(f"{what} must be of kind {own!r}, which has no factors, found a Monomial")
        for part, count in zip(("scale", "sign"), directions, strict=True):
            factors = getattr(element, part)
            if factors is not None and np.shape(factors) != (expected := (*np.shape(element.perm), count)):
                raise SpecError(f"{what}.{part} must have shape {expected}, found {np.shape(factors)}")
        element = element.perm
    hard = (*spec.batch_shape(group), n)
    whole = hasattr(element, "dtype") and kind(element) == "integer"
    if np.shape(element) != (hard if whole else (*hard, n)):
        raise SpecError(
            f"{what} must have shape {hard} (integers) or {(*hard, n)} (floats), "
            f"found {getattr(element, 'dtype', type(element).__name__)} {np.shape(element)}"
        )
    if not whole or isinstance(element, jax.core.Tracer):
        return
    rows = np.asarray(element).reshape(-1, n)
    wrong = np.any(np.sort(rows, axis=1) != np.arange(n), axis=1)
    if wrong.any():
        row = rows[np.argmax(wrong)]
        missing = sorted(set(range(n)) - set(row.tolist()))
        raise SpecError(
            f"{what} must be a permutation, each of 0 to {n - 1} once, but {len(missing)} are missing, the first "
            f"{missing[0]}: a unit would be copied over another"
        )
