from dwalign.symmetry.action import (
    Move,
    act_along,
    compose,
    identity,
    inverse,
    moves,
    permute,
    permute_batch,
    permute_block,
    random_perms,
    restore_block,
    to_matrices,
    transpose,
)
from dwalign.symmetry.alignment import Alignment
from dwalign.symmetry.arithmetic import distance, dot, inner_product, interpolate, mean, permute_blocks, perturb
from dwalign.symmetry.axes import Axes, SpecError, Sum, Turns, contract, namespace
from dwalign.symmetry.compare import correspondence
from dwalign.symmetry.dtypes import dtype_of, is_traced, kind
from dwalign.symmetry.elements import Monomial, is_hard, order_of
from dwalign.symmetry.finite import count_values, square
from dwalign.symmetry.gauge import canonical, free_signs, gauge
from dwalign.symmetry.guards import check_key, check_perms, check_spec
from dwalign.symmetry.layers import Weight, leaf_weights
from dwalign.symmetry.lists import as_arrays, of_numbers, with_lists
from dwalign.symmetry.parts import part_of
from dwalign.symmetry.powers import KINDS
from dwalign.symmetry.roles import as_read, block_roles, group_roles
from dwalign.symmetry.spec import Block, Note, PermutationSpec
from dwalign.symmetry.stacks import (
    count_networks,
    key_of_pair,
    stack_networks,
    stacked_block,
    stacked_spec,
    take_networks,
    take_rows,
)
from dwalign.symmetry.statistics import find_statistics
from dwalign.symmetry.summary import moving_share, pins
from dwalign.symmetry.weights import (
    Role,
    check_finite,
    leaf_roles,
    leaves_by_role,
    numbers,
    real,
    store,
    voting_blocks,
    weight_blocks,
    wide,
    widen,
)

__all__ = [
    "KINDS",
    "Alignment",
    "Axes",
    "Block",
    "Move",
    "Note",
    "Monomial",
    "PermutationSpec",
    "Role",
    "SpecError",
    "Sum",
    "Turns",
    "Weight",
    "act_along",
    "as_arrays",
    "as_read",
    "block_roles",
    "canonical",
    "check_finite",
    "check_key",
    "check_perms",
    "check_spec",
    "contract",
    "compose",
    "correspondence",
    "count_networks",
    "count_values",
    "distance",
    "dot",
    "dtype_of",
    "find_statistics",
    "free_signs",
    "gauge",
    "group_roles",
    "identity",
    "inner_product",
    "interpolate",
    "inverse",
    "is_hard",
    "is_traced",
    "key_of_pair",
    "kind",
    "leaf_roles",
    "leaf_weights",
    "leaves_by_role",
    "mean",
    "moves",
    "moving_share",
    "namespace",
    "numbers",
    "of_numbers",
    "order_of",
    "part_of",
    "permute",
    "permute_batch",
    "permute_block",
    "permute_blocks",
    "perturb",
    "pins",
    "random_perms",
    "real",
    "restore_block",
    "square",
    "stack_networks",
    "stacked_block",
    "stacked_spec",
    "store",
    "take_networks",
    "take_rows",
    "to_matrices",
    "transpose",
    "voting_blocks",
    "weight_blocks",
    "wide",
    "widen",
    "with_lists",
]
