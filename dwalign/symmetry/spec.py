"""What may be permuted: a mirror of the parameters that names the permutable factors of every axis."""

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.files import LazyArray, sealed, unsealed
from dwalign.kept import Kept, kept_by
from dwalign.symmetry.axes import Axes, SpecError, length, namespace
from dwalign.symmetry.fitting import check_pair, fitting
from dwalign.symmetry.narrowed import like, narrowed, with_signs
from dwalign.symmetry.powers import Power
from dwalign.symmetry.statistics import find_statistics
from dwalign.symmetry.trees import decode_tree, encode_tree
from dwalign.symmetry.validity import check_leaves, check_names
from dwalign.symmetry.written import count_directions, read_powers, spelled, without_powers

PyTree = Any


class Block(NamedTuple):
    """A leaf, or one part of a concatenated leaf, with one array axis for every factor.

    `factors[k]` is the name of axis k, or None where the axis is fixed and anonymous; `leaf` is the number of the leaf.
    `powers` are those of the factors; none at all where only the order of units is free.
    """

    path: str
    factors: tuple[str | None, ...]
    array: jax.Array
    leaf: int = 0
    powers: tuple[Power, ...] = ()


class Note(NamedTuple):
    """A dimension that is not permuted, or a factor or part of one, and why."""

    path: str
    dimension: int
    size: int
    why: str


