"""Signs of pairs are the best of all, and what is said of their margins."""

import itertools

import numpy as np

from dwalign.assignment import settled, signed
from dwalign.symmetry import Axes, PermutationSpec
from tests import drawn


def test_signs_of_several_directions_are_the_best_of_all():
    powers = [power for power in itertools.product((0, 1), repeat=3) if any(power)]
    axes = {f"w{k}": Axes("h^" + ":".join(map(str, power))) for k, power in enumerate(powers)}
    spec = PermutationSpec(axes, {"h": 9}, kinds={"h": "sign"})
    scores = drawn.normal(len(spec.characters["h"]), 9, 9)

    def total(signs):
        factors = [np.prod([s for s, odd in zip(signs, power, strict=True) if odd]) for power in spec.characters["h"]]
        return np.tensordot(factors, scores, 1)

    every = list(itertools.product((1.0, -1.0), repeat=3))
    totals = np.stack([total(signs) for signs in every])
    found, margins = signed(spec, "h", scores)
    np.testing.assert_allclose(found, totals.max(0), rtol=1e-5)
    np.testing.assert_allclose(settled(spec, "h", scores), totals.max(0), rtol=1e-5)
    best = np.array(every)[totals.argmax(0)]
    np.testing.assert_array_equal(np.sign(margins), best)
    # the opposite of one sign costs twice its margin
    for k in range(3):
        flipped = [tuple(-s if m == k else s for m, s in enumerate(signs)) for signs in every]
        lower = np.take_along_axis(np.stack([total(signs) for signs in flipped]), totals.argmax(0)[None], 0)[0]
        np.testing.assert_allclose(totals.max(0) - lower, 2 * abs(margins[..., k]), rtol=1e-3, atol=1e-4)
