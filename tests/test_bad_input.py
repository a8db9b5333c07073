"""What cannot be meant is refused where it is given, in our words: what must hold, and what was found."""

import dataclasses
import functools
import importlib
import re
import sys
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dwalign
from dwalign import (
    Alignment,
    Data,
    Task,
    apply,
    deepalign,
    evaluation,
    matching,
    merging,
    networks as nets,
    symmetry,
    zoo,
)
from dwalign.assignment import hungarian, polar, sinkhorn, soft_assign
from tests import drawn

ROOT = Path(__file__).parent.parent
NET = nets.mlp(6, (5, 4), 3)
SPEC = NET.spec
A, B = (drawn.weights(NET.params, seed) for seed in (0, 1))
X, Y = drawn.normal(32, 6), np.random.default_rng(0).integers(0, 3, 32)
DATA, KEY = Data(X, Y), jax.random.key(0)
FOUND = Alignment({"h0": np.arange(5), "h1": np.arange(4)})
COPIED = {"h0": np.array([0, 1, 2, 3, 3])}
ZOO = jax.tree.map(lambda *leaves: np.stack(leaves), A, B)
OTHER = drawn.weights(nets.mlp(6, (5, 3), 3).params)
MEANS = {"w": drawn.normal(6, 5), "mean": drawn.normal(5), "v": drawn.normal(5, 3)}
MEANT = dwalign.network(
    lambda p, x: jax.nn.relu(x @ p["w"] - p["mean"][None]) @ p["v"],
    MEANS,
    X[:2],
    train=lambda p, x: (x, {**p, "mean": (x @ p["w"]).mean(0)}),
    statistics=lambda path: "mean" in path,
)
AMONG_NODES = dwalign.network(lambda p, x: NET.apply(p, x / x.std(0, keepdims=True)), A, X)
WIDE = {"w": drawn.normal(6, 3)}
MAPS = symmetry.PermutationSpec({"q": symmetry.Axes("h"), "k": symmetry.Axes("h^-1")}, {"h": 2}, kinds={"h": "linear"})
BROKEN = {"q": np.float32([1, np.nan]), "k": np.ones(2, np.float32)}
IMAGES = zoo.Dataset("drawn", DATA, DATA, DATA, 3)


def changed(params, layer, name, array):
    """The network with another array in one place."""
    inside = params["params"]
    return {"params": {**inside, layer: {**inside[layer], name: array}}}


def of(params, wrong):
    return changed(params, "dense_0", "bias", np.full(5, wrong, np.float32))


LESS = {"params": {name: layer for name, layer in A["params"].items() if name != "dense_1"}}
WORDS = changed(A, "dense_0", "bias", "bias")
WHOLE = r"must be a whole number of at least"

