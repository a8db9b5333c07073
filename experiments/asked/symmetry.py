"""What equivariance itself buys."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import study

from asked.bench import Answer, Bench, across, barriers, baseline_barriers, predict, train, with_training
from asked.training import recovered
from dwalign import deepalign, report
from dwalign.matching import naive
from dwalign.symmetry import PermutationSpec, count_networks, permute, random_perms


class FlatEncoder(nn.Module):
    """Features of all units from an MLP on the flattened weights, without equivariance."""

    spec: PermutationSpec
    features: int = 32
    hidden: int = 43

    @nn.compact
    def __call__(self, params):
        x = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])
        x = nn.gelu(nn.LayerNorm()(nn.Dense(self.hidden)(x)))
        x = nn.gelu(nn.LayerNorm()(nn.Dense(self.hidden)(x)))
        return {g: nn.Dense(n * self.features)(x).reshape(n, self.features) for g, n in self.spec.sizes.items()}


def equivariance(bench: Bench) -> Answer:
    """What does equivariance itself buy? No score updates here: they are equivariant by themselves."""
    spec, networks = bench.nets.network.spec, bench.nets.train

    def relabelled(params, key):
        return permute(spec, params, random_perms(spec, key))

    keys = jax.random.split(jax.random.key(9), 10 * count_networks(networks))
    tenfold = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 10), networks)
    more = with_training(bench.nets, jax.jit(jax.vmap(relabelled))(tenfold, keys))
    flat = deepalign.DeepAlign(spec, FlatEncoder(spec), updates=0)
    # initialised weights differ from unit to unit, so the equivariant features of an untrained encoder are a fair start
    choices = {
        "graph encoder": train(bench, "graph", {"aligner.updates": 0}),
        "MLP": train(bench, "mlp", {}, model=flat),
        "MLP, 10 relabelled copies of each network": train(bench, "mlp-copies", {}, nets=more, model=flat),
    }
    names, found = [], []
    for name, aligners in choices.items():
        names.append(f"{name} ({study.count_parameters(aligners[0].variables) // 1000} k parameters)")
        methods = predict(aligners)
        found.append(
            barriers(bench, bench.nets, {"merging: barrier": methods})
            | {"units in their place": report.point([recovered(bench, method, noise=0.2) for method in methods])}
        )
    names.append("no alignment")
    (unaligned,) = baseline_barriers(bench, bench.nets, (naive,)).values()
    found.append(
        {"merging: barrier": unaligned, "units in their place": report.point([[1 / n for n in spec.sizes.values()]])}
    )
    return "encoder", names, {title: {"Deep-Align": points} for title, points in across(names, found).items()}
