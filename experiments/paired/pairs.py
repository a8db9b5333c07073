"""Pairs of trained networks with both specs, and what a network half way between two is worth."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study
import train_inr

from dwalign import report, zoo
from dwalign.evaluation import curve
from dwalign.program import CLASSIFICATION, REGRESSION, Data, Network, Task, certify, infer_spec, take_examples
from dwalign.symmetry import PermutationSpec, compose, inverse, permute, take_networks
from paired.cases import Case

PyTree = Any
Elements = dict[str, Any]


class Pair(NamedTuple):
    """Attributes:
    a, b: two networks.
    seen: data that methods get.
    test: what the networks between them are judged on.
    key: for methods.
    """

    a: PyTree
    b: PyTree
    seen: Data
    test: Data
    key: jax.Array


class Subject(NamedTuple):
    """Attributes:
    case: what it is one of.
    network: with the order of units alone.
    full: the same with all kinds.
    task: what it is for.
    pairs: that were trained.
    """

    case: Case
    network: Network
    full: Network
    task: Task
    pairs: list[Pair]


@functools.cache
def prepare(case: Case, images: int, *, small: bool = False) -> Subject:
    """Train the pairs of a case and read both specs off its program.

    Methods see so many training images; two pairs that are `small` are hardly trained.
    """
    count = 2 if small else case.pairs
    recipe = dataclasses.replace(case.recipe, epochs=2) if small else case.recipe
    network, seeds = case.network(), 500 + jnp.arange(2 * count)
    if case.signals:
        task, data = REGRESSION, train_inr.make_signals(train_inr.Config(), 0, count)
        nets = zoo.train_networks(network, data, recipe, task, signals=True)(seeds, jnp.arange(2 * count) // 2)
        inputs = data.inputs[0]
        shown = [(one, one) for one in (take_examples(data, k) for k in range(count))]
    else:
        task, digits = CLASSIFICATION, zoo.load("digits")
        nets = zoo.train_networks(network, digits.train, recipe)(seeds)
        inputs = digits.train.inputs
        shown = [study.to_device((take_examples(digits.train, slice(images)), digits.test))] * count
    nets = jax.tree.map(np.asarray, nets)
    of = lambda k: take_networks(nets, k)
    pairs = [Pair(of(2 * k), of(2 * k + 1), *shown[k], jax.random.key(k)) for k in range(count)]
    return Subject(case, network, with_all_kinds(network, pairs[0].a, inputs[:2]), task, pairs)


def with_all_kinds(network: Network, params: PyTree, inputs: jax.Array) -> Network:
    """The same network; what its spec says is tried on numbers."""
    spec = infer_spec(network.apply, params, inputs, kinds="all")
    certify(spec, network.apply, params, inputs)
    return dataclasses.replace(network, spec=spec)


def between(spec: PermutationSpec, ways: tuple[Elements, Elements], found: Elements) -> Elements:
    """What was found between two networks that have been moved, as an element between these as they are."""
    one, two = ways
    return compose(spec, inverse(spec, one), compose(spec, found, two))


def make_judge(subject: Subject) -> Callable[..., tuple[float, float]]:
    """`judge(pair, element)`: barrier and accuracy half way."""
    spec, task = subject.full.spec, subject.task
    half_way = jax.jit(lambda a, b, test: curve(subject.network, a, b, test, task=task, points=3))

    def judge(pair: Pair, element: Elements) -> tuple[float, float]:
        found = half_way(pair.a, permute(spec, pair.b, element), pair.test)
        return float(found.barrier), float(found.midpoint_accuracy)

    return judge


def ratio(values: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """That of two means over the same pairs; its interval is that of the pairs' distances from it."""
    whole = values.mean() / base.mean()
    return report.point([whole + (values - whole * base) / base.mean()])
