"""Specs over every container that JAX knows come back from JSON; what cannot is refused by name."""

import collections
import dataclasses
import json
from typing import NamedTuple

import flax.struct
import jax
import pytest
from flax import nnx
from flax.core import FrozenDict

from dwalign.files.checksums import unsealed
from dwalign.symmetry import Axes, PermutationSpec, SpecError


@flax.struct.dataclass
class Struct:
    one: Axes
    two: Axes
    name: str = flax.struct.field(pytree_node=False, default="x")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Plain:
    one: Axes
    two: Axes


class Pair(NamedTuple):
    one: Axes
    two: Axes


H, NONE = Axes("h"), Axes(None)
TREES = {
    "FrozenDict": FrozenDict({"a": H, "b": {"c": NONE}}),
    "flax dataclass": Struct(H, NONE, "y"),
    "dataclass": Plain(H, NONE),
    "NamedTuple": Pair(H, NONE),
    "OrderedDict": collections.OrderedDict(b=H, a=NONE),
    "numbers for keys": {1: H, 2: [NONE, None, (NONE,)]},
    "nnx state": jax.tree.map(lambda _: H, nnx.state(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))),
}


@pytest.mark.parametrize("kind", TREES)
def test_containers_come_back(kind):
    spec = PermutationSpec(TREES[kind], {"h": 3})
    again = PermutationSpec.from_json(spec.to_json())
    assert again == spec and type(again.axes) is type(spec.axes)


def test_an_nnx_module_asks_for_its_state():
    module = jax.tree.map(lambda _: H, nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    with pytest.raises(SpecError, match=r"cannot write flax\.nnx\.\S*:\w+ as JSON.*nnx\.split"):
        PermutationSpec(module, {"h": 3}).to_json()


@pytest.mark.parametrize(
    "name, message",
    [
        ("shutil:rmtree", "must be a container that JAX knows, of 2 parts"),
        ("flax.core.frozen_dict:Nothing", "must be a container that JAX knows"),
        ("no.such.module:Thing", "import no.such.module before it is read"),
    ],
)
def test_nothing_is_called_but_containers(name, message):
    content = unsealed(json.loads(PermutationSpec(TREES["FrozenDict"], {"h": 3}).to_json()))
    with pytest.raises(SpecError, match=message):
        PermutationSpec.from_json(json.dumps(content).replace("flax.core.frozen_dict:FrozenDict", name))
