"""The notation for the axes of one array: what is permuted along each dimension, and how it falls into blocks."""

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dwalign.files import LazyArray

# one of a product: a group or another named factor, so many fixed positions, or a sum (a tuple of products)
Factor = str | int | None | tuple
Sizes = Callable[[Any], int]
HOST = (np.ndarray, np.generic, LazyArray)


class SpecError(ValueError):
    """A permutation spec that contradicts itself or the parameters it is used on."""


class Sum(tuple):
    """An ordered concatenation of products of factors along one dimension, `Sum("h0", ("h1", 4))`."""

    def __new__(cls, *parts):
        return super().__new__(cls, parts)

    def __getnewargs__(self):
        return tuple(self)


class Turns(tuple):
    """Products whose positions take turns along one dimension, `Turns("h0", "h0", "h1")`.

    What `Sum` puts one after the other stands here side by side: the number of the part varies fastest. All have one
    length, or the first ones one more than the others: the last turn need not be whole.
    """

    def __new__(cls, *parts):
        return super().__new__(cls, parts)

    def __getnewargs__(self):
        return tuple(self)

    def __eq__(self, other):
        return isinstance(other, Turns) and super().__eq__(other)

    def __hash__(self):
        return hash((Turns, *self))


class Axes:
    """The factors of one array, dimension by dimension, written as in einops.

    A dimension is `None` (fixed), a group name, a product `(49, "c3")` whose first factor varies slowest, or a
    `Sum` of products where things are concatenated; a factor of a product may be a `Sum` again, or `Turns` of products
    whose positions take turns. Integers are fixed positions of that size. `Axes.concatenate` is for arrays of which
    pieces along one dimension carry different groups along others.

    >>> Axes((49, "c3"), "h0")
    Axes('49*c3, h0')
    >>> Axes.parse("49*c3, h0") == Axes((49, "c3"), "h0")
    True
    >>> Axes(None, ("head", Sum("query", "query", "value")))
    Axes('_, head*(query + query + value)')
    >>> Axes(None, ("head", Turns("query", "query", "value")))
    Axes('_, head*(query & query & value)')
    >>> Axes.concatenate(0, Axes(2, "query"), Axes(1, "value"))
    Axes('0: 2, query | 1, value')
    """

    __slots__ = ("axis", "dims", "pieces")

    def __init__(self, *dims):
        self.dims = tuple(_sum(dim) for dim in dims)
        self.axis, self.pieces = None, ()
        for dim in self.dims:
            if dim != ((None,),) and None in set(_flat(dim)):
                raise SpecError(
                    f"Axes: None stands for a whole fixed dimension, but was found inside {_dim_text(dim)!r}; "
                    "write the number of fixed positions instead"
                )

    @classmethod
    def concatenate(cls, axis: int, *pieces: "Axes") -> "Axes":
        """The axes of arrays `pieces` that are concatenated along dimension `axis`.

        Raises `SpecError` unless the pieces have equally many dimensions and sizes along `axis` that are written out.
        """
        ranks = {len(piece.dims) for piece in pieces}
        if len(ranks) != 1 or not 0 <= axis < min(ranks) or any(None in _flat(one.dims[axis]) for one in pieces):
            raise SpecError(
                f"Axes: pieces must have equally many dimensions and a size along dimension {axis}, found {pieces}"
            )
        out = cls.__new__(cls)
        # for sizes any of the pieces will do, but along the axis they add up
        along = tuple(part for piece in pieces for part in piece.dims[axis])
        out.dims = tuple(along if d == axis else dim for d, dim in enumerate(pieces[0].dims))
        out.axis, out.pieces = axis, tuple(pieces)
        return out

    @classmethod
    def parse(cls, text: str) -> "Axes":
        """The inverse of `str`."""
        if piecewise := re.fullmatch(r"\s*(\d{1,2})\s*:(.*)", text, re.DOTALL):
            return cls.concatenate(int(piecewise[1]), *map(cls.parse, piecewise[2].split("|")))
        tokens = [token.strip() for token in re.findall(r"[+&*(),]|[^+&*(),]+", text)]
        rest = iter([token for token in tokens if token] + [""])
        token = next(rest)
        if not token:
            return cls()

        def product():
            nonlocal token
            out = []
            while True:
                if token == "(":
                    token = next(rest)
                    out.append(total())
                    if token != ")":
                        raise SpecError(f"Axes: a bracket must be closed, found {text[:80]!r}")
                elif not token or token in "+&*),":
                    raise SpecError(f"Axes: a factor must stand on both sides of an operator, found {text[:80]!r}")
                else:
                    out.append(None if token == "_" else int(token) if token.isdecimal() else token)
                token = next(rest)
                if token != "*":
                    return tuple(out)
                token = next(rest)

        def total():
            nonlocal token
            out, sign = [product()], token
            while token == sign and sign in ("+", "&"):
                token = next(rest)
                out.append(product())
            return Turns(*out) if sign == "&" else Sum(*out)

        dims = [total()]
        while token == ",":
            token = next(rest)
            dims.append(total())
        if token:
            raise SpecError(f"Axes: {text[:80]!r} must be dimensions joined by ',', found {token!r} between them")
        return cls(*dims)

    def names(self) -> set[str]:
        return {f for axes in self.pieces or (self,) for dim in axes.dims for f in _flat(dim) if isinstance(f, str)}

    def carried(self, dimension: int) -> list[str]:
        """The names along one dimension, each as often as it occurs there."""
        dims = [axes.dims[dimension] for axes in self.pieces or (self,)]
        return [f for dim in dims for f in _flat(dim) if isinstance(f, str)]

    def text(self, dimension: int) -> str:
        """One dimension as `str` writes it."""
        return _dim_text(self.dims[dimension])

    def stacked(self, name: str) -> "Axes":
        """The axes of many such arrays, stacked along a first dimension of this name.

        >>> Axes.parse("0: 2, query | 1, value").stacked("layer")
        Axes('1: layer, 2, query | layer, 1, value')
        """
        if self.pieces:
            return Axes.concatenate(self.axis + 1, *(piece.stacked(name) for piece in self.pieces))
        out = Axes(name)
        out.dims += self.dims
        return out

    def renamed(self, names: dict[str, str]) -> "Axes":
        """The same with other names; those that `names` lacks stay."""
        return self.relabelled(lambda name, *_: names.get(name, name))

    def relabelled(self, name: Callable[[str, int, int], str]) -> "Axes":
        """The same with a name of its own at every place: `name(name, dimension, number of the place along it)`.

        >>> Axes(Sum("h", "h"), "h").relabelled(lambda name, d, k: f"{name}.{d}.{k}")
        Axes('h.0.0 + h.0.1, h.1.0')
        """
        counts: dict[tuple[str, int], int] = {}

        def new(factor, d):
            if not isinstance(factor, str):
                return factor
            k = counts[factor, d] = counts.get((factor, d), -1) + 1
            return name(factor, d, k)

        return self._changed(new)

    def _changed(self, new: Callable[[Any, int], Any]) -> "Axes":
        """The same with `new(factor, dimension)` for each factor."""

        def change(dim, d):
            kind = Turns if isinstance(dim, Turns) else Sum
            return kind(*(tuple(change(f, d) if isinstance(f, tuple) else new(f, d) for f in part) for part in dim))

        def all_of(axes):
            if axes.pieces:
                return Axes.concatenate(axes.axis, *map(all_of, axes.pieces))
            return Axes(*(change(dim, d) for d, dim in enumerate(axes.dims)))

        return all_of(self)

    def split(self, array: Any, size: Sizes) -> Iterator[tuple[tuple[int, ...], tuple, Any]]:
        """The blocks of an array: which part of each concatenation, the factors, and the array with an axis for each.

        `size` gives that of a named factor. NumPy arrays stay NumPy arrays.
        """
        if not self.pieces:
            yield from _split(array, self.dims, size)
            return
        parts = _apart(array, [(piece.dims[self.axis],) for piece in self.pieces], self.axis, size)
        for k, (piece, part) in enumerate(zip(self.pieces, parts, strict=True)):
            for key, factors, block in piece.split(part, size):
                yield (k, *key), factors, block

    def join(self, blocks: Iterator[Any]) -> Any:
        """The inverse of `split`: takes as many arrays from `blocks` as it gave."""
        if not self.pieces:
            return _join(self.dims, blocks)
        return _side_by_side(self.pieces, [piece.join(blocks) for piece in self.pieces], self.axis)

    def blocks(self) -> list[tuple[str | int | None, ...]]:
        """The factors of each block that `split` gives."""
        if self.pieces:
            return [factors for piece in self.pieces for factors in piece.blocks()]
        return list(_blocks(self.dims))

    def dimensions(self) -> list[tuple[int, ...]]:
        """On which dimension each factor of `blocks` lies.

        >>> Axes.parse("49*c3, h0 + h1").dimensions()
        [(0, 0, 1), (0, 0, 1)]
        """
        # a factor is a positive number
        numbered: Any = self._changed(lambda _, d: d + 1).blocks()
        return [tuple(d - 1 for d in one) for one in numbered]

    def __str__(self):
        if self.pieces:
            return f"{self.axis}: " + " | ".join(map(str, self.pieces))
        return ", ".join(_dim_text(dim) for dim in self.dims)

    def __repr__(self):
        return f"Axes({str(self)!r})"

    def __eq__(self, other):
        return isinstance(other, Axes) and (self.dims, self.axis, self.pieces) == (other.dims, other.axis, other.pieces)

    def __hash__(self):
        return hash((self.dims, self.axis, self.pieces))


