"""Methods are values: text and back, chains, options, and one program for each network, options, shapes and types."""

import functools

import chex
import jax
import numpy as np
import pytest

from dwalign import Alignment, Data, chain, find_method, known_methods, network
from dwalign.deepalign import Aligner, DeepAlign, init_variables
from dwalign.encoders import GraphEncoder
from dwalign.matching import NEEDS, activation_matching, method, naive, refine, weight_matching
from tests.compiled import compilations

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
DATA = Data(X, np.arange(12) % 3)


def forward(params, x):
    return np.maximum(0, 1) * jax.nn.relu(x @ params["up"] + params["bias"][None]) @ params["down"]


def params(seed):
    rng = np.random.default_rng(seed)
    shapes = {"up": (4, 5), "bias": (5,), "down": (5, 3)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


NET = network(forward, params(0), X)
A, B = params(1), params(2)


@pytest.mark.parametrize(
    "text", ["naive", "weight_matching@5", "features+weight_matching", "naive+refine@2+sinkhorn@3+weight_matching@4"]
)
def test_text_and_back(text):
    assert str(find_method(text)) == text
    assert find_method(find_method(text)) == find_method(text)


def test_names_may_have_spaces_between_them():
    assert find_method(" weight_matching@5 + refine ") == find_method("weight_matching@5+refine")


def test_chains_are_associative_and_labelled():
    parts = [weight_matching.using(restarts=5), refine, refine.using(steps=3)]
    one, other = chain(chain(*parts[:2]), parts[2]), chain(parts[0], chain(*parts[1:]))
    assert one == other and hash(one) == hash(other) and one != chain(*parts[:2])
    assert one.label == "weight matching (best of 5) + refinement + refinement (3 steps)"
    assert (one.needs, naive.needs, activation_matching.needs) == ("labels", "nothing", "inputs")


def test_its_structure_is_the_same_whatever_stands_in_for_arrays():
    @method("shifted", "#000000", needs="nothing")
    def shifted(spec, a, b, *, key=None, by, how=None):
        return naive(spec, a, b)

    one = chain(shifted.using(by=np.ones(3), how="far"), refine)
    assert jax.tree.structure(jax.tree.map(lambda _: "no array", one)) == jax.tree.structure(one)


def test_known_methods_are_in_the_order_of_their_needs():
    needs = [NEEDS.index(one.asks) for one in known_methods().values()]
    assert needs == sorted(needs) and set(needs) == set(range(len(NEEDS)))


def test_a_chain_starts_each_method_from_the_one_before():
    @method("the second", "#000000", needs="nothing")
    def second(spec, a, b, *, key=None, start=None):
        return Alignment(
            {g: perm[::-1] for g, perm in start.perms.items()}, None, start.scores["h0"].sum(keepdims=True)
        )

    first = weight_matching(NET, A, B)
    found = chain(weight_matching, second)(NET, A, B, key=jax.random.key(0))
    chex.assert_trees_all_equal(found.perms, {"h0": first.perms["h0"][::-1]})
    chex.assert_trees_all_close(found.history, first.scores["h0"].sum(keepdims=True).reshape(1, 1), rtol=1e-5)
    chex.assert_trees_all_equal(weight_matching.after(find_method("naive"))(NET, A, B).perms, first.perms)


@pytest.mark.parametrize("text", ["naive", "activation_matching", "features+weight_matching", "naive+refine@2"])
def test_a_second_call_compiles_nothing(text):
    solve = functools.partial(find_method(text), NET, data=DATA)
    # made again of the same function, it is the same network
    again = network(forward, params(0), X)
    solve(A, B, key=jax.random.key(0))
    with compilations() as compiled:
        solve(B, A, key=jax.random.key(1))
        find_method(text)(again, A, B, data=Data(X + 1, DATA.labels))
    assert not compiled


def test_networks_of_one_program_are_equal_however_many_there_were_between():
    scaled = lambda params, x, scale: forward(params, scale[:, None] * x)
    make = lambda: (network(forward, A, X), network(scaled, A, X, X[:, 0]))
    one = make()
    for net in one:
        assert net.capture is not None
    for _ in range(200):
        assert network(lambda params, x: x @ params["w"], {"w": np.ones((4, 2), np.float32)}, X).capture
    other = make()
    assert one == other and [*map(hash, one)] == [*map(hash, other)] and one[0] != one[1]


def test_weights_alone_compile_nothing():
    a, b = params(3), params(4)
    with compilations() as compiled:
        found = weight_matching(NET, a, b, restarts=2)
        naive(NET, a, b)
    assert not compiled and sorted(found.perms["h0"].tolist()) == list(range(5))


def test_arrays_among_the_options_are_arguments_of_the_program():
    run = lambda rate: refine(NET, A, B, data=DATA, steps=2, learning_rate=rate, key=jax.random.key(0))
    slow = run(jax.numpy.float32(0.1))
    with compilations() as compiled:
        fast = run(jax.numpy.float32(0.3))
    assert not compiled and np.abs(slow.scores["h0"] - fast.scores["h0"]).max() > 1e-3
    chex.assert_trees_all_close(fast.scores, run(0.3).scores, atol=1e-5)


def test_names_are_unique():
    with pytest.raises(ValueError, match=r"names must be unique, but dwalign\.matching\.naive has a 'naive'"):

        @method("again", "#000000", needs="nothing", name="naive")
        def again(spec, a, b, *, key=None):
            return Alignment({})


@pytest.mark.parametrize("name", [name for name, one in known_methods().items() if one.features is not None])
def test_products_of_features_are_scores(name):
    key, model = jax.random.key(1), DeepAlign(NET.spec, GraphEncoder(NET.spec), updates=0)
    options = dict(aligner=Aligner(model, init_variables(model, A, key))) if name == "deep_align" else {}
    one = find_method(name).using(**options)
    x, y = (one.encode(NET, params, key=key, data=DATA) for params in (A, B))
    scores = one(NET, A, B, key=key, data=DATA).scores
    scale = model.scale if name == "deep_align" else 1.0
    for g, found in scores.items():
        chex.assert_trees_all_close(found, scale * x[g] @ np.swapaxes(y[g], -1, -2), rtol=1e-4, atol=1e-5 * scale)


def test_methods_without_features_name_those_with_them():
    for one in (weight_matching, chain(activation_matching, refine)):
        with pytest.raises(ValueError, match=r"does not compare features.*'activation_matching'"):
            one.encode(NET, A, key=jax.random.key(0), data=DATA)
