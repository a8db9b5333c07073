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
from dwalign.symmetry.arithmetic import distance, inner_product, interpolate, permute_blocks, perturb
from dwalign.symmetry.axes import Axes, SpecError, Sum
from dwalign.symmetry.capture import Units, make_capture
from dwalign.symmetry.certificate import Certificate, CertificateError, accepts, certify, drawn_elements
from dwalign.symmetry.compare import correspondence
from dwalign.symmetry.double import widen
from dwalign.symmetry.examples import count_examples, take_examples
from dwalign.symmetry.guards import check_perms, check_spec
from dwalign.symmetry.inference import InferenceError, infer_spec
from dwalign.symmetry.interpret import interpret
from dwalign.symmetry.roles import block_roles, group_roles
from dwalign.symmetry.spec import Block, Note, PermutationSpec
from dwalign.symmetry.statistics import find_statistics
from dwalign.symmetry.trial import Trial, examine, trials
from dwalign.symmetry.weights import Role, leaf_roles, numbers, store, weight_blocks, wide

__all__ = [
    "Alignment",
    "Axes",
    "Block",
    "Certificate",
    "CertificateError",
    "InferenceError",
    "Note",
    "PermutationSpec",
    "Role",
    "SpecError",
    "Sum",
    "Trial",
    "Units",
    "accepts",
    "block_roles",
    "certify",
    "check_perms",
    "check_spec",
    "compose",
    "correspondence",
    "count_examples",
    "distance",
    "drawn_elements",
    "examine",
    "find_statistics",
    "group_roles",
    "identity",
    "infer_spec",
    "inner_product",
    "interpolate",
    "interpret",
    "inverse",
    "leaf_roles",
    "make_capture",
    "numbers",
    "permute",
    "permute_batch",
    "permute_block",
    "permute_blocks",
    "perturb",
    "random_perms",
    "store",
    "take_examples",
    "to_matrices",
    "transpose",
    "trials",
    "weight_blocks",
    "wide",
    "widen",
]
