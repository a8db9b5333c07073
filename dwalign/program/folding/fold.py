"""`fold_norms`: the same function, with as much of its normalisation as can be in the linear maps beside it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from dwalign.kept import Kept, keep, kept_by
from dwalign.program.folding.centring import Centring, find_centring
from dwalign.program.folding.gains import fold_gains
from dwalign.program.folding.simplify import equations, simplify
from dwalign.program.folding.untie import find_tied, untie as split_tied
from dwalign.program.network import Network, check_network, network as make_network
from dwalign.symmetry import PermutationSpec

PyTree = Any
# of the largest number of an array in double precision
ROUNDING = 1e-12


def fold_norms(network: Network, params: PyTree, *, untie: bool = False) -> tuple[Network, PyTree]:
    """The same function, with gains, shifts, centring and stored statistics of its normalisation in the maps beside it.

    These stand in the way of rotations of a residual stream, and of scales. Read off the program are
    - gains and shifts of values that matrices read, as those of layer and RMS normalisation: the gain goes into the
      rows of all these matrices and becomes 1, the shift into their biases and becomes 0;
    - gains, shifts and statistics of what a matrix or a convolution made, as those of batch normalisation at inference
      and of layer scale: they go into its columns and into the first array that is added, which is its bias or, where
      it has none, the shift of the normalisation. The mean becomes 0, the variance 1 less what the program adds to it;
    - means that layer normalisation subtracts: all that writes the stream is centred along its units, and all that
      reads it where it may be rotated then, so that rotated and averaged networks run in the program they came from.

    All stays the same tree of arrays, so that the result runs in the program that it came from and goes back into the
    framework that it came from. The network that is returned does not read what was folded; its spec is inferred anew,
    of the kinds that the one before had.

    What shares an array with something else, such as a tied embedding, which `untie` sets apart; what has no bias to
    take a shift that is not zero; and what goes into a residual branch, as after post-norm, or into a non-linearity
    before any matrix: that stays as it is, gain, shift and statistics of one normalisation together, and `notes` of the
    network say why. Where norms come after the residual sum, the last one goes into what reads it, and what only the
    first one reads, the embeddings, is centred. Then units of these may change their signs, with the gain of the first
    norm, or, where norms subtract no means, all that writes between two norms, with gains; a rotation is never free.

    Args:
      network: of any program.
      params: of it; arrays on the host or a device, not traced.
      untie: give a matrix that is the table of an embedding, too, an array of its own and a bias, into which the last
        norm can go. Where anything does, the params that are returned are `{"params": ..., "untied": {path: {"matrix":
        ..., "bias": ...}}}`, which the program that they came from does not take, and the network has no `train`.

    Returns:
      the network and its params, arrays that changed computed in double precision and rounded to their types once. A
      network that lost its batch statistics has no `train`, and none has `init`. Weights and inputs of other types than
      these compute the same, but means anew: rotations of the spec are none of that program, and `certify` says so.

    Raises:
      SpecError: the first argument is no network, or params do not fit it.

    >>> from dwalign.networks import transformer
    >>> net = transformer(vocabulary=5, length=3, dim=4, depth=1, heads=2, width=6)
    >>> params = jax.jit(net.init)(jax.random.key(0))
    >>> folded, after = fold_norms(net, params)
    >>> str(net.spec.axes["params"]["norm"]["scale"]), str(folded.spec.axes["params"]["norm"]["scale"])
    ('h0', '_')
    >>> tokens = jnp.array([[0, 3, 1]])
    >>> outputs, expected = jax.jit(folded.apply)(after, tokens), jax.jit(net.apply)(params, tokens)
    >>> bool(jnp.allclose(outputs, expected, atol=1e-5))
    True

    Source: Ashkboos et al. 2024 (SliceGPT, arXiv 2401.15024), who fold the norms of transformers by their names.
    """
    check_network("fold_norms", network)
    network.spec.check(params)
    if untie:
        apart, given = split_tied(network, params)
        if apart is not network:
            folded, after = fold_norms(apart, given)
            return (folded, after) if _are_apart(after) else fold_norms(network, params)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    leaves, treedef = jax.tree.flatten(params)
    borders = np.cumsum([0, *(math.prod(leaf.shape) for leaf in leaves)])
    before = np.concatenate([_wide(leaf) for leaf in leaves])
    entries = before.copy()

    read = _Folded(network.apply)
    gains = fold_gains(_example_program(read, params, network.example), np.diff(borders), entries)
    read = dataclasses.replace(read, neutral=tuple(sorted(gains.neutral.items())))
    program = _example_program(read, params, network.example)
    split = lambda entries: np.split(entries, borders[1:-1])
    tree_of = lambda entries: treedef.unflatten(
        [part.reshape(leaf.shape) for part, leaf in zip(split(entries), leaves, strict=True)]
    )
    statistics = set(network.spec.statistics)
    settings: dict[str, Any] = dict(statistics=lambda path: path in statistics)

    def centred(centring):
        """The network, its params in double precision, and the array that stands in the way of centring."""
        written = entries.copy()
        for rows in centring.rows:
            written[rows] -= written[rows].mean(-1, keepdims=True)
        zeros = frozenset(place for place, eqn in equations(program) if id(eqn) in centring.zeros)
        apply = dataclasses.replace(read, zeros=zeros, names=_names(program) if zeros else ())
        kinds = "all" if zeros or network.spec.has_kinds else "permutation"
        out = make_network(apply, params, network.example, kinds=kinds, **settings)
        leaf_of = lambda rows: int(np.searchsorted(borders, rows.flat[0], side="right")) - 1
        streams = {(leaf_of(rows), rows.shape[-1]) for rows in centring.rows if rows.size}
        return out, *_read_centred(out.spec, tree_of(written), streams, tree_of(gains.reads))

    centring = find_centring(program, len(leaves))
    out, shaped, against = centred(centring)
    if against is not None:
        out, shaped, _ = centred(Centring([], set(), []))
    shaped = jax.tree.leaves(shaped)
    pairs = zip(leaves, split(before), shaped, strict=True)
    params = treedef.unflatten(
        [leaf if np.array_equal(old, new.ravel()) else _stored(new, leaf) for leaf, old, new in pairs]
    )
    if not network.spec.has_kinds:
        out = dataclasses.replace(out, spec=out.spec.with_kinds())
    lost = any(paths[leaf] in statistics for leaf in gains.neutral)
    notes = [f"{paths[leaf]} stays: {why}" for leaf, why in gains.notes]
    for entry, why in centring.notes:
        writer = "" if entry is None else f" {paths[int(np.searchsorted(borders, entry, side='right')) - 1]}"
        notes.append(f"a mean that is subtracted stays:{writer} {why}")
    if against is not None:
        notes.append(f"means that are subtracted stay: {against} is added to what is left")
    if gains.notes or centring.notes:
        tied = [paths[leaf] for leaf in find_tied(program, len(leaves))]
        notes += [f"{path} is looked up in and multiplied with: untie=True gives each its own" for path in tied]
    return dataclasses.replace(out, train=None if lost else network.train, notes=tuple(notes)), params


def _read_centred(
    spec: PermutationSpec, params: PyTree, streams: Collection[tuple[int, int]], reads: PyTree
) -> tuple[PyTree, str | None]:
    """Centre what reads a stream that has been centred, too: what it makes of a mean, it makes of zero.

    After a rotation, and in an average, the stream is then centred still, so that these run in the program that
    subtracts means. `streams` are arrays that write one, and its size. All that carries such a group must write it,
    centred, or read it, as the columns `reads` of a product: the path of what does neither comes second.
    """
    free = {g for g, kind in spec.kinds.items() if kind == "orthogonal"}
    centred = {g for leaf, n in streams for g in spec.leaves[leaf].names() & free if spec.sizes[g] == n}
    if not centred:
        return params, None
    blocks = []
    for block, columns in zip(spec.blocks(params), spec.blocks(reads), strict=True):
        array = block.array
        for axis, factor in enumerate(block.factors):
            if factor in centred:
                mean = array.mean(axis, keepdims=True)
                column = columns.array.max(axis, keepdims=True)
                is_read = (column >= 0).all() and (columns.array == column).all()
                if not is_read and abs(mean).max() > ROUNDING * abs(array).max():
                    return params, block.path
                array = array - mean
        blocks.append(block._replace(array=array))
    return spec.assemble(blocks), None


def _are_apart(params: PyTree) -> bool:
    """Whether something was folded into what was given apart: it is no copy of its table any more."""
    tables = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params["params"])}
    return any(
        np.any(np.asarray(own.get("bias", 0))) or not np.array_equal(own["matrix"], tables[path])
        for path, own in params["untied"].items()
    )


@dataclasses.dataclass(frozen=True)
class _Folded:
    """A function of params and inputs with what was folded left out; of one function and one folding they are equal.

    Attributes:
      neutral: the arrays that are one number all along, and these.
      zeros: where, in a program of the primitives `names`, means are taken that are zero. In another one, such as may
        be traced for other shapes or types, they are computed.
    """

    apply: Callable
    neutral: tuple[tuple[int, float], ...] = ()
    zeros: frozenset[tuple[int, ...]] = frozenset()
    names: tuple[str, ...] = ()

    @functools.cached_property
    def kept(self) -> Kept:
        """See `dwalign.kept`."""
        return kept_by((self.apply, self.neutral, self.zeros, self.names))

    def __call__(self, params: PyTree, inputs: PyTree) -> PyTree:
        program, out = _program(self, *_shapes(params, inputs))
        return out.unflatten(jaxpr_as_fun(program)(*jax.tree.leaves((params, inputs))))


def _shapes(params: PyTree, inputs: PyTree) -> tuple[Any, tuple]:
    leaves, treedef = jax.tree.flatten((params, inputs))
    return treedef, tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


@keep
def _program(read: _Folded, treedef: Any, shapes: tuple) -> tuple[ClosedJaxpr, Any]:
    """The program for arguments of these shapes, its calls written out, and the tree that it returns."""
    arguments = treedef.unflatten([jax.ShapeDtypeStruct(*one) for one in shapes])
    traced, out = jax.make_jaxpr(read.apply, return_shape=True)(*arguments)
    program = simplify(traced, dict(read.neutral))
    if read.zeros and _names(program) == read.names:
        program = simplify(program, {}, {id(eqn) for place, eqn in equations(program) if place in read.zeros})
    return program, jax.tree.structure(out)


def _names(program: ClosedJaxpr) -> tuple[str, ...]:
    return tuple(eqn.primitive.name for _, eqn in equations(program))


def _example_program(read: _Folded, params: PyTree, example: PyTree) -> ClosedJaxpr:
    """For two examples: what is the same along an axis of one is the same along any."""
    two = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype) if jnp.ndim(x) else x, example)
    return _program(read, *_shapes(params, two))[0]


def _wide(leaf: Any) -> np.ndarray:
    """The entries in double precision; what is no floating number is not looked at."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.zeros(math.prod(leaf.shape))
    return np.asarray(leaf).astype(np.float64).ravel()


def _stored(entries: np.ndarray, leaf: Any) -> Any:
    array = entries.reshape(leaf.shape).astype(leaf.dtype)
    return array if isinstance(leaf, np.ndarray) else jnp.asarray(array)
