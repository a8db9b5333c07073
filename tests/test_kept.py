"""What was found out and compiled about a network goes when the network goes, and is found again by its equals."""

import copy
import dataclasses
import gc
import pickle
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dwalign
from dwalign import Data, PermutationSpec, evaluation
from dwalign.symmetry import Axes
from tests import drawn
from tests.compiled import compilations

X, Y = drawn.normal(16, 6), np.arange(16) % 3
DATA = Data(X, Y)
A, B = (drawn.named(seed, up=(6, 5), down=(5, 3)) for seed in (1, 2))
# other tests declare methods of their own
OURS = [one for one in dwalign.known_methods().values() if one.function.__module__.startswith("dwalign.")]
METHODS = [str(one) for one in OURS if one.asks != "aligner"]


class Table(np.ndarray):
    """An array that can be held weakly."""


def made():
    """A network whose program closes over an array, and that array."""
    table = np.ones(6, np.float32).view(Table)

    def apply(params, x):
        return jax.nn.relu(x * jnp.asarray(np.asarray(table))[None] @ params["up"]) @ params["down"]

    return dwalign.network(apply, A, X), weakref.ref(table)


USES = {method: lambda net, method=method: dwalign.align(net, A, B, method, data=DATA) for method in METHODS} | {
    "every kind": lambda net: dwalign.align(dwalign.network(net.apply, A, X, kinds="all"), A, B, "refine", data=DATA),
    "auto": lambda net: dwalign.merge(net, A, B, "auto", data=Data(X)),
    "merge": lambda net: dwalign.merge(net, A, B, data=DATA),
    "merge_many": lambda net: dwalign.merge_many(net, [A, B], how="refinement", data=DATA),
    "curve": lambda net: dwalign.curve(net, A, B, DATA, points=3),
    "assess": lambda net: evaluation.assess(net, A, DATA),
    "confidence": lambda net: evaluation.confidence(net, A, B, dwalign.identity(net.spec), data=DATA),
    "forecast": lambda net: evaluation.forecast(net, A, B, inputs=X),
    "repair": lambda net: dwalign.repair(net, A, [A, B], DATA),
    "fold_norms": lambda net: dwalign.fold_norms(net, A)[0].apply(A, X),
    "certify": lambda net: dwalign.certify(net.spec, net.apply, A, X, complete=True),
    "capture": lambda net: net.capture(A, X),
}


@pytest.mark.filterwarnings("ignore:repair")
@pytest.mark.parametrize("name", USES)
def test_a_network_that_is_dropped_is_freed(name):
    net, table = made()
    USES[name](net)
    del net
    gc.collect()
    assert table() is None


def test_an_equal_network_finds_what_was_compiled():
    net, _ = made()
    again = dwalign.network(net.apply, A, X)
    evaluation.assess(net, A, DATA)
    with compilations() as seen:
        evaluation.assess(again, B, DATA)
    assert again == net and seen == []


@dataclasses.dataclass
class Scaled:
    """A program that cannot be hashed, as its fields may change."""

    scale: float

    def __call__(self, params, x):
        return jax.nn.relu(self.scale * x @ params["up"]) @ params["down"]


def test_a_program_without_a_hash_is_itself_alone():
    one = Scaled(2.0)
    net, same, other = (dwalign.network(apply, A, X) for apply in (one, one, Scaled(2.0)))
    assert dwalign.align(net, A, B, "activation_matching", data=DATA).perms.keys() == {"h0"}
    with compilations() as seen:
        dwalign.align(same, A, B, "activation_matching", data=DATA)
    assert seen == [] and same == net != other


def shout(params, x):
    return jax.nn.relu(x @ params["up"]) @ params["down"]


NETS = {
    "of a function": lambda: dwalign.network(shout, A, X),
    "of the package": lambda: dwalign.networks.mlp(6, (5,), 3),
    "with statistics": lambda: dwalign.networks.densenet((4, 4, 1), 3, 2, (1,), 3, norm="batch"),
    "of linen": lambda: dwalign.from_model(dwalign.networks.MLP((5,), 3), X, key=jax.random.key(0))[0],
}


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("name", NETS)
def test_networks_go_to_other_processes(name, again):
    net = NETS[name]()
    assert net.kept[len] and callable(net.capture), "what lies there after use"
    other = again(net)
    assert other == net and other.kept is net.kept and repr(other) == repr(net)
    # the shapes of what it draws
    assert name == "of a function" or jax.eval_shape(other.init, jax.random.key(0)) == net.params


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_methods_go_to_other_processes(again):
    for method in (*OURS, dwalign.find_method("weight_matching@5+refine@2"), dwalign.refine.using(images=5)):
        assert method.parts, "which lie there after use"
        assert again(method) == method and repr(again(method)) == repr(method)


def test_an_aligner_goes_to_another_process():
    net = NETS["of the package"]()
    aligner = dwalign.load_aligner("any", network=net, inputs=X)
    there = pickle.loads(pickle.dumps(dwalign.deep_align.using(aligner=aligner))).options["aligner"]
    assert there.model.function.__self__ == net
    assert jax.tree.all(jax.tree.map(np.array_equal, there.variables, aligner.variables))


def test_cloudpickle_takes_what_closes_over_a_program():
    cloudpickle = pytest.importorskip("cloudpickle")
    net, _ = made()
    assert dwalign.align(net, A, B, "activation_matching", data=DATA).perms.keys() == {"h0"}
    other = pickle.loads(cloudpickle.dumps(net))
    assert other.spec == net.spec and np.array_equal(other.apply(A, X), net.apply(A, X))


def test_what_is_kept_lasts_as_long_as_one_of_equals():
    spec, same = (PermutationSpec({"w": Axes("h")}, {"h": 2}) for _ in range(2))
    kept = spec.kept
    assert same.kept is kept
    gone = weakref.ref(kept)
    del spec, kept
    gc.collect()
    assert gone() is same.kept
    del same
    gc.collect()
    assert gone() is None
