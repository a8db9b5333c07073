"""Data are what NumPy takes for arrays: lists of numbers too, in every function that takes inputs."""

import jax
import numpy as np
import pytest

import dwalign
from dwalign import Data, evaluation
from dwalign.networks import mlp
from dwalign.program import as_arrays, as_examples, check_data
from tests import drawn

NET = mlp(6, (5, 4), 3)
A, B = (drawn.weights(NET.params, seed) for seed in (1, 2))
STACK_A, STACK_B = (jax.tree.map(lambda leaf: leaf[None], params) for params in (A, B))
X, Y = drawn.normal(16, 6), np.arange(16, dtype=np.int32) % 3
DOORS = {
    "network": lambda x, y: dict(dwalign.network(NET.apply, A, x).spec.sizes),
    "from_model": lambda x, y: dict(dwalign.from_model(NET, x)[0].spec.sizes),
    "infer_spec": lambda x, y: dict(dwalign.infer_spec(NET.apply, A, x).sizes),
    "certify": lambda x, y: dwalign.certify(NET.spec, NET.apply, A, x).tolerance,
    "capture": lambda x, y: dwalign.make_capture(NET.apply)(A, x)[1].pre,
    "align": lambda x, y: dwalign.align(NET, A, B, "activation_matching+refine@2", data=Data(x, y)).perms,
    "choose_method": lambda x, y: dwalign.align(NET, A, B, "auto", data=Data(x)).perms,
    "a method": lambda x, y: dwalign.activation_matching(NET, A, B, data=Data(x)).perms,
    "merge_many": lambda x, y: dwalign.merge_many(NET, [A, B], "activation_matching", data=Data(x)).params,
    "align_unequal": lambda x, y: dwalign.align_unequal(NET, NET, A, B, "refine", data=Data(x, y)).perms,
    "curve": lambda x, y: dwalign.curve(NET, A, B, Data(x, y), points=3, renew=x),
    "assess": lambda x, y: evaluation.assess(NET, A, (x, y)),
    "confidence": lambda x, y: evaluation.confidence(NET, A, B, dwalign.identity(NET.spec), data=Data(x)),
    "forecast": lambda x, y: evaluation.forecast(NET, A, B, inputs=x),
    "repair": lambda x, y: dwalign.repair(NET, A, [A, B], Data(x)),
    "barrier": lambda x, y: evaluation.mean_barrier(NET, STACK_A, STACK_B, Data(x, y), renew=x)(dwalign.naive),
}


@pytest.mark.parametrize("name", DOORS)
def test_lists_are_arrays(name):
    door = DOORS[name]
    jax.tree.map(np.testing.assert_array_equal, door(X, Y), door(X.tolist(), Y.tolist()))


def test_what_is_a_list_of_numbers():
    x = as_arrays({"rows": [[1.0, 2.0]], "several": [X, Y], "words": ["a"], "none": [], "number": 3})
    assert x["rows"].shape == (1, 2) and x["rows"].dtype == np.float32
    assert x["several"][0] is X and x["words"] == ["a"] and x["none"] == [] and x["number"] == 3
    assert as_arrays(([1, 2], [True]))[0].dtype == np.int32


@pytest.mark.parametrize("method", ["weight_matching", "activation_matching", "auto"])
@pytest.mark.parametrize("data", [X, (X,), {"inputs": X}], ids=["an array", "a tuple of one", "a dictionary"])
def test_data_are_a_pair_whatever_reads_them(method, data):
    for door in (dwalign.align, dwalign.merge):
        with pytest.raises(ValueError, match=r"align: data must be Data\(inputs \[m, ...\], labels \[m\]\)"):
            door(NET, A, B, method, data=data)
    with pytest.raises(ValueError, match="merge_many: data must be"):
        dwalign.merge_many(NET, [A, B], data=data)


def test_shapes_of_random_keys_stay():
    key = jax.eval_shape(lambda: jax.random.key(0))
    zeros, same = as_examples((jax.ShapeDtypeStruct((2, 6), np.float32), key))
    assert isinstance(zeros, np.ndarray) and zeros.shape == (2, 6) and same is key


def test_rows_of_several_lengths():
    with pytest.raises(ValueError, match="lists of numbers must be as long as those beside them"):
        check_data("here", Data([[1.0, 2.0], [3.0]]))


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    data = check_data("here", Data(torch.ones(4, 3), torch.arange(4)), labels=True)
    assert isinstance(data.inputs, np.ndarray) and data.labels.tolist() == [0, 1, 2, 3]