OPTIONS = {
    # methods
    "restarts": (lambda: matching.weight_matching.using(restarts=0), rf"restarts {WHOLE} 1; got 0"),
    "restarts, half": (lambda: matching.weight_matching.using(restarts=1.5), rf"restarts {WHOLE} 1; got 1.5"),
    "restarts, true": (lambda: matching.weight_matching.using(restarts=True), rf"restarts {WHOLE} 1; got True"),
    "sweeps": (lambda: matching.weight_matching.using(sweeps=-1), rf"sweeps {WHOLE} 1; got -1"),
    "steps": (lambda: matching.refine.using(steps=-1), rf"refine: steps {WHOLE} 0; got -1"),
    "steps in words": (lambda: matching.refine.using(steps="ten"), rf"steps {WHOLE} 0; got 'ten'"),
    "examples": (lambda: matching.refine.using(examples=0), rf"examples {WHOLE} 1 or None; got 0"),
    "momentum": (lambda: matching.refine.using(momentum=np.nan), "momentum must be a finite number; got nan"),
    "spread": (lambda: matching.refine.using(spread=[1.0]), r"spread must be a finite number; got \[1.0\]"),
    "rate": (lambda: matching.straight_through.using(learning_rate=np.inf), "learning_rate must be a fin.*got inf"),
    "images": (lambda: matching.straight_through.using(images=0), rf"images {WHOLE} 1; got 0"),
    "temperature": (lambda: matching.sinkhorn_rebasin.using(temperature=0.0), "temperature .*positive number; got 0.0"),
    "projections": (lambda: matching.sinkhorn_rebasin.using(sinkhorn_iterations=0), rf"iterations {WHOLE} 1; got 0"),
    "channels": (lambda: matching.feature_matching.using(channels=0), rf"channels {WHOLE} 1; got 0"),
    "rounds": (lambda: matching.feature_matching.using(rounds=-2), rf"rounds {WHOLE} 1; got -2"),
    "chunk": (lambda: matching.activation_matching.using(chunk=0), rf"chunk {WHOLE} 1; got 0"),
    "aligner": (lambda: deepalign.deep_align.using(aligner=3), r"aligner must be an Aligner; .*folder.*got 3"),
    # zoos
    "epochs": (lambda: zoo.Recipe(epochs=0), rf"Recipe: epochs {WHOLE} 1; got 0"),
    "batch": (lambda: zoo.Recipe(batch_size=-64), rf"batch_size {WHOLE} 1; got -64"),
    "no rate": (lambda: zoo.Recipe(learning_rate=0.0), "learning_rate must be a finite positive number; got 0.0"),
    "a rate of NaN": (lambda: zoo.Recipe(learning_rate=float("nan")), "learning_rate must be .*; got nan"),
    "decay": (lambda: zoo.Recipe(weight_decay=-1.0), "weight_decay must be a finite number of at least 0; got -1.0"),
    "warm-up": (lambda: zoo.Recipe(warm_up=1.5), "warm_up must be a share from 0 to 1 or None; got 1.5"),
    "noise": (lambda: zoo.Augmentation(noise=-0.1), "noise must be a finite number of at least 0; got -0.1"),
    "zeroing": (lambda: zoo.Augmentation(zeroing=2.0), "zeroing must be a share from 0 to 1; got 2.0"),
    "quantile": (lambda: zoo.Augmentation(quantile=-0.5), "quantile must be a share from 0 to 1; got -0.5"),
    "scaling": (lambda: zoo.Augmentation(scaling=np.inf), "scaling must be a finite number .*; got inf"),
    "pairs of one": (lambda: zoo.random_pairs(KEY, 1, 4), rf"random_pairs: networks {WHOLE} 2; got 1"),
    "no pairs": (lambda: zoo.random_pairs(KEY, 9, 0), rf"random_pairs: count {WHOLE} 1; got 0"),
    "pairs of one view": (lambda: zoo.random_pairs(KEY, 9, 2, views=1), rf"views {WHOLE} 2 or None; got 1"),
    "held-out pairs": (lambda: zoo.held_out_pairs(-2), rf"held_out_pairs: networks {WHOLE} 0; got -2"),
    "a zoo in chunks": (lambda: made(chunk=0), rf"get_zoo: chunk {WHOLE} 1; got 0"),
    "a seed below zero": (lambda: made(seed=-1), rf"get_zoo: seed {WHOLE} 0; got -1"),
    "one view": (lambda: made(views=1), rf"get_zoo: views {WHOLE} 2 or None; got 1"),
    "a recipe of words": (lambda: made(recipe="quick"), "get_zoo: recipe must be a Recipe; got 'quick'"),
    "no networks": (lambda: made(size=zoo.ZooSize(0, 0, 0)), "size must be .*at least one network.*found"),
    "fewer than none": (lambda: made(size=zoo.ZooSize(-2, 3, 1)), "size must be .*found"),
    "a data set": (lambda: zoo.load("mnits"), "data set: must be one of .*got 'mnits'"),
    "no data set": (lambda: zoo.load(None), "data set: must be one of .*got None"),
    "text": (lambda: zoo.load_topics(0), "length must be from 1 to .*got 0"),
    # aligners
    "width": (lambda: deepalign.AlignerConfig(channels=0), rf"channels {WHOLE} 1 or None; got 0"),
    "depth": (lambda: deepalign.AlignerConfig(depth=-1), rf"depth {WHOLE} 0 or None; got -1"),
    "features": (lambda: deepalign.AlignerConfig(features=0), rf"features {WHOLE} 1; got 0"),
    "updates": (lambda: deepalign.AlignerConfig(updates=-1), rf"updates {WHOLE} 0; got -1"),
    "descent": (lambda: deepalign.AlignerConfig(descent=0.5), rf"descent {WHOLE} 0; got 0.5"),
    "probes": (lambda: deepalign.AlignerConfig(probes=0), rf"probes {WHOLE} 1; got 0"),
    "outputs": (
        lambda: deepalign.AlignerConfig(outputs="words"),
        r"outputs must be one of \['logits', 'values'\]; got",
    ),
    "shared": (lambda: deepalign.AlignerConfig(shared="no"), "shared must be True or False; got 'no'"),
    "an encoder": (lambda: model(encoder="magic"), "encoder: must be one of .*'probe'.*got 'magic'"),
    "a loss": (lambda: deepalign.LossWeights(supervised=-1.0), "supervised must be a finite number of at least 0"),
    "a training": (lambda: deepalign.Optimisation(steps=0), rf"Optimisation: steps {WHOLE} 1; got 0"),
    "pairs a step": (lambda: deepalign.Optimisation(batch_size=0), rf"batch_size {WHOLE} 1; got 0"),
    "clip": (lambda: deepalign.Optimisation(clip=0.0), "clip must be a finite positive number; got 0.0"),
    "warm up": (lambda: deepalign.Optimisation(warmup=-1), rf"warmup {WHOLE} 0; got -1"),
    "Sinkhorn": (lambda: deepalign.Optimisation(temperature=-1.0), "temperature must be a finite positive number"),
    "solver": (lambda: deepalign.Optimisation(solver="magic"), r"solver must be one of \['ott', 'scaling'\]; got 'mag"),
    "hard": (lambda: deepalign.Optimisation(hard=3), "hard must be True or False; got 3"),
    "replaced": (lambda: dataclasses.replace(zoo.Recipe(), epochs=-1), rf"epochs {WHOLE} 1; got -1"),
    "targets": (lambda: deepalign.find_targets(NET, matching.naive, ZOO, KEY, pairs=0), rf"pairs {WHOLE} 1; got 0"),
}
NETWORKS = {
    "no units": (lambda: nets.mlp(6, (0,), 3), r"mlp: widths must be .*at least 1; got \(0,\)"),
    "fewer than none": (lambda: nets.mlp(6, (5, -1), 3), r"widths must be .*got \(5, -1\)"),
    "half a unit": (lambda: nets.mlp(6, (5, 0.5), 3), r"widths must be .*got \(5, 0.5\)"),
    "a width": (lambda: nets.mlp(6, 5, 3), "widths must be the widths of .*got 5"),
    "no layers": (lambda: nets.mlp(6, [], 3), r"at least one hidden layer, .*got \[\]"),
    "no outputs": (lambda: nets.mlp(6, (5,), 0), rf"outputs {WHOLE} 1; got 0"),
    "no inputs": (lambda: nets.mlp(0, (5,), 3), rf"inputs {WHOLE} 1; got 0"),
    "named": (lambda: nets.mlp(inputs=-3, widths=(5,), outputs=3), rf"inputs {WHOLE} 1; got -3"),
    "siren": (lambda: nets.siren(omega=0.0), "siren: omega must be a finite positive number; got 0.0"),
    "gnn": (lambda: nets.gnn(nodes=0), rf"gnn: nodes {WHOLE} 1; got 0"),
    "cell": (lambda: nets.recurrent(cell="rnn"), r"cell must be one of \[.*'gru'.*\]; got 'rnn'"),
    "time": (lambda: nets.recurrent(time=0), rf"time {WHOLE} 1; got 0"),
    "flat": (lambda: nets.cnn((32, 32)), r"cnn: shape must be the height, width and channels .*got \(32, 32\)"),
    "small": (lambda: nets.cnn((3, 3, 1), (4, 4)), r"at least 4 pixels a side, got shape \(3, 3, 1\)"),
    "filters": (lambda: nets.cnn(channels=(8, 0)), r"channels must be .*at least 1; got \(8, 0\)"),
    "dense": (lambda: nets.cnn(widths=(0,)), r"widths must be .*; got \(0,\)"),
    "stages": (lambda: nets.vgg(stages=((8,), (0,))), "stages must be .*at least 1; got"),
    "norm": (lambda: nets.vgg(norm="bach"), r"norm must be one of .*'batch'.* or None; got 'bach'"),
    "stem": (lambda: nets.densenet(stem=0), rf"stem {WHOLE} 1; got 0"),
    "patch": (lambda: nets.mixer((8, 8, 3), patch=3), "patch must divide .*patch 3"),
    "no patch": (lambda: nets.mixer(patch=0), rf"patch {WHOLE} 1; got 0"),
    "heads": (lambda: nets.vit(dim=10, heads=4), "heads must divide dim.*dim 10, heads 4"),
    "no heads": (lambda: nets.vit(heads=0), rf"heads {WHOLE} 1; got 0"),
    "depth": (lambda: nets.transformer(depth=0), rf"depth {WHOLE} 1; got 0"),
    "vocabulary": (lambda: nets.transformer(vocabulary=-1), rf"vocabulary {WHOLE} 1; got -1"),
    "gates": (lambda: nets.transformer(gated="yes"), "gated must be True or False; got 'yes'"),
    "groups": (lambda: nets.resnet(norm="group", groups=5), "groups must divide width.*5"),
    "blocks": (lambda: nets.resnet(blocks=(0,)), r"blocks must be .*; got \(0,\)"),
    "layers": (lambda: nets.resnet20(depth=21), r"depth must be 6 n \+ 2.*got 21"),
    "U-Net": (lambda: nets.unet(channels=()), r"channels must be .*got \(\)"),
    "kind": (lambda: nets.build({"kind": "nope"}), "kind must be one of .*'mlp'.*got 'nope'"),
    "options of a kind": (lambda: nets.build({"kind": "mlp", "widths": [4]}), "mlp.* missing .*'inputs'"),
    "other options": (lambda: nets.build({"kind": "mlp", "wide": 4}), "mlp.*'wide'"),
    "a config": (lambda: nets.build("mlp"), "network: config must be .*got str"),
    "a program": (lambda: dwalign.network(3, A, X), "apply must be a function, not a int"),
    "params first": (lambda: dwalign.network(A, NET.apply, X), "apply must be a function, not a dict"),
    "no example": (lambda: dwalign.network(NET.apply, A), "network: inputs must be .*got none"),
    "a network": (lambda: dwalign.network(NET, A, X), "apply must be a function, not a Network"),
    "nodes for examples": (lambda: apply.align(AMONG_NODES, A, B), r"axis before theirs \(jax\.vmap\)"),
    "kinds": (lambda: dwalign.network(NET.apply, A, X, kinds="some"), "kinds must be .*found 'some'"),
}
WEIGHTS = {
    "NaN": (lambda: apply.align(SPEC, of(A, np.nan), B), r"align: all weights must be finite, but a\[.*bias.* 5 NaN"),
    "infinite": (lambda: apply.align(SPEC, A, of(B, np.inf)), r"all weights must be finite, but b\[.*holds 5 NaN or"),
    "merged": (lambda: apply.merge(SPEC, A, of(B, -np.inf)), r"weights must be finite, but b\["),
    "of many": (lambda: merging.merge_many(SPEC, [A, B, of(A, np.nan)]), r"finite, but networks\[2\]"),
    "of a method": (lambda: matching.naive(SPEC, A, of(B, np.nan)), r"naive: all weights must be finite, but b\["),
    "maps in a gauge": (lambda: symmetry.gauge(MAPS, BROKEN), r"gauge: all weights .*params\['q'\] holds 1 NaN"),
    "matched maps": (lambda: matching.naive(MAPS, BROKEN, BROKEN), r"naive: all weights .*a\['q'\] holds 1 NaN"),
    "in a zoo": (lambda: distances(of(B, np.nan)), r"aligned_distances: all weights must .*networks\[.*5 NaN"),
    "in pairs": (lambda: compared(b=stacked(A, of(B, np.nan)), chunk=1), r"benchmark: all weights must .*but b\["),
    "in pairs to judge": (
        lambda: evaluation.mean_barrier(NET, stacked(A), stacked(of(B, np.nan)), DATA),
        r"mean_barrier: all weights must .*but b\[",
    ),
    "a missing layer": (lambda: apply.align(SPEC, LESS, B), r"dense_1"),
    "a layer too many": (lambda: apply.distance(SPEC, {**A, "more": X}, B), r"more"),
    "other widths": (lambda: apply.align(SPEC, A, OTHER), r"dense_1.*"),
    "words": (lambda: apply.align(SPEC, WORDS, B), r"bias.* 1 dimensions .*found shape \(\)"),
    "words, moved": (lambda: apply.permute(SPEC, WORDS, {}), r"bias.* 1 dimensions .*found shape \(\)"),
    "nothing": (lambda: apply.align(SPEC, None, B), "a must have the structure of the spec: missing"),
    "a list": (lambda: apply.distance(SPEC, [A], B), "a must have the structure of the spec: missing"),
    "the spec last": (lambda: apply.align(A, B, SPEC), r"the first argument must be a Network or a PermutationSpec"),
    "no spec": (lambda: apply.permute(A, B, {}), r"permute: spec must be a PermutationSpec, got dict; the order is"),
    "a network for a spec": (lambda: apply.permute(NET, A, {}), r"pass the \.spec of this Network"),
    "of a distance": (lambda: apply.distance(NET, A, B), r"pass the \.spec of this Network"),
    "the identity of": (lambda: apply.identity(NET), r"identity: spec must be .*pass the \.spec"),
    "at random": (lambda: apply.random_perms(NET, KEY), r"random_perms: spec must be .*pass the \.spec"),
    "inverse": (lambda: apply.inverse(NET, {}), r"inverse: spec must be .*pass the \.spec"),
    "composed": (lambda: apply.compose(NET, {}, {}), r"compose: spec must be .*pass the \.spec"),
    "canonical": (lambda: apply.canonical(NET, A), r"spec must be .*pass the \.spec"),
    "averaged": (lambda: symmetry.mean(SPEC, [A, LESS]), "dense_1"),
    "averaged with a network of other widths": (lambda: symmetry.mean(SPEC, [A, OTHER]), "dense_1"),
    "averaged, alone": (lambda: symmetry.mean(SPEC, []), "mean: .*networks"),
    "halfway": (lambda: symmetry.interpolate(SPEC, A, OTHER), "dense_1"),
    "straight distance": (lambda: symmetry.distance(SPEC, A, LESS), "dense_1"),
    "disturbed": (lambda: symmetry.perturb(SPEC, LESS, KEY, 0.1), "dense_1"),
    "disturbed by less than nothing": (lambda: symmetry.perturb(SPEC, A, KEY, -0.1), "noise must be .*got -0.1"),
    "many networks": (lambda: merging.merge_many(SPEC, A), "networks must be a list .*two networks, got dict"),
    "one network": (lambda: merging.merge_many(SPEC, [A]), "at least two networks, got list of 1"),
    "another way": (lambda: merging.merge_many(SPEC, [A, B], how="mean"), "how must be one of .*got 'mean'"),
    "other networks": (lambda: merging.merge_many(SPEC, [A, OTHER]), "dense_1"),
    "too few shares": (lambda: merging.merge_many(SPEC, [A, B], weights=[1.0]), "weight for every network, found 1"),
    "shares of nothing": (lambda: merging.merge_many(SPEC, [A, B], weights=[0, 0]), "sum that they can be sh.*found 0"),
    "shares of NaN": (lambda: merging.merge_many(SPEC, [A, B], weights=[np.nan, 1]), "sum .*found nan"),
    "wide and narrow": (lambda: merging.embed(nets.mlp(6, (5, 3), 3), NET, A), "wider|must"),
    "no weight": (lambda: apply.interpolate(SPEC, A, B, None), "weight must be a .*found None"),
    "a weight of NaN": (lambda: apply.interpolate(SPEC, A, B, np.nan), "weight must be a .*finite.*found nan"),
    "a weight in words": (lambda: apply.interpolate(SPEC, A, B, "half"), "weight must be .*found 'half'"),
    "many weights": (lambda: apply.interpolate(SPEC, A, B, np.ones(2)), r"weight must be a scalar, found shape \(2,\)"),
    "a layer that is none": (
        lambda: apply.merge(SPEC, A, B, keep=["dense_9/*"]),
        "'dense_9/.*' must be a group or fit",
    ),
    "a weight without its layer": (lambda: apply.interpolate(SPEC, A, B, {"h7": 0.5}), "'h7' must be a group or fit"),
    "no scalar in a layer": (lambda: apply.interpolate(SPEC, A, B, {"h0": [1, 2]}), r"must be a scalar, found shape"),
    "kept as a word": (lambda: apply.merge(SPEC, A, B, keep="h0"), "keep must be a list of names; got 'h0'"),
}
PERMS = {
    "copied": (lambda: apply.permute(SPEC, B, COPIED), r"\['h0'\] must be a permutation, each of 0 to 4 once"),
    "too short": (lambda: apply.permute(SPEC, B, {"h0": np.arange(4)}), r"must have shape \(5,\).*found .*\(4,\)"),
    "too far": (lambda: apply.permute(SPEC, B, {"h0": np.arange(5) + 1}), "each of 0 to 4 once"),
    "from behind": (lambda: apply.permute(SPEC, B, {"h0": -np.arange(5)}), "each of 0 to 4 once"),
    "of floats": (lambda: apply.permute(SPEC, B, {"h0": np.arange(5.0)}), r"must have shape \(5,\) \(integers\)"),
    "of another group": (lambda: apply.permute(SPEC, B, {"h7": np.arange(5)}), r"names groups \['h7'\], the spec has"),
    "a matrix of another size": (lambda: apply.permute(SPEC, B, {"h0": np.eye(4)}), r"\(5, 5\) \(floats\)"),
    "words": (lambda: apply.permute(SPEC, B, {"h0": list("abcde")}), r"\['h0'\] must .*found"),
    "no array": (lambda: apply.permute(SPEC, B, {"h0": None}), r"\['h0'\] must .*found"),
    "a list": (lambda: apply.permute(SPEC, B, [np.arange(5)]), "perms must map groups to indices, got list"),
    "none": (lambda: apply.permute(SPEC, B, None), "perms must map groups to indices, got NoneType"),
    "an alignment": (lambda: apply.permute(SPEC, B, FOUND), r"got an Alignment; pass its \.perms"),
    "a name": (lambda: apply.distance(SPEC, A, B, perms="h0"), "perms must map groups to indices, got str"),
    "averaged by": (lambda: merging.average(SPEC, A, B, COPIED), "must be a permutation"),
    "averaged by an alignment": (lambda: merging.average(SPEC, A, B, FOUND), r"pass its \.perms"),
    "interpolated by": (lambda: apply.interpolate(SPEC, A, B, 0.5, perms=COPIED), "must be a permutation"),
    "the inverse of a soft one": (
        lambda: apply.inverse(SPEC, {"h0": np.full((5, 5), 0.2)}),
        "soft alignments have none",
    ),
    "the inverse of a copy": (lambda: apply.inverse(SPEC, COPIED), "must be a permutation"),
    "unlike groups": (lambda: apply.compose(SPEC, FOUND.perms, {"h0": np.arange(5)}), "must name the same groups"),
    "an outer copy": (lambda: apply.compose(SPEC, COPIED, COPIED), "outer.* must be a permutation"),
    "a key": (lambda: apply.random_perms(SPEC, 0), "key must be a random key.*got int"),
    "an old key": (lambda: apply.align(SPEC, A, B, key=jnp.ones(3)), "key must be a random key.*got"),
    "no key": (lambda: apply.random_perms(SPEC, None), "key must be a random key.*got NoneType"),
    "a disturbing key": (lambda: symmetry.perturb(SPEC, A, 0, 0.1), "key must be a random key.*got int"),
    "a planted key": (lambda: planted(key=3), "key must be a random key.*got int"),
    "a start": (
        lambda: matching.weight_matching(SPEC, A, B, start=FOUND.perms),
        "start must be an Alignment.*got dict",
    ),
    "scores that are NaN": (lambda: hungarian(np.full((2, 2), np.nan)), "scores must be finite, found 4 NaN"),
    "scores of maps": (lambda: polar(np.full((2, 2), np.nan)), "polar: scores must be finite, found 4 NaN"),
    "infinite scores": (lambda: hungarian(jnp.full((2, 2), jnp.inf)), "scores must be finite, found 4 NaN or inf"),
    "oblong scores": (lambda: hungarian(np.ones((2, 3))), r"must be square matrices .*found shape \(2, 3\)"),
    "a row of scores": (lambda: hungarian(np.ones(3)), r"must be square matrices .*found shape \(3,\)"),
    "words for scores": (lambda: hungarian({"h": "scores"}), "scores must be .*found .*"),
    "oblong plans": (lambda: sinkhorn(jnp.ones((2, 3))), r"must be square matrices .*found shape \(2, 3\)"),
    "a cold plan": (lambda: sinkhorn(jnp.eye(3), temperature=0.0), "temperature must be a finite positive.*got 0.0"),
    "plans of no steps": (lambda: sinkhorn(jnp.eye(3), iterations=0), rf"iterations {WHOLE} 1; got 0"),
    "a solver": (lambda: sinkhorn(jnp.eye(3), solver="magic"), r"solver must be one of .*got 'magic'"),
    "plans of a row": (lambda: soft_assign({"h": jnp.ones(3)}), r"must be square matrices .*found shape \(3,\)"),
}
INPUTS = {
    "labels beyond": (lambda: refined(labels=Y + 1), "labels must be classes of the outputs, 0 to 2, found 1 to 3"),
    "labels below": (lambda: refined(labels=Y - 1), "0 to 2, found -1 to 1"),
    "labels of reals": (lambda: refined(labels=Y.astype(float)), r"needs integer labels .*found float"),
    "labels in a row": (lambda: refined(labels=Y[:, None]), r"integer labels of shape \(32,\).*found .*\(32, 1\)"),
    "fewer labels": (lambda: refined(labels=Y[:-1]), r"equally many examples.*inputs \(32, 6\), labels \(31,\)"),
    "no labels": (lambda: refined(labels=None), "needs labels"),
    "NaN": (lambda: refined(np.full_like(X, np.nan)), "inputs holds 192 NaN"),
    "other inputs": (lambda: refined(X[:, :5]), r"inputs .*must be .*found.* \(32, 5\)"),
    "other inputs of a matching": (
        lambda: apply.align(NET, A, B, "activation_matching", data=Data(X[:, :5])),
        r"inputs .*must be .*found.* \(32, 5\)",
    ),
    "one number of examples": (
        lambda: apply.align(dwalign.network(lambda p, x: (x @ p["w"]).reshape(32, 3), WIDE, X), WIDE, WIDE),
        r"align: inputs .*must be .*found, \(1, 6\), it raised TypeError",
    ),
    "a curve of other inputs": (lambda: curved(Data(X[:, :5], Y)), r"inputs .*must be .*found.* \(32, 5\)"),
    "a curve of two points": (lambda: curved(DATA, points=2), "curve: points must be .*at least 3.*got 2"),
    "a curve of an even number": (lambda: curved(DATA, points=10), "points must be .*odd.*got 10"),
    "a curve of words": (lambda: curved(DATA, points="many"), "points must be .*got 'many'"),
    "a curve of labels beyond": (lambda: curved(Data(X, Y + 1)), "curve: labels must be classes"),
    "a curve of a spec": (lambda: evaluation.curve(SPEC, A, B, DATA), "curve: needs the network, not only its spec"),
    "a curve to other widths": (lambda: evaluation.curve(NET, A, OTHER, DATA), "dense_1"),
    "an assessment": (lambda: evaluation.assess(NET, A, DATA, chunk=-1), rf"assess: chunk {WHOLE} 1; got -1"),
    "no data to assess": (lambda: evaluation.assess(NET, A, None), "assess: needs data"),
    "less to assess": (lambda: evaluation.assess(NET, LESS, DATA), "dense_1"),
    "a loss": (lambda: evaluation.assess(NET, A, DATA, task=Task("mse")), r"Task\(loss, hits\) of two functions"),
    "pairs in chunks": (lambda: compared(chunk=3), "chunk must divide the number of pairs, got 3 and 2 pairs"),
    "pairs in no chunks": (lambda: compared(chunk=0), rf"benchmark: chunk {WHOLE} 1; got 0"),
    "a method of another name": (lambda: compared(methods=["naiv"], chunk=2), "did you mean 'naive'"),
    "a number for a method": (lambda: compared(methods=[3], chunk=2), "must be a method or its name.*got int"),
    "a number for a method, planted": (lambda: planted(method=3), "must be a method or its name.*got int"),
    "planted noise": (lambda: planted(noise=-1.0), "noise must be a finite number of at least 0; got -1.0"),
    "a level": (lambda: evaluation.interval([1.0, 2.0], level=1.0), "level must be .*between 0 and 1.*; got 1.0"),
    "resamples": (lambda: evaluation.interval([1.0, 2.0], resamples=0), rf"resamples {WHOLE} 1; got 0"),
    "values": (lambda: evaluation.interval([1.0, np.nan]), "values must be finite, found 1"),
    "no values": (lambda: evaluation.interval([]), "values must be .*not empty, found"),
    "a class of its own": (
        lambda: evaluation.retrieval_precision(np.zeros((3, 3)), np.arange(3)),
        "at least two networks must share a label",
    ),
    "labels of distances": (
        lambda: evaluation.retrieval_precision(np.zeros((3, 3)), np.zeros(2)),
        r"labels .*must .*found .*\(2,\)",
    ),
    "renewed on data": (lambda: renewed(DATA), r"reset_statistics: inputs must be .*found Data; pass its \.inputs"),
    "renewed by a function": (lambda: renewed(len), "reset_statistics: inputs must be arrays .*found a function"),
    "renewed on other inputs": (lambda: renewed(X[:, :5]), r"reset_statistics: inputs .*must be .*found, \(32, 5\)"),
    "renewed on nothing": (lambda: renewed(X[:0]), r"reset_statistics: inputs must hold .*at least one.*\(0, 6\)"),
    "renewed on NaN": (lambda: renewed(X * np.nan), "reset_statistics: data must be numbers.*192 NaN"),
    "renewed without a network": (lambda: merging.reset_statistics(SPEC, A, X), "needs the network, not only its spec"),
    "merged, renewed on inputs": (
        lambda: merging.average(MEANT, MEANS, MEANS, {}, renew=X),
        r"renew must be a function of params, found ndarray; inputs go into data=Data\(inputs\)",
    ),
    "a curve renewed by a function": (
        lambda: evaluation.curve(MEANT, MEANS, MEANS, DATA, renew=len),
        "curve: renew: inputs must be arrays .*found a function; pass training inputs",
    ),
    "foretold on data": (
        lambda: evaluation.forecast(NET, A, B, inputs=DATA),
        r"forecast: inputs .*found Data; pass its",
    ),
    "foretold on other inputs": (
        lambda: evaluation.forecast(NET, A, B, inputs=X[:, :5]),
        r"forecast: inputs .*must be .*found, \(32, 5\)",
    ),
    "an aligner that looks at data": (
        lambda: dwalign.load_aligner("any", network=NET, inputs=DATA),
        r"load_aligner: inputs .*found Data; pass its \.inputs",
    ),
    "a loss of other labels": (
        lambda: evaluation.assess(NET, A, DATA, task=Task(lambda y, x: (y - x).mean(), lambda y, x: x)),
        r"loss\(outputs, labels\) must take .*\(32, 3\) and \(32,\), but raised (Value|Type)Error",
    ),
    "certified with a network": (
        lambda: dwalign.certify(NET, NET.apply, A, X),
        r"certify: spec must be .*pass the \.spec of this Network",
    ),
    "repaired by one": (
        lambda: merging.repair(NET, A, A, DATA),
        "networks must be a list of .*found dict of 1",
    ),
    "repaired on other inputs": (
        lambda: merging.repair(NET, A, [A, B], Data(X[:, :5])),
        r"repair: inputs .*must be .*found, \(32, 5\)",
    ),
    "a zoo opened for a network": (
        lambda: zoo.open_networks("nowhere", NET),
        r"open_networks: like must be a tree of arrays, such as network\.params, found Network",
    ),
    "a zoo of one seed": (
        lambda: zoo.train_networks(NET, DATA, zoo.Recipe(batch_size=8))(3),
        r"train_networks: seeds must be \[n\], found shapes \[\(\)\]",
    ),
    "words for labels": (
        lambda: refined(labels=np.array(["a"] * 32)),
        "labels must be an array of numbers, found <U1; convert it",
    ),
    "repaired in chunks": (lambda: merging.repair(NET, A, [A, B], DATA, chunk=0), rf"repair: chunk {WHOLE} 1; got 0"),
    "repaired on nothing": (lambda: merging.repair(NET, A, [A, B], None), "repair: needs data"),
    "repaired by nothing": (lambda: merging.repair(NET, A, [], DATA), "networks must .*at least one"),
    "repaired by unlike shares": (
        lambda: merging.repair(NET, A, [A, B], DATA, weights=[1.0]),
        "weight for every network, found 1",
    ),
    "renewed in chunks": (lambda: merging.reset_statistics(NET, A, X, chunk=0), rf"chunk {WHOLE} 1; got 0"),
    "a zoo of labels beyond": (lambda: trained(Data(X, Y + 1)), "labels must be classes of the outputs, 0 to 2"),
    "a zoo of labels below": (lambda: trained(Data(X, Y - 1)), "found -1 to 1"),
    "a zoo of reals": (lambda: trained(Data(X, Y.astype(np.float32))), "needs integer labels"),
    "a zoo of NaN": (lambda: trained(Data(np.full_like(X, np.nan), Y)), "inputs holds 192 NaN"),
    "a zoo of fewer labels": (lambda: trained(Data(X, Y[:-1])), "equally many examples"),
    "a zoo without labels": (lambda: trained(Data(X)), "needs labels"),
    "a zoo of other inputs": (lambda: trained(Data(X[:, :5], Y)), r"inputs .*must be .*found.* \(32, 5\)"),
    "a large batch": (lambda: trained(DATA, batch_size=33), "batch_size 33 must not exceed the 32"),
    "a zoo of a spec": (lambda: unborn(SPEC), "needs the network, not only its spec"),
    "a zoo of a task": (lambda: trained(DATA, task="mse"), r"task must be a Task\(loss, hits\)"),
    "a zoo of unknown parameters": (
        lambda: unborn(dwalign.network(NET.apply, A, X)),
        "how parameters are initialised is not known",
    ),
    "distances": (lambda: evaluation.aligned_distances(SPEC, ZOO, 3, key=KEY), "must be a method or its name.*got int"),
}


