"""Text: every character is told from those before it, and what is tested was not trained on."""

import numpy as np
import pytest

from dwalign import zoo
from dwalign.zoo.text import CHARACTERS, distinct, sequences


@pytest.fixture(scope="module")
def topics():
    return zoo.load_topics()


def read(part):
    return "".join((CHARACTERS + "?")[k] for k in part.inputs.ravel())


def test_labels_are_the_next_tokens(topics):
    for part in (topics.train, topics.validation, topics.test):
        assert part.inputs.shape == part.labels.shape and part.inputs.shape[1] == 64
        np.testing.assert_array_equal(part.inputs.ravel()[1:], part.labels.ravel()[:-1])
        assert part.inputs.min() == 0 and part.labels.max() < topics.classes == len(CHARACTERS) + 1
    known = sequences(["ab", "ä\n!"], 3)
    assert read(known) == "ab\n\n?\n" and (CHARACTERS + "?")[known.labels[-1, -1]] == "!"


def test_parts_share_no_paragraph(topics):
    train, validation, test = (set(map(str.strip, read(part).split("\n\n"))) for part in topics[1:4])
    assert min(map(len, (train, validation, test))) > 50 and len(train) > 5 * len(test)
    assert not train & test and not train & validation and not validation & test


def test_what_a_longer_topic_has_is_left_out():
    found = distinct({"with": "a\n\nb", "compound": "long\n\n  a\n\nlong", "copy": "b\n\na"})
    assert found == {"compound": "long\n\n  a", "copy": "b"}


def test_lengths(topics):
    again = zoo.load_topics()
    np.testing.assert_array_equal(again.train.inputs, topics.train.inputs)
    assert zoo.load_topics(16).train.inputs.shape[1] == 16
    for length in (0, 10**6):
        with pytest.raises(ValueError, match=f"length must be from 1 to .* got {length}"):
            zoo.load_topics(length)
