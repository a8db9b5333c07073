"""What networks as large as those that people have take: reading, certifying, aligning, merging.

    python experiments/bench_large.py                     a quarter of an hour on 2 CPU cores, 16 GB of memory
    python experiments/bench_large.py --networks ResNet50

A network and a copy of it with its units in a hidden order and noise on its weights, matched by weights. Each network
has a process of its own, which takes the largest memory of each stage beyond what lay there when it began, and beyond
what it returns. Weights are random: what is measured is time, memory, and that all units are found. Linux.
Writes runs/bench-large/: config.json, results.json.
"""

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro

from dwalign import report
from dwalign.bounds import Positive, Strength, settings
from dwalign.frontends import from_model
from dwalign.matching import weight_matching
from dwalign.networks import build
from dwalign.program import certify, infer_spec
from dwalign.symmetry import interpolate, inverse, permute, random_perms

PyTree = Any
STAGES = ("infer_spec", "certify", "align", "merge")
GPT2 = dict(vocabulary=50257, dim=768, depth=12, heads=12, width=3072, tied=True)
LLAMA = dict(
    vocabulary=32000, dim=2048, depth=20, heads=32, kv_heads=4, width=5632, norm="rms", gated=True, rotary=True
)


def linen(kind: str, inputs: jax.ShapeDtypeStruct, dtype: Any = np.float32, **options: Any) -> Callable[[], tuple]:
    """A network of this package; its program, shapes of weights of this type, and inputs."""

    def open_it():
        net = build(dict(kind=kind, **options))
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), net.params)
        return net.apply, shapes, inputs

    return open_it


def keras(name: str, inputs: jax.ShapeDtypeStruct) -> Callable[[], tuple]:
    """A network of Keras's applications."""

    def open_it():
        os.environ["KERAS_BACKEND"] = "jax"
        keras = importlib.import_module("keras")
        model = getattr(keras.applications, name)(weights=None, input_shape=inputs.shape[1:])
        net, _ = from_model(model, np.zeros(inputs.shape, inputs.dtype))
        return net.apply, net.params, inputs

    return open_it


pictures = lambda side: jax.ShapeDtypeStruct((2, side, side, 3), np.float32)
tokens = lambda length: jax.ShapeDtypeStruct((2, length), np.int32)
NETWORKS: dict[str, Callable[[], tuple]] = {
    "ResNet50": keras("ResNet50", pictures(64)),
    "ViT-B/16": linen(
        "vit", pictures(224), shape=[224, 224, 3], patch=16, dim=768, depth=12, heads=12, width=3072, outputs=1000
    ),
    "GPT-2 small": linen("transformer", tokens(32), length=1024, **GPT2),
    "decoder, 1 B, bf16": linen("transformer", tokens(16), jnp.bfloat16, length=64, **LLAMA),
}


@settings
class Config:
    """Measure large networks."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    """of NETWORKS."""
    noise: Strength = 0.3
    """of the copy's matrices, relative to their root mean square."""
    gigabytes: Positive = 16.0
    """a process that asks for more fails."""
    out: str = "runs"


def drawn(shapes: PyTree, seed: int) -> PyTree:
    """Random weights: matrices that keep the size of what they are given, shifts around zero, factors around one."""

    def draw(k, path, leaf):
        rng = np.random.default_rng([seed, k])
        if len(leaf.shape) > 1:
            array = rng.standard_normal(leaf.shape, np.float32)
            array *= np.float32(np.prod(leaf.shape[:-1]) ** -0.5)
        elif any(name in jax.tree_util.keystr(path) for name in ("bias", "beta", "mean")):
            array = 0.1 * rng.standard_normal(leaf.shape, np.float32)
        else:
            array = rng.uniform(0.5, 1.5, leaf.shape)
        return array.astype(leaf.dtype)

    leaves, treedef = jax.tree_util.tree_flatten_with_path(shapes)
    return treedef.unflatten([draw(k, *one) for k, one in enumerate(leaves)])