def made(recipe=zoo.Recipe(), size=zoo.ZooSize(1, 1, 1), **options):
    return zoo.get_zoo(NET, IMAGES, recipe, size, folder="nowhere", **options)


def model(**options):
    return deepalign.make_model(NET, deepalign.AlignerConfig(**options), X)


def renewed(inputs):
    return merging.reset_statistics(MEANT, MEANS, inputs)


def unborn(network):
    return zoo.train_networks(network, DATA, zoo.Recipe(batch_size=8))(jnp.arange(2))


def refined(inputs=X, labels=Y):
    return apply.align(NET, A, B, "refine", data=Data(inputs, labels))


def curved(data, **options):
    return evaluation.curve(NET, A, B, data, **options)


def compared(methods=(matching.naive,), b=ZOO, **options):
    return evaluation.benchmark(NET, list(methods), ZOO, b, DATA, key=KEY, **options)


def stacked(*networks):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *networks)


def distances(*networks):
    return evaluation.aligned_distances(SPEC, stacked(A, *networks), "naive")


def planted(method=matching.naive, key=KEY, **options):
    return evaluation.planted_recovery(SPEC, method, A, key=key, **options)


def trained(data, task=dwalign.CLASSIFICATION, **options):
    return zoo.train_networks(NET, data, zoo.Recipe(**{"batch_size": 8, **options}), task)


