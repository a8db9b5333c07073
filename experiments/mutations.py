"""Does the certificate refuse every wrong spec and accept every right one?

    python experiments/mutations.py                  all networks at 32 and 224 pixels, ten minutes
    python experiments/mutations.py --preset smoke   three small networks

Of the spec of each network each group is left out on one array in turn, and two groups of one size are exchanged on
one array. Each of these must be refused and the spec itself accepted: as the program is, with products whose operands
keep ten bits of mantissa (TF32), and with weights and inputs in bf16 and in fp16. What is accepted though it was
changed is tried on the network itself in double precision, with weights from another generator: where that finds no
difference either, it is a symmetry that the spec does not list, such as a bias of keys, and counted by itself.
Writes runs/mutations/: config.json, results.json.
"""

import dataclasses
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from tqdm import tqdm

from dwalign import report
from dwalign.bounds import settings
from dwalign.networks import build
from dwalign.program import Network, accepts, drawn_elements, examine, interpret, trials
from dwalign.symmetry import PermutationSpec, SpecError, permute, random_perms

PyTree = Any
VIT = dict(kind="vit", dim=12, depth=2, heads=3, width=16, outputs=3)
TRANSFORMER: dict[str, Any] = dict(kind="transformer", length=6, dim=12, depth=2, heads=3, width=16, vocabulary=16)
# with the edge of the patches at 32 pixels, where there are any
PICTURES: dict[str, dict[str, Any]] = {
    "cnn": dict(kind="cnn", channels=[6, 8], widths=[10], outputs=3),
    "vgg": dict(kind="vgg", stages=[[6], [8, 8]], widths=[10], outputs=3),
    "vgg, batch norm": dict(kind="vgg", stages=[[6], [8, 8]], widths=[10], outputs=3, norm="batch"),
    "resnet, batch norm": dict(kind="resnet", width=6, blocks=[1, 1], outputs=3, norm="batch", large=True),
    "resnet, layer norm": dict(kind="resnet", width=6, blocks=[1, 1], outputs=3, norm="layer", large=True),
    "resnet, group norm": dict(kind="resnet", width=6, blocks=[1, 1], outputs=3, norm="group", groups=3, large=True),
    "resnet, bottleneck": dict(kind="resnet", width=4, blocks=[1, 1], outputs=3, bottleneck=True, large=True),
    "densenet": dict(kind="densenet", stem=6, growth=4, layers=[2, 2], outputs=3),
    "unet": dict(kind="unet", channels=[4, 6], outputs=2),
    "mixer": dict(kind="mixer", dim=12, depth=2, tokens=8, width=16, outputs=3, patch=8),
    "vit": VIT | dict(patch=8),
    "vit, fused, scanned": VIT | dict(patch=8, fused=True, scan=True),
}
OTHERS: dict[str, dict[str, Any]] = {
    "mlp": dict(kind="mlp", inputs=16, widths=[12, 12], outputs=3),
    "siren": dict(kind="siren", inputs=2, widths=[12, 12], outputs=3),
    "gru": dict(kind="recurrent", inputs=3, widths=[6, 6], outputs=3, cell="gru", time=8),
    "lstm": dict(kind="recurrent", inputs=3, widths=[6, 6], outputs=3, cell="lstm", time=8),
    "lstm, fused": dict(kind="recurrent", inputs=3, widths=[6, 6], outputs=3, cell="lstm_fused", time=8),
    "gnn": dict(kind="gnn", nodes=6, features=3, widths=[8, 8], outputs=3),
    "transformer": TRANSFORMER,
    "transformer, tied, scanned": TRANSFORMER | dict(tied=True, scan=True),
    "transformer, grouped queries": TRANSFORMER | dict(dim=24, heads=6, kv_heads=2, tied=True),
    "transformer, rotary, gated": TRANSFORMER | dict(norm="rms", gated=True, rotary=True, tied=True),
}
PIXELS = (32, 224)
SMOKE = ("mlp", "gru", "vit, fused, scanned")
PRECISIONS = ("float32", "TF32", "bf16", "fp16")
COUNTS = ("specs", "refused", "changed", "accepted", "symmetries")


@settings
class Config:
    """Mutate specs."""

    preset: Literal["smoke", "default"] = "default"
    """smoke takes three networks at 32 pixels."""
    out: str = "runs"


def mutants(spec: PermutationSpec) -> Iterator[tuple[str, PermutationSpec]]:
    """Each group left out on one array, with those that are batched over it; two of one size exchanged on one array."""
    for k, (path, axes) in enumerate(zip(spec.paths, spec.leaves, strict=True)):
        here = sorted(axes.names() & set(spec.sizes))
        shape = lambda group: (spec.sizes[group], spec.batch.get(group))
        changes = {
            f"without {group}": {h: spec.sizes[h] for h in here if h == group or group in spec.batch.get(h, ())}
            for group in here
        }
        changes |= {
            f"{one} for {two}": {one: two, two: one}
            for one, two in itertools.combinations(here, 2)
            if shape(one) == shape(two)
        }
        for change, names in changes.items():
            leaves = list(spec.leaves)
            leaves[k] = axes.renamed(names)
            try:
                tree = spec.treedef.unflatten(leaves)
                wrong = PermutationSpec(tree, spec.sizes, batch=spec.batch, fixed=spec.fixed)
            except SpecError:
                # it contradicts itself: on no array any more, or on one without what it is batched over
                continue
            if wrong != spec:
                yield f"{path} {change}", wrong


