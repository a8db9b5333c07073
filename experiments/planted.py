"""Planted recovery: how often does each method find the permutation that was hidden in a copy of a network?

    python experiments/planted.py                    methods that compare units, all architectures, half an hour
    python experiments/planted.py --methods descent  methods that descend on a loss, without noise, half an hour
    python experiments/planted.py --methods kinds    signs, scales and maps hidden beside orders, eight minutes
    python experiments/planted.py --preset smoke     two architectures

Every network is drawn at random and copied, the copy relabelled at random and disturbed by noise relative to the root
mean square of each array. Without noise a method should find the permutation always, with every unit in its place.
Methods that descend on a loss are given the outputs of the network itself as what the merged network should answer.
Of larger groups of symmetries random elements are hidden, also after the norms are folded away: what brings the copy
back onto the network is found, for several elements may. Writes runs/planted/, runs/planted-descent/ or
runs/planted-kinds/: config.json, results.json, planted.png where units are counted, and sharing-vit.png, the arrays and
groups of the ViT.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from tqdm import tqdm

from dwalign import deepalign, report
from dwalign.bounds import Count, Strength, settings
from dwalign.deepalign import deep_align
from dwalign.encoders import GraphEncoder
from dwalign.evaluation import planted_recovery
from dwalign.matching import (
    Method,
    activation_matching_correlation,
    anchored_matching,
    chain,
    feature_matching,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.networks import build
from dwalign.program import REGRESSION, Data, Network, fold_norms, infer_spec
from dwalign.symmetry import Alignment, PermutationSpec, distance, permute, perturb, random_perms

IMAGES: dict[str, Any] = dict(shape=[8, 8, 3])
RESNET = IMAGES | dict(kind="resnet20", width=8, depth=8, outputs=10)
VIT = IMAGES | dict(kind="vit", dim=16, depth=1, heads=4, width=32)
TRANSFORMER: dict[str, Any] = dict(kind="transformer", length=8, dim=16, depth=1, heads=4, width=32, vocabulary=32)
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": dict(kind="mlp", inputs=64, widths=[32, 32, 32], outputs=10),
    "siren": dict(kind="siren", inputs=2, widths=[32, 32], outputs=1),
    "cnn": IMAGES | dict(kind="cnn", channels=[8, 16], widths=[32], outputs=10),
    "vgg": IMAGES | dict(kind="vgg", stages=[[8], [16, 16]], widths=[], outputs=10),
    "vgg_batch": IMAGES | dict(kind="vgg", stages=[[8], [16, 16]], widths=[], outputs=10, norm="batch"),
    "resnet_batch": RESNET | dict(norm="batch"),
    "resnet_layer": RESNET | dict(norm="layer"),
    "resnet_group": RESNET | dict(norm="group", groups=2),
    "resnet_bottleneck": IMAGES | dict(kind="resnet", width=4, blocks=[1, 1], outputs=10, bottleneck=True),
    "densenet": IMAGES | dict(kind="densenet", stem=8, growth=4, layers=[2, 2]),
    "unet": IMAGES | dict(kind="unet", channels=[8, 16]),
    "gru": dict(kind="recurrent", cell="gru"),
    "lstm": dict(kind="recurrent", cell="lstm"),
    "lstm_optimized": dict(kind="recurrent", cell="lstm_optimized"),
    "lstm_fused": dict(kind="recurrent", cell="lstm_fused"),
    "gnn": dict(kind="gnn"),
    "mixer": IMAGES | dict(kind="mixer", dim=16, depth=1, tokens=8, width=32),
    "vit": VIT,
    "vit_fused_scan": VIT | dict(depth=2, fused=True, scan=True),
    "transformer": TRANSFORMER,
    "transformer_tied_scan": TRANSFORMER | dict(depth=2, tied=True, scan=True),
    "transformer_grouped": TRANSFORMER | dict(kv_heads=2, tied=True),
    "transformer_fused": TRANSFORMER | dict(fused=True),
    "transformer_rotary_gated": TRANSFORMER | dict(norm="rms", gated=True, rotary=True, tied=True),
    "transformer_rotary_grouped_fused": TRANSFORMER | dict(kv_heads=2, fused=True, gated=True, rotary=True),
}
SMOKE = ("mlp", "resnet_layer")
# one of each kind: a thousand steps on a loss take minutes where a comparison takes seconds
KINDS = (
    *("mlp", "siren", "cnn", "vgg_batch", "resnet_batch", "densenet", "unet", "gru", "lstm", "gnn", "mixer", "vit"),
    "transformer",
)
# those of which folding leaves more free: streams are rotated, and convolutions take scales
FOLDED = "_folded"
WITH_NORMS = ("vgg_batch", "vit", "transformer", "transformer_grouped", "transformer_rotary_gated")
# of the distance to the copy: so much is left by rounding
ROUNDING = 1e-4


@settings
class Config:
    """Hide permutations and look for them."""

    preset: Literal["smoke", "default"] = "default"
    """smoke takes two networks and few draws."""
    methods: Literal["comparison", "descent", "kinds"] = "comparison"
    """those that compare weights, activations or features, or descend on a loss, or look for elements of all kinds."""
    out: str = "runs"
    draws: Count = 10
    """permutations of each network at each level of noise."""
    noise: tuple[Strength, ...] = (0.0, 0.1, 0.3, 1.0)
    """standard deviation of the noise, relative to the root mean square of each array."""
    examples: Count = 64
    """random inputs on which activations are compared."""


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    small = first.preset == "smoke"
    own: dict[str, Any] = dict(draws=4, noise=(0.0, 0.2)) if small else {}
    if first.methods == "descent":
        own = dict(draws=1 if small else 3, noise=(0.0,))
    if first.methods == "kinds":
        own = dict(draws=4 if small else 100, noise=(0.0,))
    return tyro.cli(Config, args=args, default=Config(**own), description=__doc__)


def untrained(spec: PermutationSpec, a: Any, b: Any, *, key: jax.Array) -> Alignment:
    """The pass of an aligner that is drawn for every pair: exactness holds for all parameters."""
    model = deepalign.DeepAlign(spec, GraphEncoder(spec, features=32, channels=32, rounds=3), updates=0)
    return deep_align(spec, a, b, aligner=deepalign.Aligner(model, deepalign.init_variables(model, a, key)))


METHODS: dict[str, tuple[list[Method], tuple[str, ...]]] = {
    "comparison": (
        [
            weight_matching,
            anchored_matching,
            chain(feature_matching, weight_matching),
            activation_matching_correlation,
            dataclasses.replace(deep_align, function=untrained, asks="weights"),
        ],
        tuple(NETWORKS),
    ),
    "descent": ([straight_through, sinkhorn_rebasin, refine], KINDS),
    "kinds": ([weight_matching], (*NETWORKS, *(f"{name}{FOLDED}" for name in WITH_NORMS))),
}


def settings_of(name: str) -> dict[str, Any]:
    """What a network is built of."""
    return NETWORKS[name.removesuffix(FOLDED)]


def draw_network(network: Network, key: jax.Array) -> Any:
    """Initial parameters, disturbed: zero biases and scales of one would leave units alike."""
    init, noise = jax.random.split(key)
    spread = lambda array: jnp.std(array) + (jnp.std(array) == 0)
    return perturb(network.spec, jax.jit(network.init)(init), noise, 0.1, spread=spread)


def example_inputs(network: Network, count: int, key: jax.Array) -> jax.Array:
    """Random inputs of the shape and type that the network takes."""
    example = network.example
    if jnp.issubdtype(example.dtype, jnp.integer):
        return jax.random.randint(key, (count, *example.shape[1:]), 0, network.config["vocabulary"])
    return jax.random.normal(key, (count, *example.shape[1:]))


def recover(config: Config, network: Network, key: jax.Array) -> dict[str, dict[str, Any]]:
    """For each method and level of noise the shares of whole draws and of units that were recovered.

    Methods that descend lower the distance from the outputs of the network itself.
    """
    params_key, input_key, draw_key = jax.random.split(key, 3)
    params = draw_network(network, params_key)
    inputs = example_inputs(network, config.examples, input_key)
    data = Data(inputs, jax.jit(network.respond)(params, inputs))
    keys = jax.random.split(draw_key, config.draws)

    @functools.partial(jax.jit, static_argnums=0)
    def solve(method, noise):
        one = lambda key: planted_recovery(network, method, params, key=key, noise=noise, data=data, task=REGRESSION)
        return jax.lax.map(one, keys)

    found: dict[str, dict[str, Any]] = {}
    for method in METHODS[config.methods][0]:
        runs = [solve(method, jnp.float32(noise)) for noise in config.noise]
        found[str(method)] = {
            "draws": [float(run.draw.mean()) for run in runs],
            "units": [float(jnp.mean(jnp.stack([u.mean() for u in run.units.values()]))) for run in runs],
        }
    return found


def recover_elements(config: Config, network: Network, fold: bool, key: jax.Array) -> dict[str, dict[str, Any]]:
    """As `recover`, with elements of all kinds: the share of whole draws, and how far the worst copy was left."""
    params = draw_network(network, key)
    if fold:
        network, params = fold_norms(network, params)
    spec = infer_spec(network.apply, params, network.example, kinds="all")
    params, rng = jax.tree.map(np.asarray, params), np.random.default_rng(0)

    def left(method, noise):
        copy = permute(spec, params, random_perms(spec, rng))
        found = method(spec, params, perturb(spec, copy, jax.random.key(rng.integers(2**31)), noise))
        return float(distance(spec, params, permute(spec, copy, found.perms)) / distance(spec, params, copy))

    found: dict[str, dict[str, Any]] = {}
    for method in METHODS[config.methods][0]:
        shares = [[left(method, noise) for _ in range(config.draws)] for noise in config.noise]
        found[str(method)] = {
            "draws": [float(np.mean(np.array(share) <= ROUNDING)) for share in shares],
            "left": [max(share) for share in shares],
        }
    return found


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name != "out"}
    experiment = "planted" if config.methods == "comparison" else f"planted-{config.methods}"
    folder = report.open_run(Path(config.out) / experiment, settings)
    # every program runs once: optimising it takes longer than running it
    jax.config.update("jax_disable_most_optimizations", True)
    names = SMOKE if config.preset == "smoke" else METHODS[config.methods][1]
    recovery = {}
    with tqdm(names, unit="network") as bar:
        for number, name in enumerate(bar):
            bar.set_postfix_str(name)
            network, key = build(settings_of(name)), jax.random.key(number)
            if config.methods == "kinds":
                recovery[name] = recover_elements(config, network, name.endswith(FOLDED), key)
            else:
                recovery[name] = recover(config, network, key)
    results = {
        "experiment": experiment,
        "config": settings | {"networks": {name: settings_of(name) for name in names}},
        "environment": report.environment(),
        "recovery": recovery,
    }
    report.write_json(folder / "results.json", results)
    if config.methods != "kinds":
        report.recovery_figure(results, folder / "planted.png")
    report.sharing_figure(build(NETWORKS["vit"]).spec, folder / "sharing-vit.png")
    print(report.recovery_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
