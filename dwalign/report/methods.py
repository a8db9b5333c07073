"""The methods as readers see them: order, names and colours, the same in every table and figure."""

from collections.abc import Iterable

NAMES = {
    "naive": "naive",
    "features": "random features",
    "weight_matching": "weight matching",
    "activation_matching": "activation matching",
    "activation_matching_correlation": "activation matching (correlations)",
    "straight_through": "straight-through",
    "sinkhorn": "Sinkhorn re-basin",
    "refine": "refinement",
    "deep_align": "Deep-Align",
    "deep_align_activations": "Deep-Align with activations",
}
# Okabe and Ito's colours, which stay apart for colour-blind readers too.
COLOURS = {
    "naive": "#9a9a9a",
    "features": "#8c6d31",
    "weight_matching": "#0072b2",
    "activation_matching": "#56b4e9",
    "activation_matching_correlation": "#009e73",
    "straight_through": "#e69f00",
    "sinkhorn": "#b86b98",
    "refine": "#5d4a9c",
    "deep_align": "#d55e00",
    "deep_align_activations": "#a33b00",
}
COUNTS = {"weight_matching": "best of {}", "sinkhorn": "{} iterations", "refine": "{} steps"}
ORDER = tuple(NAMES)


def split(method: str) -> list[tuple[str, str]]:
    """The stages of a method and their counts, "" for the default: `a+b@5` is a, then b with 5."""
    return [stage.partition("@")[::2] for stage in method.split("+")]


def display_name(method: str) -> str:
    """
    >>> display_name("deep_align+refine@5")
    'Deep-Align + refinement (5 steps)'
    """
    names = []
    for name, count in split(method):
        names.append(NAMES.get(name, name) + (f" ({COUNTS.get(name, '{}').format(count)})" if count else ""))
    return " + ".join(names)


def colour(method: str) -> str:
    """Compositions take the colour of their start."""
    return COLOURS.get(split(method)[0][0], "#333333")


def in_order(methods: Iterable[str]) -> list[str]:
    """Baselines, their compositions, then what starts from an aligner; within each as in `NAMES`.

    >>> in_order(["deep_align+refine", "deep_align+refine@5", "deep_align", "weight_matching+sinkhorn", "naive"])
    ['naive', 'weight_matching+sinkhorn', 'deep_align', 'deep_align+refine@5', 'deep_align+refine']
    """

    def place(method):
        stages = split(method)
        # The default number of iterations is the largest, the default number of restarts the smallest.
        counts = [int(c) if c.isdigit() else (0 if name == "weight_matching" else 10**9) for name, c in stages]
        ranks = [ORDER.index(name) if name in ORDER else len(ORDER) for name, _ in stages]
        learned = stages[0][0].startswith("deep_align")
        return learned, len(stages), ranks, counts, method

    return sorted(methods, key=place)
