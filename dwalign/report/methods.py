"""The methods as readers see them: order, names and colours, the same in every table and figure."""

from collections.abc import Iterable

from dwalign.deepalign import deep_align
from dwalign.matching import NEEDS, known_methods

# among those that ask for the same, in the order in which they appeared
APPEARED = ("anchored_matching", "straight_through", "sinkhorn", "refine")
# in results of earlier versions
RETIRED = {"deep_align_activations": (f"{deep_align.title} with activations", "#a33b00")}


def split(method: str) -> list[tuple[str, str]]:
    """The stages of a method and their counts, "" for the default: `a+b@5` is a, then b with 5."""
    return [stage.partition("@")[::2] for stage in method.split("+")]


def display_name(method: str) -> str:
    """
    >>> display_name("deep_align+refine@5")
    'Deep-Align + refinement (5 steps)'
    """
    known, names = known_methods(), []
    for name, count in split(method):
        title = known[name].title if name in known else RETIRED.get(name, (name,))[0]
        form = known[name].count if name in known else None
        names.append(title + (f" ({form[1].format(count) if form else count})" if count else ""))
    return " + ".join(names)


def colour(method: str) -> str:
    """Compositions take the colour of their start."""
    first, known = split(method)[0][0], known_methods()
    return known[first].colour if first in known else RETIRED.get(first, ("", "#333333"))[1]


def in_order(methods: Iterable[str]) -> list[str]:
    """Baselines, their compositions, then what starts from an aligner; within each those first that need least.

    >>> in_order(["deep_align+refine", "deep_align+refine@5", "deep_align", "weight_matching+sinkhorn", "naive"])
    ['naive', 'weight_matching+sinkhorn', 'deep_align', 'deep_align+refine@5', 'deep_align+refine']
    """
    known = known_methods()
    asked = lambda name: (NEEDS.index(known[name].asks), APPEARED.index(name) if name in APPEARED else -1)
    order = [*sorted(known, key=asked), *RETIRED]

    def place(method):
        stages = split(method)
        # The default number of iterations is the largest, the default number of restarts the smallest.
        restarts = lambda name: name in known and (known[name].count or ("",))[0] == "restarts"
        counts = [int(c) if c.isdigit() else (0 if restarts(name) else 10**9) for name, c in stages]
        ranks = [order.index(name) if name in order else len(order) for name, _ in stages]
        learned = stages[0][0].startswith("deep_align")
        return learned, len(stages), ranks, counts, method

    return sorted(methods, key=place)
