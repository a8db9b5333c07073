"""A trained Deep-Align network as a matching method."""

import dataclasses
from typing import Annotated, Any

import jax
import numpy as np

from dwalign.bounds import Law
from dwalign.deepalign.model import DeepAlign
from dwalign.matching import method
from dwalign.matching.scores import directions
from dwalign.symmetry import Alignment, PermutationSpec, SpecError

PyTree = Any


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Aligner:
    """A Deep-Align model and its variables, which are arguments of the programs that use it."""

    model: DeepAlign
    variables: PyTree

    def __repr__(self):
        groups = ", ".join(f"{group} {size}" for group, size in self.model.spec.sizes.items())
        numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(self.variables))
        return f"Aligner({type(self.model.encoder).__name__} for {groups}; {numbers:,} numbers)"

    def scores(self, a: PyTree, b: PyTree) -> dict[str, jax.Array]:
        """The scores of every pairing of units, `[*batch, n, n]` for each group."""
        return self.model.apply(self.variables, a, b)

    def tree_flatten(self):
        return (self.variables,), _Same(self.model)

    @classmethod
    def tree_unflatten(cls, same, parts):
        return cls(same.model, *parts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Same:
    """A model that is equal to itself alone: those with inputs hold arrays, which no hash can tell apart."""

    model: DeepAlign

    def __eq__(self, other):
        return isinstance(other, _Same) and self.model is other.model

    def __hash__(self):
        return id(self.model)


def _learned(spec, params, *, key, aligner) -> dict[str, jax.Array]:
    return directions(spec, aligner.model.apply(aligner.variables, params, method="encode"))


LOADED = Law(lambda x: isinstance(x, Aligner), "an Aligner; deepalign.load_aligner(folder) reads the one in a folder")


@method("Deep-Align", "#d55e00", needs="aligner", features=_learned)
def deep_align(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    aligner: Annotated[Aligner, LOADED],
    key: jax.Array | None = None,
    features: tuple[PyTree, PyTree] | None = None,
) -> Alignment:
    """One forward pass and a Hungarian step, or by the kind of the group a polar factor (Navon et al. 2024).

    Args:
      spec, a, b: what is matched; the aligner must have been made for this spec. Networks of all kinds of symmetry
        come here in their gauge, and the alignment is one of the networks as they are.
      aligner: a trained (or untrained) aligner.
      key: not used; all methods share one signature.
      features: of a and of b, as `deep_align.encode` gives them; what is not given is computed.
    """
    if aligner.model.spec != spec:
        about = lambda spec: f"groups {dict(spec.sizes)} of kinds {sorted(set(spec.kinds.values()))} on "
        raise SpecError(
            f"deep_align: the aligner was trained for {about(aligner.model.spec)}{len(aligner.model.spec.leaves)} "
            f"arrays, these networks have {about(spec)}{len(spec.leaves)}; train one for this architecture"
        )
    # one function, so that both networks take one trace
    encode = jax.jit(lambda params: _learned(spec, params, key=key, aligner=aligner))
    one, two = features or map(encode, (a, b))
    return Alignment(*aligner.model.apply(aligner.variables, a, one, b, two, method="align"))
