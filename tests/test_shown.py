"""What a notebook shows of a record fits on a few lines, however large the record is."""

import jax
import numpy as np
import pytest

import dwalign
from tests import drawn

NET = dwalign.networks.mlp(50, (40,) * 12, 10)


def test_records_are_short():
    params = drawn.weights(NET.params)
    assert repr(NET).startswith("Network(20,490 numbers in 26 arrays, units h0 40, ") and " and 4 more, " in repr(NET)
    assert repr(NET).endswith("example float32[1,50])")
    data = dwalign.Data(drawn.normal(90, 50), np.zeros(90, np.int32))
    assert repr(data) == "Data(inputs=float32[90,50], labels=int32[90])"
    found = dwalign.align(NET, params, params, "weight_matching", certified=False)
    assert "'h11': int" in repr(found) and "[40,40]" in repr(found) and len(repr(found)) < 1000
    assert repr(jax.tree.map(lambda leaf: None, found)).startswith("Alignment(perms={'h0': None")


def test_methods_are_their_names_and_options():
    method = dwalign.chain(dwalign.weight_matching.using(restarts=3), dwalign.refine.using(steps=5, learning_rate=0.1))
    assert repr(method) == "Method('weight_matching@3+refine@5', learning_rate=0.1)"
    aligner = dwalign.load_aligner("any", network=NET)
    assert repr(dwalign.deep_align.using(aligner=aligner)).startswith("Method('deep_align', aligner=Aligner(")
    assert repr(aligner).count("\n") == 0 and "h11 40" in repr(aligner)


def test_aligners_in_the_wrong_place_are_told_where_they_belong():
    a = drawn.weights(NET.params)
    with pytest.raises(ValueError, match="load_aligner"):
        dwalign.align(NET, a, a, "deep_align")
    with pytest.raises(ValueError, match=r"deep_align\.using"):
        dwalign.align(NET, a, a, dwalign.load_aligner("any", network=NET))
    with pytest.raises(ValueError, match="choose_method"):
        dwalign.find_method("auto")
