"""Examples that repeat what shorter ones check, and that nights alone run."""

import pytest


def long(*examples):
    """These as arguments of `parametrize`, marked."""
    values = lambda example: example if isinstance(example, tuple) else (example,)
    return [pytest.param(*values(example), marks=pytest.mark.long) for example in examples]
