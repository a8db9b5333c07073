"""One training step of Deep-Align, jitted over a device mesh."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from dwalign.deepalign import losses
from dwalign.deepalign.build import init_variables
from dwalign.deepalign.model import DeepAlign
from dwalign.deepalign.settings import LossWeights, Optimisation
from dwalign.matching.gauged import is_matched
from dwalign.matching.latents import harden, relaxed, soften, standardised
from dwalign.matching.objective import loss_of
from dwalign.matching.refine import SPREAD, refine_scores
from dwalign.processes import apart
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.symmetry import (
    SpecError,
    count_networks,
    inverse,
    permute,
    random_perms,
    stack_networks,
    take_networks,
    transpose,
)
from dwalign.zoo import Augmentation, augment, random_pairs

PyTree = Any
METRICS = ("supervised", "alignment", "mode_connectivity", "distillation")
"""The losses that a step returns, in order."""


class Targets(NamedTuple):
    """Pairs of training networks `first[k]`, `second[k]` with elements found for them, `[pairs, ...]`."""

    first: jax.Array
    second: jax.Array
    perms: dict[str, Any]


class TrainState(NamedTuple):
    """All that changes in training. The data of a step depend on `seed` and `step` alone, so that resuming is exact."""

    step: jax.Array
    variables: PyTree
    optimiser: PyTree
    seed: jax.Array


def make_optimiser(optimisation: Optimisation) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        optimisation.learning_rate,
        min(optimisation.warmup, optimisation.steps // 2),
        optimisation.steps,
        end_value=0.01 * optimisation.learning_rate,
    )
    adamw = optax.adamw(schedule, weight_decay=optimisation.weight_decay)
    # an aligner has some hundred arrays, most of them small: on one vector each operation runs once
    return optax.flatten(optax.chain(optax.clip_by_global_norm(optimisation.clip), adamw))


def init_state(
    model: DeepAlign,
    optimisation: Optimisation,
    example: PyTree,
    seed: int,
    *,
    others: Iterable[tuple[DeepAlign, PyTree]] = (),
) -> TrainState:
    """A fresh state; `example` is any network of the architecture.

    Args:
      others: models for other architectures, each with any network of its own, that learn the same variables in other
        steps (`AlignerConfig.shared`): the state has what each of them needs.
    """
    variables: dict = {}
    for one, network in (*others, (model, example)):
        variables |= flatten_dict(init_variables(one, network, jax.random.key(seed)))
    variables = unflatten_dict(variables)
    optimiser = jax.jit(make_optimiser(optimisation).init)(variables["params"])
    return TrainState(jnp.int32(0), variables, optimiser, jnp.int32(seed))


def pair_losses(
    model: DeepAlign, variables: PyTree, a: PyTree, b: PyTree, *, key, task_loss, augmentation, optimisation, perms=None
) -> jax.Array:
    """The losses of one step for one pair of training networks, in the order of `METRICS`."""
    spec = model.spec
    augment_key, perm_key, weight_key = jax.random.split(key, 3)
    moved = random_perms(spec, perm_key)
    copy = permute(spec, augment(spec, a, augment_key, augmentation), moved)

    # one program for all three, and below for both directions: what is traced once is compiled once
    features = jax.vmap(lambda v: model.apply(variables, v, method="encode"))(stack_networks([a, b, copy]))
    features_a, features_b, features_copy = (take_networks(features, k) for k in range(3))
    found = model.apply(variables, a, features_a, b, features_b, method="compare")
    known = model.apply(variables, features_a, features_copy, method="product")
    if optimisation.refine:
        start = standardised(spec, found, SPREAD)
        refined, _ = refine_scores(
            spec, a, b, start, lambda params, _: task_loss(params), None, steps=optimisation.refine
        )
        moves = jax.lax.stop_gradient(jax.tree.map(jnp.subtract, refined, start))
        final = jax.tree.map(jnp.add, start, moves)
    else:
        final = found
    plans = soften(
        spec,
        final,
        temperature=optimisation.temperature,
        iterations=optimisation.iterations,
        solver=optimisation.solver,
    )
    if optimisation.hard:
        elements = relaxed(spec, harden(spec, final))
        plans = jax.tree.map(lambda plan, e: plan + jax.lax.stop_gradient(e - plan), plans, elements)
    weight = jnp.float32(0.5) if optimisation.midpoint else jax.random.uniform(weight_key)
    connected = jax.vmap(lambda a, b, plans: losses.mode_connectivity(spec, a, b, plans, weight, task_loss))(
        stack_networks([a, b]), stack_networks([b, a]), stack_networks([plans, transpose(spec, plans)])
    )
    return jnp.stack(
        [
            losses.supervised(spec, known, inverse(spec, moved)),
            losses.alignment(spec, a, b, plans),
            connected.mean(),
            losses.supervised(spec, found, perms) if perms is not None else jnp.zeros(()),
        ]
    )


def make_step(
    model: DeepAlign,
    network: Network,
    networks: PyTree,
    data: Data,
    *,
    weights: LossWeights = LossWeights(),
    augmentation: Augmentation = Augmentation(),
    optimisation: Optimisation = Optimisation(),
    targets: Targets | None = None,
    task: Task = CLASSIFICATION,
    views: int | None = None,
    mesh: Mesh | None = None,
) -> Callable[[TrainState], tuple[TrainState, jax.Array]]:
    """A jitted `state -> (state, losses [4])`.

    Args:
      model: the aligner.
      network: what gets aligned.
      networks: the training networks, stacked; with more free than the order of their units they are in their gauge,
        and `network` is what `dwalign.matching.gauged` gives with them.
      data: training inputs and labels, trees of `[m, ...]`, of the mode-connectivity loss.
      weights, augmentation, optimisation: see their classes.
      targets: pairs to learn from; without them pairs are drawn at random.
      task: what the networks were trained for.
      views: so many consecutive networks represent the same signal; pairs are drawn among them, and the leaves of
        `data` are `[signals, m, ...]`.
      mesh: devices with one axis `pairs`, over which the batch is divided; by default `device_mesh`, all devices where
        the batch allows it. Under `jax.distributed` these are of all processes, each of which makes the same calls with
        the same arguments.
    """
    if not is_matched(network.spec):
        raise SpecError(
            "make_step: training networks must be in their gauge, found groups of kinds "
            f"{sorted(set(network.spec.kinds.values()))}; take network, networks = gauged(network, networks)"
        )
    mesh = mesh or device_mesh(optimisation.batch_size)
    if optimisation.batch_size % mesh.size:
        raise ValueError(f"batch_size must be a multiple of the {mesh.size} devices, got {optimisation.batch_size}")
    replicated, divided = NamedSharding(mesh, P()), NamedSharding(mesh, P("pairs"))
    optimiser, loss = make_optimiser(optimisation), loss_of(network, task)
    factors = jnp.array([getattr(weights, name) for name in METRICS])

    def batch_losses(params, rest, key, networks, data, targets):
        variables = {**rest, "params": params}
        draw_key, image_key, pair_key = jax.random.split(key, 3)
        if targets is None:
            first, second = random_pairs(draw_key, count_networks(networks), optimisation.batch_size, views=views)
            perms = None
        else:
            index = jax.random.randint(draw_key, (optimisation.batch_size,), 0, len(targets.first))
            first, second, perms = take_networks(targets, index)
        index = jax.random.randint(
            image_key, (optimisation.images,), 0, jax.tree.leaves(data.labels)[0].shape[0 if views is None else 1]
        )
        batch = take_networks(data, index) if views is None else None

        def one(variables, batch, data, a, b, key, perms, signal):
            on = batch if signal is None else jax.tree.map(lambda leaf: leaf[signal, index], data)
            return pair_losses(
                model,
                variables,
                a,
                b,
                key=key,
                task_loss=lambda v: loss(v, on),
                augmentation=augmentation,
                optimisation=optimisation,
                perms=perms,
            )

        values = apart(one, 3, divided)(
            variables,
            batch,
            data,
            take_networks(networks, first),
            take_networks(networks, second),
            jax.random.split(pair_key, optimisation.batch_size),
            perms,
            None if views is None else first // views,
        ).mean(0)
        return factors @ values, values

    def step(state, networks, data, targets):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        rest = {name: value for name, value in state.variables.items() if name != "params"}
        grads, values = jax.grad(batch_losses, has_aux=True)(
            state.variables["params"], rest, key, networks, data, targets
        )
        updates, optimiser_state = optimiser.update(grads, state.optimiser, state.variables["params"])
        params = optax.apply_updates(state.variables["params"], updates)
        return TrainState(state.step + 1, {**rest, "params": params}, optimiser_state, state.seed), values

    # the data enter as arguments: closed over, they would be constants that XLA folds for minutes
    networks, data, targets = jax.device_put((networks, jax.tree.map(jnp.asarray, Data(*data)), targets), replicated)
    jitted = jax.jit(step, in_shardings=replicated, out_shardings=replicated)
    # placed like the results, so that the second step finds the program of the first
    return lambda state: jitted(jax.device_put(state, replicated), networks, data, targets)


def device_mesh(batch_size: int) -> Mesh:
    """A mesh of the largest number of devices that divides the batch, of each process as many.

    Raises:
      ValueError: the batch cannot be divided among the processes.
    """
    processes = range(jax.process_count())
    own = [[device for device in jax.devices() if device.process_index == k] for k in processes]
    each = [n for n in range(1, min(map(len, own)) + 1) if batch_size % (n * len(own)) == 0]
    if not each:
        raise ValueError(f"batch_size must be a multiple of the {len(own)} processes, got {batch_size}")
    devices = [device for some in own for device in some[: max(each)]]
    return jax.make_mesh((len(devices),), ("pairs",), axis_types=(AxisType.Auto,), devices=devices)
