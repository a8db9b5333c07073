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
from dwalign.symmetry.certificate import Certificate, CertificateError, accepts, certify, drawn_elements
from dwalign.symmetry.compare import correspondence
from dwalign.symmetry.inference import InferenceError, infer_spec
from dwalign.symmetry.interpret import interpret
from dwalign.symmetry.roles import block_roles, group_roles
from dwalign.symmetry.spec import Block, Note, PermutationSpec
from dwalign.symmetry.trial import Trial, examine, trials

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
    "Trial",
    "Units",
    "accepts",
    "block_roles",
    "certify",
    "compose",
    "correspondence",
    "drawn_elements",
    "examine",
    "group_roles",
    "identity",
    "infer_spec",
    "interpret",
    "inverse",
    "make_capture",
    "permute",
    "permute_batch",
    "permute_block",
    "random_perms",
    "to_matrices",
    "transpose",
    "trials",
]