def disturbed(params: PyTree, noise: float) -> PyTree:
    """A copy with noise on all matrices."""
    leaves, treedef = jax.tree.flatten(params)

    def one(k, leaf):
        if leaf.ndim < 2:
            return leaf.copy()
        array = np.random.default_rng([7, k]).standard_normal(leaf.shape, np.float32)
        array *= np.float32(noise * np.prod(leaf.shape[:-1]) ** -0.5)
        array += leaf
        return array.astype(leaf.dtype)

    return treedef.unflatten([one(k, leaf) for k, leaf in enumerate(leaves)])


def memory(which: str) -> int:
    """Bytes of this process: VmRSS, what it has now, or VmHWM, the most since the last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return 1024 * int(line.split()[1])


def size(params: PyTree) -> int:
    """Bytes of all arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


@contextlib.contextmanager
def stage(found: dict[str, Any], name: str) -> Iterator[None]:
    """Notes seconds, and the largest memory beyond that of the beginning."""
    Path("/proc/self/clear_refs").write_text("5")
    before, begin = memory("VmRSS"), time.perf_counter()
    yield
    found[name] = {"seconds": round(time.perf_counter() - begin, 3), "bytes": memory("VmHWM") - before}
    print(f"  {name}: {found[name]['seconds']:.1f} s, {found[name]['bytes'] / 2**30:.2f} GB", flush=True)


def measure(name: str, noise: float) -> dict[str, Any]:
    """All stages of one network."""
    found: dict[str, Any] = {}
    apply, shapes, inputs = NETWORKS[name]()
    with stage(found, "infer_spec"):
        spec = infer_spec(apply, shapes, inputs)
    a = drawn(shapes, 0)
    with stage(found, "certify"):
        found["error"] = certify(spec, apply, a, inputs).error
    planted = {g: np.asarray(perm) for g, perm in random_perms(spec, jax.random.key(1)).items()}
    b = permute(spec, disturbed(a, noise), planted)
    with stage(found, "align"):
        perms = weight_matching(spec, a, b).perms
    with stage(found, "merge"):
        merged = interpolate(spec, a, permute(spec, b, perms), 0.5)
    found["merge"]["bytes"] -= size(merged)
    right = inverse(spec, planted)
    return found | {
        "checkpoint": size(a),
        "weights": sum(np.size(leaf) for leaf in jax.tree.leaves(a)),
        "groups": len(spec.sizes),
        "units found": float(np.mean(np.concatenate([np.ravel(perms[g] == right[g]) for g in spec.sizes]))),
    }


def _work(name: str, noise: float, gigabytes: float, pipe) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30),) * 2)
    pipe.send(measure(name, noise))


def in_a_process(name: str, config: Config) -> dict[str, Any] | None:
    """What `measure` finds, or None where the process ended before that."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(name, config.noise, config.gigabytes, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        print(f"  {name}: the process ended early", flush=True)
        return None
    finally:
        process.join()


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    if wrong := set(config.networks) - set(NETWORKS):
        raise ValueError(f"--networks must be of {list(NETWORKS)}, found {sorted(wrong)}")
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key != "out"}
    folder = report.open_run(Path(config.out) / "bench-large", settings)
    rows: dict[str, dict[str, Any]] = {}
    for name in config.networks:
        print(name, flush=True)
        found = in_a_process(name, config)
        if found is not None:
            rows[f"{name}, {found['weights'] / 1e6:,.0f} M"] = found
    point = lambda value: report.point([[value]])
    panels = {
        "seconds": {one: {name: point(row[one]["seconds"]) for name, row in rows.items()} for one in STAGES},
        "memory, of one checkpoint": {
            one: {name: point(row[one]["bytes"] / row["checkpoint"]) for name, row in rows.items()} for one in STAGES
        },
        "units found": {"weight matching": {name: point(row["units found"]) for name, row in rows.items()}},
    }
    results = {
        "experiment": "bench-large",
        "question": "What do reading, certifying, aligning and merging take of large networks?",
        "config": settings,
        "environment": report.environment(),
        "axis": "network, weights",
        "settings": list(rows),
        "panels": panels,
        "caption": "bench-large: the largest memory of each stage beyond what lay there when it began, and beyond what "
        "a merge returns; a checkpoint is the bytes of one network's arrays.",
        "rows": rows,
    }
    report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    return results


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    return tyro.cli(Config, args=args, description=__doc__)


if __name__ == "__main__":
    study.run(main, read_config)
