from dwalign.symmetry.action import (
    compose,
    identity,
    inverse,
    permute,
    permute_block,
    random_perms,
    to_matrices,
    transpose,
)
from dwalign.symmetry.alignment import Alignment
from dwalign.symmetry.spec import Axes, Block, PermutationSpec, SpecError, Sum

__all__ = [
    "Alignment",
    "Axes",
    "Block",
    "PermutationSpec",
    "SpecError",
    "Sum",
    "compose",
    "identity",
    "inverse",
    "permute",
    "permute_block",
    "random_perms",
    "to_matrices",
    "transpose",
]
