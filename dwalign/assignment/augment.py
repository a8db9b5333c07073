"""Linear assignment without leaving the device: shortest augmenting paths, a batch of problems in one loop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwalign.symmetry import with_lists

# of greedy matching before the first path: a few find most partners that nobody else wants
ROUNDS = 8


@with_lists
@jax.jit
def augmenting_paths(scores: jax.Array) -> jax.Array:
    """The permutation p that maximises sum_i scores[i, p[i]], by array operations alone.

    The rows that a greedy matching leaves over are matched one by one along shortest augmenting paths (Jonker and
    Volgenant 1987; Crouse 2016). Every problem of a batch goes its own way through one loop, whose length is that of
    the slowest problem: worth it for batches on accelerators, where `hungarian` takes it; on CPUs it is slower.

    Args:
      scores: `[..., n, n]`. Gradients do not flow through the result.

    Returns:
      `[..., n]` int32, optimal up to rounding in the precision of the scores (at least float32); -1 everywhere where
      scores of a problem are not finite. Among equally good permutations it may take another one than the host does.

    >>> augmenting_paths(jnp.array([[10.0, 9.0], [9.0, 0.0]])).tolist()
    [1, 0]
    """
    scores = jax.lax.stop_gradient(scores).astype(jnp.promote_types(scores.dtype, jnp.float32))
    flat = scores.reshape(-1, *scores.shape[-2:])
    return jax.vmap(_assign)(flat).reshape(scores.shape[:-1])


class _Search(NamedTuple):
    """A search for the shortest path from a row without a column to a column without a row.

    Attributes:
      columns, rows: partners of rows and of columns, -1 for none.
      high, low: dual variables of rows and of columns.
      root, here: the row that is to be matched, and that from which columns are reached next.
      reached: length of the shortest path to the row.
      paths, via: of columns, the shortest length so far, and the row before it.
      settled: columns whose length is known.
      sink: the column from which partners are exchanged backwards, -1 while none is found.
    """

    columns: jax.Array
    rows: jax.Array
    high: jax.Array
    low: jax.Array
    root: jax.Array
    here: jax.Array
    reached: jax.Array
    paths: jax.Array
    via: jax.Array
    settled: jax.Array
    sink: jax.Array


def _assign(scores: jax.Array) -> jax.Array:
    finite = jnp.isfinite(scores).all()
    costs = -jnp.where(finite, scores, 0.0)
    high = costs.min(1)
    low = (costs - high[:, None]).min(0)
    columns, rows = _greedy((costs - high[:, None]) - low[None, :] == 0)
    found = jax.lax.while_loop(
        lambda search: (search.columns < 0).any(),
        lambda search: jax.tree.map(
            lambda one, other: jnp.where(search.sink < 0, one, other), _reach(costs, search), _exchange(search)
        ),
        _begin(columns, rows, high, low),
    )
    return jnp.where(finite, found.columns, -1)


def _greedy(tight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pairs without reduced cost: each row wants the first column that is free, which takes the first such row."""
    n = len(tight)
    index = jnp.arange(n, dtype=jnp.int32)

    def round_(_, pairs):
        columns, rows = pairs
        open_ = tight & (columns < 0)[:, None] & (rows < 0)[None, :]
        wants = open_ & (index[None, :] == open_.argmax(1)[:, None])
        taken, by = wants.any(0), wants.argmax(0).astype(jnp.int32)
        pairs_made = wants & (index[:, None] == by[None, :])
        columns = jnp.where(pairs_made.any(1), pairs_made.argmax(1).astype(jnp.int32), columns)
        return columns, jnp.where(taken, by, rows)

    nobody = jnp.full(n, -1, jnp.int32)
    return jax.lax.fori_loop(0, ROUNDS, round_, (nobody, nobody))


def _begin(columns: jax.Array, rows: jax.Array, high: jax.Array, low: jax.Array) -> _Search:
    """From the first row that has no partner."""
    n, root = len(columns), (columns < 0).argmax().astype(jnp.int32)
    return _Search(
        columns,
        rows,
        high,
        low,
        root=root,
        here=root,
        reached=jnp.zeros((), high.dtype),
        paths=jnp.full(n, jnp.inf, high.dtype),
        via=jnp.full(n, -1, jnp.int32),
        settled=jnp.zeros(n, bool),
        sink=jnp.int32(-1),
    )


def _reach(costs: jax.Array, search: _Search) -> _Search:
    """Settle the nearest column: go on from its partner, or stop there if it has none (a step of Dijkstra's)."""
    there = search.reached + (costs[search.here] - search.high[search.here] - search.low)
    nearer = ~search.settled & (there < search.paths)
    paths = jnp.where(nearer, there, search.paths)
    via = jnp.where(nearer, search.here, search.via)
    ahead = jnp.where(search.settled, jnp.inf, paths)
    reached = ahead.min()
    # of equally near columns one without a partner ends the search
    nearest = (jnp.where(ahead == reached, 1, 0) * jnp.where(search.rows < 0, 2, 1)).argmax().astype(jnp.int32)
    settled = search.settled.at[nearest].set(True)
    partner = search.rows[nearest]
    ends = partner < 0
    # what makes the edges of the path tight
    slack = jnp.where(settled & ends, reached - paths, 0.0)
    high = search.high + jnp.where(search.columns < 0, 0.0, slack[search.columns])
    return search._replace(
        high=high.at[search.root].add(jnp.where(ends, reached, 0.0)),
        low=search.low - slack,
        here=partner,
        reached=reached,
        paths=paths,
        via=via,
        settled=settled,
        sink=jnp.where(ends, nearest, -1),
    )


def _exchange(search: _Search) -> _Search:
    """One step back along the path; at its root the next search begins."""
    row = search.via[search.sink]
    columns, rows = search.columns.at[row].set(search.sink), search.rows.at[search.sink].set(row)
    again = _begin(columns, rows, search.high, search.low)
    on = search._replace(columns=columns, rows=rows, sink=search.columns[row])
    return jax.tree.map(lambda one, other: jnp.where(row == search.root, one, other), again, on)
