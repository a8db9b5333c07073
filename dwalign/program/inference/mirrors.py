"""Arrays that the program ignores but that go with others: moments of an optimiser, running averages.

Whatever axes they have, the function stays the same. Two rules say what they should be, and both ask for more than a
name or a shape:
- a whole tree of ignored arrays with the paths and shapes of the tree that holds every array of two or more dimensions
  with a group, such as `{"params": P, "mu": P', "nu": P''}`, takes its axes;
- beside counters (scalars) alone, an ignored array takes those of the one other array, of its shape: Haiku keeps
  averages as `{"counter", "hidden", "average"}` and reads the last.
"""

from collections.abc import Sequence

Path = tuple


def mirrored(
    paths: Sequence[Path], shapes: Sequence[tuple[int, ...]], used: Sequence[bool], carrying: Sequence[bool]
) -> dict[int, int]:
    """For ignored arrays, by number, the array whose axes they take.

    Args:
      paths: where each array is in the tree of parameters.
      shapes: of each array.
      used: whether the program uses it.
      carrying: whether an axis of it is, or is part of, a group.
    """
    place = {path: k for k, path in enumerate(paths)}
    out = _trees(place, shapes, used, carrying)
    parents: dict[Path, list[int]] = {}
    for path, k in place.items():
        parents.setdefault(path[:-1], []).append(k)
    for siblings in parents.values():
        arrays = [k for k in siblings if shapes[k]]
        if len(arrays) == 2 and len(siblings) > 2 and shapes[arrays[0]] == shapes[arrays[1]]:
            out |= {k: other for k, other in (arrays, arrays[::-1]) if used[other] and not used[k] and k not in out}
    return out


def _trees(place: dict[Path, int], shapes, used, carrying) -> dict[int, int]:
    weights = [path for path, k in place.items() if carrying[k] and len(shapes[k]) > 1]
    root = _common(weights)
    if not root or len(weights) < 2:
        return {}
    tree = _below(place, root)
    (first, *_) = tree
    out: dict[int, int] = {}
    for path, k in place.items():
        other = path[: len(path) - len(first)]
        if used[k] or path[len(other) :] != first or other == root:
            continue
        copy = _below(place, other)
        if copy.keys() == tree.keys() and all(not used[j] and shapes[j] == shapes[tree[p]] for p, j in copy.items()):
            out |= {j: tree[p] for p, j in copy.items()}
    return out


def _below(place: dict[Path, int], root: Path) -> dict[Path, int]:
    return {path[len(root) :]: k for path, k in place.items() if path[: len(root)] == root}


def _common(paths: Sequence[Path]) -> Path:
    if not paths:
        return ()
    shortest = min(paths, key=len)
    length = next((n for n, key in enumerate(shortest) if any(path[n] != key for path in paths)), len(shortest))
    return shortest[:length]
