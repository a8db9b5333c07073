"""Lists of numbers are arrays wherever arrays are asked for, and refused where any list is a tree."""

import jax
import numpy as np
import pytest

import dwalign
from dwalign import Alignment, Data, assignment, evaluation, networks, program, symmetry
from tests import drawn

NET = networks.mlp(4, (3,), 2)
SPEC = NET.spec
A, B = (drawn.weights(NET.params, seed) for seed in (0, 1))
X, Y = drawn.normal(8, 4), np.arange(8) % 2
SCORES, PERMS = drawn.normal(3, 3), {"h0": np.array([2, 0, 1])}
POINTS = np.abs(drawn.normal(4, 4)) + np.abs(drawn.normal(4, 4)).T
ZOO = jax.tree.map(lambda *leaves: np.stack(leaves), A, B)

TAKEN = {
    "hungarian": (assignment.hungarian, SCORES),
    "hungarian of a batch": (assignment.hungarian, drawn.normal(2, 3, 3)),
    "hungarian of a tree": (assignment.hungarian, {"h0": SCORES, "h1": drawn.normal(2, 2)}),
    "augmenting_paths": (assignment.augmenting_paths, SCORES),
    "sinkhorn": (assignment.sinkhorn, SCORES),
    "soft_assign": (assignment.soft_assign, {"h0": SCORES}),
    "polar": (assignment.polar, SCORES),
    "clues": (evaluation.clues, SCORES / 4),
    "predict_chance": (lambda lead: evaluation.predict_chance({"lead": lead}, {"lead": 1.0}), SCORES[0]),
    "planar_map": (evaluation.planar_map, POINTS),
    "retrieval_precision": (lambda labels: evaluation.retrieval_precision(POINTS, labels), Y[:4]),
    "cross_entropy": (program.cross_entropy, SCORES, PERMS["h0"]),
    "mean_squared_error": (program.mean_squared_error, SCORES, SCORES.T),
    "correct": (program.correct, SCORES, PERMS["h0"]),
    "within": (program.within, SCORES, SCORES.T),
    "permute": (lambda perms: dwalign.permute(SPEC, B, perms), PERMS),
    "permute by a plan": (lambda perms: dwalign.permute(SPEC, B, perms), {"h0": np.full((3, 3), 1 / 3, np.float32)}),
    "inverse": (lambda perms: dwalign.inverse(SPEC, perms), PERMS),
    "compose": (lambda outer, inner: dwalign.compose(SPEC, outer, inner), PERMS, PERMS),
    "to_matrices": (symmetry.to_matrices, PERMS),
    "transpose": (lambda plans: symmetry.transpose(SPEC, plans), symmetry.to_matrices(PERMS)),
    "distance": (lambda perms: dwalign.distance(SPEC, A, B, perms=perms), PERMS),
    "average": (lambda perms: dwalign.average(NET, A, B, perms), PERMS),
    "a start": (lambda perms: dwalign.weight_matching(SPEC, A, B, start=Alignment(perms)).perms, PERMS),
    "take_examples": (lambda x: program.take_examples(Data(x, 0.5), slice(2)).inputs, X),
    "count_examples": (program.count_examples, X),
}


@pytest.mark.parametrize("name", TAKEN)
def test_lists_do_what_arrays_do(name):
    function, *arrays = TAKEN[name]
    lists = jax.tree.map(lambda array: array.tolist(), arrays)
    for found, wanted in zip(*map(jax.tree.leaves, (function(*lists), function(*arrays))), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_in_parameters_lists_are_trees():
    of_lists, zoo = (jax.tree.map(lambda array: array.tolist(), tree) for tree in (A, ZOO))
    for refused in (
        lambda: dwalign.align(NET, A, of_lists),
        lambda: dwalign.permute(SPEC, of_lists, PERMS),
        lambda: dwalign.merge_many(SPEC, [A, of_lists]),
    ):
        with pytest.raises(dwalign.SpecError, match="lists of numbers are trees here, make them arrays"):
            refused()
    for refused in (
        lambda: symmetry.count_networks(zoo),
        lambda: symmetry.take_networks(zoo, 0),
        lambda: symmetry.take_networks([A, B], 0),
        lambda: evaluation.aligned_distances(SPEC, [A, B], "weight_matching"),
    ):
        with pytest.raises(ValueError, match=r"stacked, .*found .*stack_networks"):
            refused()
    with pytest.raises(ValueError, match="equally many a, b"):
        evaluation.mean_barrier(NET, zoo, zoo, Data(X, Y))


def test_two_rows_of_numbers_are_two_examples_and_no_pair():
    with pytest.raises(ValueError, match=r"data must be .*got list of 2"):
        dwalign.align(NET, A, B, "activation_matching", data=X[:2].tolist())
    found = dwalign.align(NET, A, B, "activation_matching", data=[X.tolist(), None])
    assert (
        found.perms["h0"].tolist() == dwalign.align(NET, A, B, "activation_matching", data=Data(X)).perms["h0"].tolist()
    )


def test_objects_in_lists_are_trees():
    assert symmetry.as_arrays([{"a": 1}, {"a": 2}]) == [{"a": 1}, {"a": 2}]
