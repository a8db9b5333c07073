"""A trained Deep-Align network as a matching method."""

from typing import Any, NamedTuple

import jax

from dwalign.deepalign.model import DeepAlign
from dwalign.matching import check_options
from dwalign.symmetry import Alignment, PermutationSpec, SpecError

PyTree = Any


class Aligner(NamedTuple):
    """A Deep-Align model and its variables."""

    model: DeepAlign
    variables: PyTree

    def scores(self, a: PyTree, b: PyTree) -> dict[str, jax.Array]:
        """The scores of every pairing of units, `[*batch, n, n]` for each group."""
        return self.model.apply(self.variables, a, b)


def deep_align(
    spec: PermutationSpec, a: PyTree, b: PyTree, *, aligner: Aligner, key: jax.Array | None = None
) -> Alignment:
    """One forward pass and a Hungarian step (Navon et al. 2024).

    Args:
      spec, a, b: what is matched; the aligner must have been made for this spec.
      aligner: a trained (or untrained) aligner.
      key: not used; all methods share one signature.
    """
    check_options("deep_align", aligner=aligner)
    if aligner.model.spec != spec:
        raise SpecError(
            f"deep_align: the aligner was trained for groups {dict(aligner.model.spec.sizes)} on "
            f"{len(aligner.model.spec.leaves)} arrays, these networks have {dict(spec.sizes)} on {len(spec.leaves)}; "
            "train one for this architecture"
        )
    return Alignment(*aligner.model.apply(aligner.variables, a, b, method="align"))