class PermutationSpec:
    """Which axes of a parameter tree carry which group of interchangeable units.

    Args:
      axes: a tree of the structure of the parameters with an `Axes` for every array.
      sizes: the number of units of every group.
      batch: the named factors over which a group is batched: an independent permutation for each index of them.
      fixed: the sizes of named factors that are not permuted (such as scanned layers) but that groups are batched over.
      kinds: of every group what its units may be multiplied with beside being exchanged, one of `KINDS`; "permutation"
        for groups that are left out. Names in `axes` then have powers (`dwalign.symmetry.powers`), `"h0^-1"`; what is
        written without one has the power 1.
      bounds: for groups why their kind is no larger one; no part of the identity of a spec.
      statistics: the paths (of `paths`) of arrays that training computes from data instead of learning them, such as
        batch statistics: they move with their units, but are no weights. By default those that are named as one names
        them (see `dwalign.symmetry.statistics`).
      reading: for arrays whose layer reads their dimensions in another order, positions, then what it sums over, then
        what it makes, this order: `(1, 0)` for a kernel `[out, in]`. What `infer_spec` found; no part of the identity
        of a spec.
      notes, unknown: what `infer_spec` pinned and why, and the primitives it knows no rule for; not a part of the
        identity of a spec.

    Specs are immutable and hashable, so they may be static arguments of jitted functions.
    """

    def __init__(
        self,
        axes: PyTree,
        sizes: Mapping[str, int],
        *,
        batch: Mapping[str, tuple[str, ...]] | None = None,
        fixed: Mapping[str, int] | None = None,
        kinds: Mapping[str, str] | None = None,
        statistics: Collection[str] | None = None,
        notes: Sequence[Note] = (),
        unknown: Mapping[str, str] | None = None,
        bounds: Mapping[str, str] | None = None,
        reading: Mapping[str, tuple[int, ...]] | None = None,
    ):
        self.notes = tuple(notes)
        self.reading = MappingProxyType(dict(reading or {}))
        self.bounds = MappingProxyType(dict(bounds or {}))
        self.unknown = MappingProxyType(dict(unknown or {}))
        self.sizes = MappingProxyType({g: int(n) for g, n in sizes.items()})
        self.batch = MappingProxyType({g: tuple(h) for g, h in (batch or {}).items() if h})
        self.fixed = MappingProxyType({g: int(n) for g, n in (fixed or {}).items()})
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(axes)
        self.paths = tuple(jax.tree_util.keystr(path) for path, _ in paths)
        self.kinds = MappingProxyType({g: (kinds or {}).get(g, "permutation") for g in self.sizes})
        self.written = tuple(leaf for _, leaf in paths)
        self.leaves = tuple(without_powers(leaf) if self.has_kinds else leaf for leaf in self.written)
        self.axes = self.treedef.unflatten(self.leaves)
        self.statistics = frozenset(find_statistics(self.axes) if statistics is None else statistics)
        check_names(self, kinds or {})
        check_leaves(self)
        self.powers = tuple(read_powers(self, *leaf) for leaf in zip(self.paths, self.written, strict=True))
        self.directions = MappingProxyType(count_directions(self))
        # which leaves carry a group
        self.carriers = tuple(not axes.names().isdisjoint(self.sizes) for axes in self.leaves)
        # one spelling of each power, so that equal specs are equal
        self.written = tuple(
            spelled(self, axes) if powers else axes for axes, powers in zip(self.written, self.powers, strict=True)
        )
        self._key = (
            self.treedef,
            self.written,
            tuple(self.sizes.items()),
            tuple(self.kinds.items()),
            tuple(self.batch.items()),
            tuple(self.fixed.items()),
            self.statistics,
        )
        self._hash = hash(self._key)

    def __reduce__(self):
        # for pickle and copy: read-only mappings are neither
        names = ("batch", "fixed", "kinds", "bounds", "unknown", "reading")
        options = {name: dict(getattr(self, name)) for name in names}
        more = dict(statistics=self.statistics, notes=self.notes)
        axes = self.treedef.unflatten(self.written)
        return functools.partial(PermutationSpec, **options, **more), (axes, dict(self.sizes))

    @functools.cached_property
    def outer(self) -> frozenset[str]:
        """The groups that others are batched over."""
        return frozenset(h for names in self.batch.values() for h in names if h in self.sizes)

    @functools.cached_property
    def kept(self) -> Kept:
        """See `dwalign.kept`."""
        return kept_by(self._key)

    @property
    def has_kinds(self) -> bool:
        """Whether more than the order of units is free."""
        return any(kind != "permutation" for kind in self.kinds.values())

    @functools.cached_property
    def characters(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """For each group the different powers of its signs on weights, `((),)` where it has none."""
        found: dict[str, dict[tuple[int, ...], None]] = {g: {} for g in self.sizes}
        for path, axes, powers in zip(self.paths, self.leaves, self.powers, strict=True):
            blocks = axes.blocks()
            for factors, block in zip(blocks, powers or [(Power(),) * len(one) for one in blocks], strict=True):
                for factor, power in zip(factors, block, strict=True):
                    if factor in found and path not in self.statistics:
                        found[factor][power.sign] = None
        return MappingProxyType({g: tuple(sorted(signs)) for g, signs in found.items()})

    def batch_shape(self, group: str) -> tuple[int, ...]:
        """The shape of the index set over which the group is batched, () for most."""
        return tuple(self.size(h) for h in self.batch.get(group, ()))

    @functools.cached_property
    def depth(self) -> Mapping[str, int]:
        """The number of groups that each group is batched over."""
        return MappingProxyType({g: sum(h in self.sizes for h in self.batch.get(g, ())) for g in self.sizes})

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The groups by their depth: each level needs only those before it."""
        return tuple(tuple(g for g in self.sizes if self.depth[g] == d) for d in sorted(set(self.depth.values())))

    @functools.cached_property
    def _whole(self) -> tuple[tuple[str | None, ...] | None, ...]:
        """The names on the dimensions of every leaf that is a block as it is, as most are."""
        single = lambda dim: len(dim) == len(dim[0]) == 1 and not isinstance(dim[0][0], tuple)
        name = lambda factor: factor if isinstance(factor, str) else None
        names = lambda axes: tuple(name(dim[0][0]) for dim in axes.dims)
        whole = lambda axes: not axes.pieces and all(map(single, axes.dims))
        return tuple(names(axes) if whole(axes) else None for axes in self.leaves)

    @functools.cached_property
    def lengths(self) -> tuple[tuple[int | None, ...], ...]:
        """The sizes of the dimensions of every leaf; None where the spec leaves them open."""
        open_or_length = lambda dim: None if dim == ((None,),) else length(dim, self.size)
        return tuple(tuple(map(open_or_length, axes.dims)) for axes in self.leaves)

    def size(self, factor: str | int) -> int:
        """The size of a named factor; that of an integer is itself."""
        if isinstance(factor, int):
            return factor
        return self.sizes[factor] if factor in self.sizes else self.fixed[factor]

    def check(self, params: PyTree, name: str = "params") -> None:
        """Raise `SpecError` unless `params` has the structure and the shapes that the spec describes."""
        fitting(self, params, name)

    def with_statistics(self, statistics: Collection[str]) -> "PermutationSpec":
        """The same spec with these paths as its statistics."""
        return like(self, self.written, statistics=statistics)

    def with_kinds(self, *names: str) -> "PermutationSpec":
        """The same spec with no larger kinds than these; what is left of other groups is the order of their units.

        Of "monomial" the parts are "sign" and "scale", of "linear" it is "orthogonal". `with_kinds()` is the spec of
        permutations alone.

        >>> spec = PermutationSpec({"up": Axes("h"), "down": Axes("h^-1")}, {"h": 3}, kinds={"h": "scale"})
        >>> spec.with_kinds() == PermutationSpec({"up": Axes("h"), "down": Axes("h")}, {"h": 3})
        True
        """
        return narrowed(self, names)

    def with_signs(self, directions: Mapping[str, np.ndarray]) -> "PermutationSpec":
        """The same spec with other directions of signs.

        Args:
          directions: for groups of kind "sign" which of its directions each new one flips, `[new, directions]` of 0
            and 1; of groups without a new one the order of units is left.

        >>> spec = PermutationSpec({"gain": Axes("h^0:1"), "down": Axes("h^1:1", None)}, {"h": 3}, kinds={"h": "sign"})
        >>> spec.with_signs({"h": np.array([[1, 0]])}).written
        (Axes('h, _'), Axes('h^0'))
        """
        return with_signs(self, tuple((g, tuple(map(tuple, rows.tolist()))) for g, rows in directions.items()))

    def check_pair(self, a: PyTree, b: PyTree) -> None:
        """Raise `SpecError` unless `a` and `b` both fit the spec, and have the same shapes and kinds of numbers.

        Of one kind are floats of any precision (what is computed of both is stored as in a), and so on; a float and a
        quantised integer stand for different weights. The spec leaves the size of dimensions that are `None` open, but
        to two networks that are compared weight by weight it must be the same: a size of 1 would broadcast without a
        word.
        """
        check_pair(self, a, b)

    def blocks(self, params: PyTree) -> list[Block]:
        """The parameters as arrays with one axis a factor; `assemble` is the inverse.

        A leaf gives one block, and one for every combination of parts where dimensions are concatenated. NumPy arrays
        stay NumPy arrays, and what is read from files when asked for is not read yet where it is one block as it is.
        """
        leaves = self.treedef.flatten_up_to(params)
        return [block for number, leaf in enumerate(leaves) for block in self.leaf_blocks(number, leaf)]

    def leaf_blocks(self, number: int, leaf: Any, xp: Any = None) -> list[Block]:
        """The blocks of one leaf, the `number`th of `paths`; `xp` is `numpy` for blocks on the host."""
        whole, xp = self._whole[number], xp or namespace(leaf)
        if whole is not None:
            array = leaf if isinstance(leaf, LazyArray) else xp.asarray(leaf)
            return [Block(self.paths[number], whole, array, number, *self.powers[number])]
        pieces = list(self.leaves[number].split(xp.asarray(leaf), self.size))
        part = lambda key: f"{list(key)}" if len(pieces) > 1 else ""
        names = lambda factors: tuple(f if isinstance(f, str) else None for f in factors)
        return [
            Block(self.paths[number] + part(key), names(factors), x, number, powers)
            for (key, factors, x), powers in zip(pieces, self.powers[number] or [()] * len(pieces), strict=True)
        ]

    def assemble(self, blocks: list[Block]) -> PyTree:
        """The parameters made of `blocks`, in the order in which `blocks` gave them."""
        rest = (block.array for block in blocks)
        return self.treedef.unflatten([axes.join(rest) for axes in self.leaves])

    def describe(self) -> str:
        """A table of the groups, of the arrays that carry them, and of what is fixed and why."""
        from dwalign.symmetry.describe import describe

        return describe(self)

    def to_json(self) -> str:
        """The spec as text; its tree may hold any container that JAX knows and that keeps plain values alone."""
        content = {
            "axes": encode_tree(self.treedef.unflatten(self.written), str),
            "sizes": dict(self.sizes),
            "batch": {g: list(h) for g, h in self.batch.items()},
            "fixed": dict(self.fixed),
            **({"kinds": dict(self.kinds)} if self.has_kinds else {}),
            **({"reading": {path: list(order) for path, order in self.reading.items()}} if self.reading else {}),
            "statistics": [path for path in self.paths if path in self.statistics],
        }
        return json.dumps(sealed(content))

    @classmethod
    def from_json(cls, text: str) -> "PermutationSpec":
        """The inverse of `to_json`; raises `SpecError` on text that it did not write."""
        try:
            data = unsealed(json.loads(text))
            axes = decode_tree(data["axes"], Axes.parse)
            sizes, fixed = (_decode_named(data[part], int, "an integer") for part in ("sizes", "fixed"))
            batch = _decode_named(data["batch"], list, "a list of names")
            kinds = _decode_named(data.get("kinds", {}), str, "a kind")
            reading = _decode_named(data.get("reading", {}), list, "an order of dimensions")
            # specs from before statistics were told apart have none of that name
            statistics = data.get("statistics")
            if not (statistics is None or isinstance(statistics, list)):
                raise SpecError(f"spec: statistics in the JSON text must be a list of paths, found {statistics!r}")
            batched = {g: tuple(h) for g, h in batch.items()}
            orders = {path: tuple(order) for path, order in reading.items()}
            return cls(axes, sizes, batch=batched, fixed=fixed, kinds=kinds, statistics=statistics, reading=orders)
        except SpecError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SpecError(
                "spec: the JSON text must hold axes, sizes, batch and fixed, as to_json writes it, but reading it "
                f"failed with {type(error).__name__}: {error}"
            ) from error

    def __eq__(self, other):
        return self is other or (isinstance(other, PermutationSpec) and self._key == other._key)

    def __hash__(self):
        return self._hash

    def __repr__(self):
        lines = [f"  {path}: {leaf}" for path, leaf in zip(self.paths, self.written, strict=True)]
        kinds = f", kinds={dict(self.kinds)}" if self.has_kinds else ""
        return f"PermutationSpec(sizes={dict(self.sizes)}{kinds}\n" + "\n".join(lines) + ")"


def _decode_named(data, kind, text):
    if not isinstance(data, dict) or any(type(value) is not kind for value in data.values()):
        raise SpecError(f"spec: the JSON text must map each name to {text}, found {str(data)[:80]}")
    return data
