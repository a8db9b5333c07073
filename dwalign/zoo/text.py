"""Text in: characters of the manual that comes with Python, for models that say which one is next."""

import importlib
from collections.abc import Iterable, Mapping

import numpy as np

from dwalign.program import Data
from dwalign.zoo.datasets import Dataset

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""A token is the place of a character among these; all others share the token behind them."""


def load_topics(length: int = 64) -> Dataset:
    """The topics of Python's `help`, some 370,000 characters of English and examples of code; nothing to download.

    A character is to be told from those before it. Topics are for training, validation or testing as a whole: every
    tenth of them, in order of length, is for testing and another tenth for validation. A paragraph is left out where a
    longer topic has it too, or what is tested would have been trained on: two fifths of the text stand in two topics,
    as `with` does in `compound`. The text is that of the Python that runs, and differs a little between versions.

    Args:
      length: of a sequence.

    Returns:
      `python_topics`, tokens `[m, length]` as inputs and the next ones `[m, length]` as labels, int32, of
      `len(CHARACTERS) + 1` classes.

    Raises:
      ValueError: a length below 1, or more than the shortest part holds.

    >>> data = load_topics(32)
    >>> text = "".join(CHARACTERS[k] for k in data.test.inputs[0])
    >>> data.test.inputs.shape[1:], data.classes
    ((32,), 97)
    """
    topics = list(distinct(importlib.import_module("pydoc_data.topics").topics).values())
    part = lambda *places: sequences([topic for k, topic in enumerate(topics) if k % 10 in places], length)
    return Dataset("python_topics", part(0, 1, 2, 3, 5, 6, 7, 8), part(9), part(4), len(CHARACTERS) + 1)


def distinct(topics: Mapping[str, str]) -> dict[str, str]:
    """The topics, the longest first, without the paragraphs that one before has, and without those of which nothing is
    left.

    >>> distinct({"if": "This.", "compound": "This.\\n\\nAnd that."})
    {'compound': 'This.\\n\\nAnd that.'}
    """
    seen: set[str] = set()
    kept = {}
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = {p.strip(): p for p in topics[name].split("\n\n")}
        kept[name] = "\n\n".join(p for stripped, p in paragraphs.items() if stripped not in seen)
        seen |= set(paragraphs)
    return dict(sorted(((n, text) for n, text in kept.items() if text), key=lambda item: (-len(item[1]), item[0])))


def sequences(texts: Iterable[str], length: int) -> Data:
    """Texts one after the other, cut into tokens `[m, length]` and, for each, the one that follows."""
    places = {character: k for k, character in enumerate(CHARACTERS)}
    tokens = np.array([places.get(c, len(CHARACTERS)) for c in "\n\n".join(texts)], np.int32)
    if not 1 <= length < len(tokens):
        raise ValueError(f"text: length must be from 1 to {len(tokens) - 1}, as the text is long, got {length}")
    count = (len(tokens) - 1) // length
    inputs, labels = (tokens[k : k + count * length].reshape(count, length) for k in (0, 1))
    return Data(inputs, labels)