def length(dim: tuple, size: Sizes) -> int:
    """The number of positions of a dimension (or of a factor) that is written out."""
    if not isinstance(dim, tuple):
        return dim if isinstance(dim, int) else size(dim)
    lengths = [math.prod(length(factor, size) for factor in part) for part in dim]
    if isinstance(dim, Turns) and lengths != [-(-(sum(lengths) - k) // len(dim)) for k in range(len(dim))]:
        raise SpecError(
            "Axes: what takes turns must have one length, or the first of them one more, found "
            f"{lengths} in {_dim_text(dim)!r}"
        )
    return sum(lengths)


def namespace(*arrays):
    """`numpy` where all arrays are NumPy's, so that work on the host stays there, otherwise `jax.numpy`."""
    for array in arrays:
        if not isinstance(array, HOST):
            return jnp
    return np


def contract(x: Any, x_axes: Sequence[int], y: Any, y_axes: Sequence[int], out: Sequence[int]) -> Any:
    """`einsum` of two arrays without a repeated axis in either; on the host one product of matrices.

    >>> contract(np.ones((2, 3)), [0, 1], np.ones((4, 3)), [2, 1], [0, 2]).tolist()
    [[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]]
    """
    if namespace(x, y) is jnp:
        return jnp.einsum(x, list(x_axes), y, list(y_axes), list(out), precision="highest")
    (left, rows), (right, columns), shape, order = _as_matrices(
        tuple(x_axes), x.shape, tuple(y_axes), y.shape, tuple(out)
    )
    product = x.transpose(left).reshape(rows) @ y.transpose(right).reshape(columns)
    return product.reshape(shape).transpose(order)


@functools.lru_cache(4096)
def _as_matrices(x_axes, x_shape, y_axes, y_shape, out):
    """Orders and shapes of both arrays as batches of matrices, and the shape and the order of their product."""
    sizes = dict(zip(x_axes + y_axes, x_shape + y_shape, strict=True))
    both = [k for k in x_axes if k in y_axes]
    batch, summed = [k for k in both if k in out], [k for k in both if k not in out]
    rows, columns = [k for k in x_axes if k not in both], [k for k in y_axes if k not in both]
    count = lambda axes: math.prod(sizes[k] for k in axes)
    order = lambda axes, *parts: tuple(axes.index(k) for part in parts for k in part)
    shape = [sizes[k] for k in batch]
    left = order(x_axes, batch, rows, summed), (*shape, count(rows), count(summed))
    right = order(y_axes, batch, summed, columns), (*shape, count(summed), count(columns))
    found = (*batch, *rows, *columns)
    return left, right, tuple(sizes[k] for k in found), order(found, out)


def _sum(dim) -> tuple[tuple[Factor, ...], ...]:
    parts = dim if isinstance(dim, Sum) else (dim,)
    out = tuple(product for part in parts for product in (_sum(part) if isinstance(part, Sum) else (_product(part),)))
    if not out or () in out:
        raise SpecError("Axes: a product or Sum must hold at least one factor, found an empty one")
    return out


def _product(part) -> tuple[Factor, ...]:
    product = part if isinstance(part, tuple | list) and not isinstance(part, Sum | Turns) else (part,)
    out: list[Factor] = []
    for factor in product:
        if isinstance(factor, Sum):
            inner = _sum(factor)
            out += inner[0] if len(inner) == 1 else [inner]
        elif isinstance(factor, Turns):
            products = [_product(inner) for inner in factor]
            if () in products or not products:
                raise SpecError("Axes: a product or Turns must hold at least one factor, found an empty one")
            out += products[0] if len(products) == 1 else [Turns(*products)]
        elif factor is None or isinstance(factor, str) or (type(factor) is int and factor > 0):
            out.append(factor)
        else:
            raise SpecError(f"Axes: a factor must be a name, a positive integer, None or a Sum, found {factor!r}")
    return tuple(out)


def _flat(dim) -> Iterator[str | int | None]:
    for part in dim:
        for factor in part:
            yield from _flat(factor) if isinstance(factor, tuple) else (factor,)


def _dim_text(dim) -> str:
    word = lambda f: "_" if f is None else f"({_dim_text(f)})" if isinstance(f, tuple) else str(f)
    return (" & " if isinstance(dim, Turns) else " + ").join("*".join(map(word, part)) for part in dim)


def _first_sum(dims) -> int | None:
    return next((k for k, dim in enumerate(dims) if isinstance(dim, tuple) and len(dim) > 1), None)


def _unfolded(dims) -> list[Factor]:
    """Each dimension that is a single product, taken apart."""
    return [factor for dim in dims for factor in (dim[0] if isinstance(dim, tuple) else (dim,))]


def _with(dims, axis, part):
    return (*dims[:axis], (part,), *dims[axis + 1 :])


def _blocks(dims):
    if (axis := _first_sum(dims)) is not None:
        for part in dims[axis]:
            yield from _blocks(_with(dims, axis, part))
    elif any(isinstance(dim, tuple) for dim in dims):
        yield from _blocks(_unfolded(dims))
    else:
        yield tuple(dims)


def _split(array, dims, size):
    if (axis := _first_sum(dims)) is not None:
        for k, (part, piece) in enumerate(zip(dims[axis], _apart(array, dims[axis], axis, size), strict=True)):
            for key, factors, block in _split(piece, _with(dims, axis, part), size):
                yield (k, *key), factors, block
    elif any(isinstance(dim, tuple) for dim in dims):
        flat = _unfolded(dims)
        if len(flat) != len(dims):
            whole = lambda dim, n: [n] if dim == ((None,),) else [length(factor, size) for factor in dim[0]]
            unfold = lambda dim, n: whole(dim, n) if isinstance(dim, tuple) else [n]
            array = array.reshape([n for dim, m in zip(dims, array.shape, strict=True) for n in unfold(dim, m)])
        yield from _split(array, flat, size)
    else:
        yield (), tuple(dims), array


def _join(dims, blocks):
    if (axis := _first_sum(dims)) is not None:
        return _side_by_side(dims[axis], [_join(_with(dims, axis, part), blocks) for part in dims[axis]], axis)
    if any(isinstance(dim, tuple) for dim in dims):
        return _merge(_join(_unfolded(dims), blocks), [len(dim[0]) if isinstance(dim, tuple) else 1 for dim in dims])
    return next(blocks)


def _apart(array, total: Sequence, axis: int, size: Sizes) -> Sequence:
    """The parts of an array of which one axis is a sum, or in which they take turns."""
    if isinstance(total, Turns):
        return [array[(slice(None),) * axis + (slice(k, None, len(total)),)] for k in range(len(total))]
    sizes = [length((part,), size) for part in total]
    return namespace(array).split(array, np.cumsum(sizes)[:-1].tolist(), axis=axis)


def _side_by_side(total: Sequence, parts: Sequence, axis: int):
    """The inverse of `_apart`."""
    if not isinstance(total, Turns):
        return namespace(*parts).concatenate(parts, axis=axis)
    turns = parts[-1].shape[axis]
    if longer := [part for part in parts if part.shape[axis] > turns]:
        # the last turn is not whole
        cut = lambda part, *ends: part[(slice(None),) * axis + (slice(*ends),)]
        whole = _side_by_side(total, [cut(part, 0, turns) for part in parts], axis)
        return namespace(*parts).concatenate([whole, *(cut(part, turns, None) for part in longer)], axis=axis)
    shape = parts[0].shape
    stacked = namespace(*parts).stack(parts, axis=axis + 1)
    return stacked.reshape(*shape[:axis], len(parts) * shape[axis], *shape[axis + 1 :])


def _merge(array, counts):
    if all(count == 1 for count in counts):
        return array
    shape, k = [], 0
    for count in counts:
        shape.append(math.prod(array.shape[k : k + count]))
        k += count
    return array.reshape(shape)