ROWS = {
    f"{part}: {name}": row
    for part, rows in dict(options=OPTIONS, networks=NETWORKS, weights=WEIGHTS, perms=PERMS, inputs=INPUTS).items()
    for name, row in rows.items()
}


def refused(call):
    """The error of a call, which must be in our words, short, and raised here."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    where = traceback.extract_tb(caught.tb)[-1].filename
    assert where.startswith(str(ROOT / "dwalign")), f"raised in {where}: {caught.value}"
    text = str(caught.value)
    assert len(text.splitlines()) <= 5, text
    return text


@pytest.mark.parametrize("name", ROWS)
def test_what_cannot_be_meant_is_refused(name):
    call, pattern = ROWS[name]
    text = refused(call)
    assert re.search(pattern, text, re.DOTALL), text


def test_the_table_is_long():
    assert len(ROWS) >= 150


SCRIPTS = [file.stem for file in sorted((ROOT / "experiments").glob("*.py")) if "class Config" in file.read_text()]


def numbers_in(hint):
    """Whether an option of this type holds numbers."""
    return any(word in str(hint) for word in ("int", "float"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_number_of_an_experiment_has_bounds(script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    config = importlib.import_module(script).Config
    options = [field for field in dataclasses.fields(config) if numbers_in(field.type) and field.name != "skip"]
    for field in options:
        several = "tuple" in str(field.type)
        for wrong in (-3, float("nan"), "three"):
            text = refused(functools.partial(config, **{field.name: (wrong,) if several else wrong}))
            assert text.startswith(f"Config: {field.name} must be "), text


def test_command_lines_pass_through_the_same_bounds(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    read = importlib.import_module("train_mlp").read_config
    for flags in ("--side -3", "--recipe.epochs 0", "--networks.chunk 0", "--training.learning-rate -1", "--points 4"):
        with pytest.raises(SystemExit) as left:
            read(flags.split())
        assert left.value.code == 2
        assert "must be" in capsys.readouterr().err
    assert sys.modules["train_mlp"].read_config([]).side == 32