def with_short_products(apply, params: PyTree, inputs: jax.Array):
    """The function with operands of products that keep ten bits of mantissa, as tensor cores take them.

    Bits are cut off by hand: a rounding that the certificate cannot tell from the program.
    """
    closed, shape = jax.make_jaxpr(apply, return_shape=True)(params, inputs)
    cut = lambda value: jax.lax.bitcast_convert_type(
        jax.lax.bitcast_convert_type(value, jnp.uint32) & jnp.uint32(0xFFFFE000), jnp.float32
    )

    def equation(eqn, ins):
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            ins = [cut(value) if value.dtype == jnp.float32 else value for value in ins]
        out = eqn.primitive.bind(*ins, **eqn.params)
        return out if eqn.primitive.multiple_results else [out]

    run = interpret(closed, equation, lambda value, aval: value)
    return lambda params, inputs: jax.tree.structure(shape).unflatten(run(*jax.tree.leaves((params, inputs))))


def is_symmetry(network: Network, spec: PermutationSpec, inputs: np.ndarray, seed: int = 7) -> bool:
    """Of the network itself in double precision, by other weights and other elements than those of the certificate."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if jnp.ndim(leaf) < 2 or "var" in jax.tree_util.keystr(path):
            return rng.uniform(0.5, 1.5, leaf.shape)
        return rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))

    with jax.enable_x64(True):
        apply = jax.jit(network.apply)
        for attempt in range(3):
            params = jax.tree_util.tree_map_with_path(draw, network.params)
            perms = jax.tree.map(np.asarray, random_perms(spec, jax.random.key(attempt)))
            before, after = apply(params, inputs), apply(permute(spec, params, perms), inputs)
            if float(jnp.max(jnp.abs(before - after)) / jnp.std(before)) > 1e-9:
                return False
    return True


def judge(network: Network, precision: str) -> tuple[Counter, list[str]]:
    """What the certificate makes of a spec and of all its mutants, at one precision; and the mutants it accepts."""
    rng = np.random.default_rng(0)
    params = jax.jit(network.init)(jax.random.key(0))
    example = np.asarray(network.example)
    shape = (2, *example.shape[1:])
    floating = jnp.issubdtype(example.dtype, jnp.floating)
    inputs = rng.standard_normal(shape).astype(np.float32) if floating else rng.integers(0, 11, shape)
    apply, given = network.apply, (params, inputs)
    if precision == "TF32":
        apply = with_short_products(apply, *given)
    elif precision != "float32":
        dtype = {"bf16": jnp.bfloat16, "fp16": jnp.float16}[precision]
        short = lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        given = jax.tree.map(short, given)
    trial = next(trials(examine(apply, *given), rng))
    passes = lambda spec: accepts(spec, trial, drawn_elements(spec, rng))[0]
    counts, passed = Counter(specs=1, refused=int(not passes(network.spec))), []
    for name, wrong in mutants(network.spec):
        counts["changed"] += 1
        if passes(wrong):
            passed.append(name)
            counts["symmetries" if is_symmetry(network, wrong, inputs) else "accepted"] += 1
    return counts, passed


def networks(preset: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """For each row of the table the networks of it."""
    chosen = lambda of: {name: one for name, one in of.items() if preset == "default" or name in SMOKE}
    rows: dict[str, list] = {}
    for pixels in PIXELS if preset == "default" else PIXELS[:1]:
        scale = pixels // PIXELS[0]
        rows[f"{pixels} pixels"] = [
            (name, one | dict(shape=[pixels, pixels, 3]) | ({"patch": one["patch"] * scale} if "patch" in one else {}))
            for name, one in chosen(PICTURES).items()
        ]
    return rows | {"no pictures": list(chosen(OTHERS).items())}


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder = report.open_run(Path(config.out) / "mutations", dataclasses.asdict(config))
    rows = networks(config.preset)
    found = {f"{row}, {precision}": Counter() for row in rows for precision in PRECISIONS}
    passed: dict[str, list[str]] = {}
    work = [(row, name, one, precision) for row, of in rows.items() for name, one in of for precision in PRECISIONS]
    # a bar for a terminal; a log gets a line for each network
    for row, name, one, precision in (bar := tqdm(work, desc="mutations", disable=None)):
        bar.set_postfix_str(f"{name}, {row}, {precision}")
        # programs of networks that are done
        jax.clear_caches()
        counts, names = judge(build(one), precision)
        found[f"{row}, {precision}"].update(counts)
        passed |= {f"{name}, {row}, {precision}": names} if names else {}
        if bar.disable and precision == PRECISIONS[-1]:
            print(f"{name}, {row}: done", file=sys.stderr, flush=True)
    point = lambda value: report.point([[value]])
    results = {
        "experiment": "mutations",
        "config": {"preset": config.preset, "networks": dict(rows)},
        "environment": report.environment(),
        "axis": "programs",
        "settings": list(found),
        "whole": True,
        "panels": {
            "right specs": {one: {row: point(of[one]) for row, of in found.items()} for one in COUNTS[:2]},
            "changed specs": {one: {row: point(of[one]) for row, of in found.items()} for one in COUNTS[2:]},
        },
        "accepted": passed,
    }
    total = sum(found.values(), Counter())
    results["caption"] = (
        f"mutations: {total['refused']} of {total['specs']} right specs refused, {total['accepted']} of "
        f"{total['changed'] - total['symmetries']} wrong ones accepted; {total['symmetries']} changed specs are "
        "symmetries all the same, as the network in double precision shows."
    )
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
