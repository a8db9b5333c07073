"""The Deep-Align network: encode both networks, compare their units, and let neighbouring layers agree."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dwalign.assignment import hungarian, settled
from dwalign.deepalign.dream import dream
from dwalign.matching.latents import Latents, from_scores, harden, scores_in, soften, standardised
from dwalign.matching.objective import better_of
from dwalign.matching.refine import SPREAD, draws, refine_scores
from dwalign.matching.scores import feature_scores, match_products, own_scores
from dwalign.symmetry import PermutationSpec, group_roles, to_matrices

PyTree = Any
RATE = 0.3
# what a network answers, and how far the outputs of another are from an answer: class probabilities and cross-entropy,
# or values and squared distance
ANSWERS: dict[str, tuple[Callable, Callable]] = {
    "logits": (jax.nn.softmax, lambda outputs, wanted: optax.softmax_cross_entropy(outputs, wanted).mean()),
    "values": (lambda outputs: outputs, lambda outputs, wanted: jnp.mean((outputs - wanted) ** 2)),
}


class DeepAlign(nn.Module):
    """Two networks in, the scores of every pairing of their hidden units out (Navon et al. 2024).

    `Q_m[i, j] = s_m^2 <x_i, y_j>` with x, y the normalised features of the units, plus terms that are symmetric in the
    two networks. For every setting of the parameters `Q(g.v, g'.v') = g Q(v, v') g'^T` and `Q(v', v) = Q(v, v')^T`.
    Signs have scores of their own for each character, and a map is the polar factor of its scores; the laws are the
    same. Scales and linear maps are left to a gauge (`dwalign.matching.gauged`).

    Attributes:
      spec: what may be permuted, of the kinds `dwalign.assignment.MATCHED`.
      encoder: a linen module `params -> {group: [*batch, n, d]}`, applied to both networks; of groups with signs
        `[*batch, n, characters, d]`.
      updates: unrolled score updates: each adds the standardised weight-matching scores under the current soft
        alignment, with learned weights, so that one pass generalises weight matching. Groups that others are batched
        over (heads) take none: the product settles who is whose partner, and the units inside are compared between
        partners. Soft partners would break the laws.
      scale: initial s^2.
      temperature: of the soft alignments inside the updates.
      iterations: of Sinkhorn inside the updates.
      shared: groups of one role share their scale and weights; give the encoder the same.
      descent: unrolled steps of midpoint refinement behind the updates, on learned inputs: they bring the answers of
        the merged network closer to the mean answer of the two, so that no data and no labels are asked for. Where the
        permutations before them answer closer, the steps are dropped: planted permutations are found exactly.
      images: inputs in each of these steps, the same ones for every pair; all of them if not given.
      sharpen: soft orders are sharpened along these steps, in the end by this factor, where learning starts.
      function: `(params, inputs) -> outputs` of the networks that get aligned; descent needs it.
      inputs: `[m, ...]`, where the inputs of descent start, such as training images. Integers (tokens) stay.
      outputs: what the outputs mean, a key of `ANSWERS`.
      anywhere: nothing that is learned belongs to one architecture: all groups share their scale and weights, and the
        inputs of descent are no parameters.
      dreams: descent takes what the two networks make of its inputs, see `dream`; of logits alone.
    """

    spec: PermutationSpec
    encoder: nn.Module
    updates: int = 3
    scale: float = 10.0
    temperature: float = 1.0
    iterations: int = 5
    shared: bool = False
    descent: int = 0
    images: int | None = None
    sharpen: float | None = None
    function: Callable[[PyTree, jax.Array], jax.Array] | None = None
    inputs: Any = None
    outputs: str = "logits"
    anywhere: bool = False
    dreams: bool = False

    def setup(self):
        role = dict.fromkeys(self.spec.sizes, "unit") if self.anywhere else group_roles(self.spec, shared=self.shared)
        root = nn.initializers.constant(self.scale**0.5)
        roots = {r: self.param(f"scale_{r}", root, ()) for r in sorted(set(role.values()))}
        self.roots = {g: roots[r] for g, r in role.items()}
        step = nn.initializers.constant(0.5)
        self.outer = [g for g in self.spec.sizes if any(g in batch for batch in self.spec.batch.values())]
        # an empty array of weights could not be put into a checkpoint
        updated = [g for g in self.spec.sizes if self.updates and g not in self.outer]
        weights = {r: self.param(f"updates_{r}", step, (self.updates,)) for r in sorted({role[g] for g in updated})}
        self.weights = {g: weights[role[g]] for g in updated}
        if self.descent:
            if self.function is None or self.inputs is None or self.outputs not in ANSWERS:
                raise ValueError(
                    "DeepAlign: descent needs the function of the networks, inputs to start from and outputs in "
                    f"{tuple(ANSWERS)}, found function={self.function!r}, outputs={self.outputs!r} and "
                    f"{'no' if self.inputs is None else 'such'} inputs"
                )
            self.spread = self.param("spread", nn.initializers.constant(SPREAD), ())
            self.rate = self.param("rate", nn.initializers.constant(RATE), ())
            # no parameter of models that were saved without it
            sharpness = nn.initializers.constant(self.sharpen)
            self.sharpness = 1.0 if self.sharpen is None else self.param("sharpness", sharpness, ())
            start = jnp.asarray(self.inputs)
            learned = not self.anywhere and jnp.issubdtype(start.dtype, jnp.floating)
            self.respond = self.function
            self.start = self.param("inputs", lambda _: start) if learned else start

    def __call__(self, a: PyTree, b: PyTree) -> dict[str, jax.Array]:
        """Scores `[*batch, n, n]` for each group, larger where unit i of a resembles unit j of b."""
        return self.align(a, self.encode(a), b, self.encode(b))[1]

    def align(self, a: PyTree, features_a, b: PyTree, features_b) -> tuple[dict[str, Any], dict[str, jax.Array]]:
        """The element of each group, and the scores of which it is the best assignment; from networks and features."""
        elements, latents = self.descend(a, b, self.update(a, features_a, b, features_b))
        return elements, scores_in(latents)

    def encode(self, params: PyTree) -> dict[str, jax.Array]:
        """Unit features `[*batch, n, d]`; encode once where a network takes part in several pairs."""
        return self.encoder(params)

    def product(self, features_a, features_b) -> Latents:
        """Latents before the updates, scores of groups that only exchange units: the comparison of features alone."""
        return from_scores(self.spec, self._product(features_a, features_b))

    def compare(self, a: PyTree, features_a, b: PyTree, features_b) -> Latents:
        """The latents, from networks and their features."""
        return self.descend(a, b, self.update(a, features_a, b, features_b))[1]

    def update(self, a: PyTree, features_a, b: PyTree, features_b) -> Latents:
        """The latents behind the updates, before descent."""
        spec, own = self.spec, own_scores(self.spec, a, b)
        start = self._product(features_a, features_b)
        partners = to_matrices(hungarian({g: start[g] for g in self.outer}))

        def step(scores, weights):
            latents = from_scores(spec, scores)
            plans = soften(spec, latents, temperature=self.temperature, iterations=self.iterations, solver="scaling")
            matched = _standardised(spec, match_products(spec, a, b, plans | partners, own=own))
            return scores | {
                g: scores[g] + (weight * matched[g]).astype(scores[g].dtype) for g, weight in weights.items()
            }, None

        return from_scores(spec, jax.lax.scan(step, start, self.weights, length=self.updates)[0])

    def _product(self, features_a, features_b) -> dict[str, jax.Array]:
        cosines = feature_scores(self.spec, features_a, features_b)
        return {g: self.roots[g] ** 2 * cosine for g, cosine in cosines.items()}

    def descend(self, a: PyTree, b: PyTree, latents: Latents) -> tuple[dict[str, Any], Latents]:
        """The elements, and the latents behind descent from `latents`; a model without descent keeps those."""
        if not self.descent:
            return harden(self.spec, latents), latents
        answer, disagreement = ANSWERS[self.outputs]
        inputs = dream(self.respond, a, b, self.start) if self.dreams else self.start
        wanted = 0.5 * (answer(self.respond(a, inputs)) + answer(self.respond(b, inputs)))
        loss = lambda params, seen: disagreement(self.respond(params, seen[0]), seen[1])
        seen = inputs, wanted
        order = None if self.images is None else draws(jax.random.key(0), len(inputs), self.images, self.descent)
        start = standardised(self.spec, latents, self.spread)
        how: dict[str, Any] = dict(steps=self.descent, learning_rate=self.rate, sharpen=self.sharpness)
        end, _ = refine_scores(self.spec, a, b, start, loss, seen, order, **how)
        # both are one call to the host
        both = jax.vmap(lambda x: harden(self.spec, x), axis_size=2)(jax.tree.map(lambda *x: jnp.stack(x), start, end))
        before, after = (jax.tree.map(lambda x, k=k: x[k], both) for k in range(2))
        on_all = lambda params: loss(params, seen)
        return better_of(self.spec, a, b, (before, start), (after, end), on_all)


def _standardised(spec: PermutationSpec, scores: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Scores of standard deviation 1; those of signs and maps are not centred, which would depend on the basis."""

    def one(group, q):
        kind, total = spec.kinds[group], settled(spec, group, q)
        apart = total if kind == "orthogonal" else total - jnp.mean(total, (-1, -2), keepdims=True)
        factor = jax.lax.rsqrt(jnp.mean(apart**2, (-1, -2), keepdims=True) + 1e-12)
        # the same one for all characters of signs
        return apart * factor if kind == "permutation" else q * jnp.broadcast_to(factor, (*q.shape[:-2], 1, 1))

    return {g: one(g, q) for g, q in scores.items()}
