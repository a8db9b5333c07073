from dwalign.symmetry.action import (
    compose,
    identity,
    inverse,
    permute,
    permute_batch,
    permute_block,
    random_perms,
    to_matrices,
    transpose,
)
from dwalign.symmetry.alignment import Alignment
from dwalign.symmetry.axes import Axes, SpecError, Sum
from dwalign.symmetry.capture import Units, make_capture
from dwalign.symmetry.certificate import Certificate, CertificateError, certify
from dwalign.symmetry.compare import correspondence
from dwalign.symmetry.inference import InferenceError, infer_spec
from dwalign.symmetry.roles import block_roles, group_roles
from dwalign.symmetry.spec import Block, Note, PermutationSpec

__all__ = [
    "Alignment",
    "Axes",
    "Block",
    "Certificate",
    "CertificateError",
    "InferenceError",
    "Note",
    "PermutationSpec",
    "SpecError",
    "Sum",
    "Units",
    "block_roles",
    "certify",
    "compose",
    "correspondence",
    "group_roles",
    "identity",
    "infer_spec",
    "inverse",
    "make_capture",
    "permute",
    "permute_batch",
    "permute_block",
    "random_perms",
    "to_matrices",
    "transpose",
]
