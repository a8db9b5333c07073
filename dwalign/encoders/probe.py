"""The probe encoder: what units answer to learned inputs that are pushed through the network itself.

Proposition 4 of the Deep-Align paper says that Deep-Align can simulate activation matching; here that is where the
encoder starts: inner products of the features of two networks are activation matching's scores on the probes.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dwalign.encoders.graph import States, make_parts, message_rounds, named, read_blocks
from dwalign.encoders.parity import EVEN, by_character, by_parity, flipping, own_axes, parities
from dwalign.encoders.registry import EncoderShape, encoder
from dwalign.program import Network
from dwalign.symmetry import PermutationSpec, SpecError

EPS = 1e-8
# starting weights: pre-activations tell units apart that are silent on all probes, but more of them matches worse
KINDS = {"pre": 0.3, "post": 1.0, "sensitivity": 1.0}


class ProbeEncoder(nn.Module):
    """A G-equivariant encoder: the responses of every unit to m inputs, and a learned correction of them.

    Responses are pre-activations ("pre"), activations ("post") and the gradients of a read-out of the outputs with
    respect to the pre-activations ("sensitivity"). Rounds of messages over the weights, as in the graph encoder, add a
    correction that starts at zero: an untrained aligner matches responses.

    With `kinds=("post",), rounds=0, learned=False` inner products of features are the scores of activation matching
    on `inputs`: inner products with `centred=False`, correlations with `centred=True`.

    Where more than the order of units is free, responses are odd features, as those of the graph encoder: flips of all
    units show which signs flip which of them.

    Attributes:
      spec: what may be permuted.
      capture: `(params, inputs, readout=None) -> (outputs, Units)`, as `make_capture` makes it: for each group
        pre-activations, activations and sensitivities `[m, ..., *batch, n]`. Examples must not influence each other.
      inputs: `[m, ...]`, where the probes start, such as training images.
      features: width of the learned states of the rounds. The result is `[*batch, n, d]` with d the number of
        responses: kinds times probes (times positions, where a unit answers at several).
      rounds: of messages; with none there is no correction.
      learned: whether probes, read-out and the weights of the kinds are parameters; probes of integers (tokens) stay.
      weighed: the weights of the kinds are parameters whatever else is.
      kinds: of responses that are used, a part of ("pre", "post", "sensitivity").
      centred: subtract the mean over the probes and scale to norm 1, each unit and kind by itself.
      limit: of the responses of each kind; where feature maps give more, these are spaced evenly over probes and
        positions.
      shared: parts of one role share their parameters, as in the graph encoder.

    Raises:
      SpecError: capture gives no units `[m, ..., *batch, n]` for a group.
    """

    spec: PermutationSpec
    capture: Callable
    inputs: Any
    features: int = 64
    rounds: int = 2
    learned: bool = True
    weighed: bool = False
    kinds: tuple[str, ...] = tuple(KINDS)
    centred: bool = True
    limit: int | None = 512
    shared: bool = False

    @nn.compact
    def __call__(self, params):
        if not self.kinds or set(self.kinds) - set(KINDS):
            raise ValueError(f"probe: kinds must hold some of {tuple(KINDS)}, got {self.kinds!r}")
        responses, flips = self._responses(params)
        weights = jnp.array([KINDS[kind] for kind in self.kinds] if len(self.kinds) > 1 else [1.0])
        if self.learned or self.weighed:
            weights = self.param("weights", lambda _: weights)
        told: States = {}
        for g in self.spec.sizes:
            seen = [self._features(g, units, odd.get(g)) for units, odd in zip(responses, flips, strict=True)]
            told |= {
                (g, p): jnp.concatenate([w * one[p] for w, one in zip(weights, seen, strict=True)], -1) for p in seen[0]
            }
        of = lambda features: {g: by_character(self.spec, g, lambda p, g=g: features[g, p]) for g in self.spec.sizes}
        if not self.rounds:
            return of(told)
        blocks = read_blocks(self, params)
        # messages pass between groups only: responses tell what comes from inputs and goes to outputs
        parts = make_parts(self, blocks, self.features, outer=False)
        role = parts.groups
        start: States = {}
        for g in self.spec.sizes:
            for p in parities(self.spec, g):
                # nothing is told about a whole axis that may be rotated
                x = told.get((g, p), jnp.zeros((*self.spec.batch_shape(g), 1, 1)))
                x = parts.dense(named(f"start_{role[g]}", p), self.features, p)(x)
                axes = own_axes(self.spec, g) if p else None
                start[g, p] = parts.norm(named(f"start_norm_{role[g]}", p), axes)(x)
        hidden = message_rounds(self, self.rounds, blocks, parts, start, self.features, outer=False)
        # a correction of the responses learns from its first step; zero features beside them would have zero gradients
        correct = functools.cache(
            lambda name, width, parity: nn.Dense(
                width, kernel_init=nn.initializers.zeros, use_bias=parity == EVEN, name=name
            )
        )
        return of(
            {
                (g, p): x + correct(named(f"out_{role[g]}", p), x.shape[-1], p)(hidden[g, p])
                for (g, p), x in told.items()
            }
        )

    def _responses(self, params) -> tuple[list[dict[str, jax.Array]], list[dict[str, jax.Array]]]:
        """For each kind the units of every group, `[m, ..., *batch, n]`, and which signs flip them."""
        probes = jnp.asarray(self.inputs)
        if self.learned and jnp.issubdtype(probes.dtype, jnp.floating):
            probes = self.param("probes", lambda _: probes)
        if "sensitivity" in self.kinds:
            outputs, _ = jax.eval_shape(self.capture, params, probes)
            weights = nn.initializers.normal(1.0)
            if self.learned:
                weights = self.param("readout", weights, outputs.shape)
            else:
                weights = weights(jax.random.key(0), outputs.shape)

        def respond(params, shown=slice(None)):
            readout = lambda outputs: jnp.sum(outputs * weights[shown])
            asked = {"readout": readout} if "sensitivity" in self.kinds else {}
            units = self.capture(params, probes[shown], **asked)[1]
            return [getattr(units, kind) for kind in self.kinds]

        odd = flipping(self.spec, params, lambda params: respond(params, slice(1)))
        return respond(params), odd or [{} for _ in self.kinds]

    def _features(self, group: str, units: dict[str, jax.Array], flips: jax.Array | None) -> dict[str, jax.Array]:
        """Responses `[*batch, n, d]` by their parity, zeros where it is another one.

        They are scaled so that inner products are means over the responses.
        """
        spec = self.spec
        shape = (*spec.batch_shape(group), spec.sizes[group])
        if group not in units or units[group].shape[-len(shape) :] != shape:
            found = f"shape {units[group].shape}" if group in units else f"only {sorted(units)}"
            raise SpecError(
                f"probe: capture must give for group {group!r} units [m, ..., {str(shape)[1:-1]}], found {found}"
            )
        places = units[group].shape[: -len(shape)]
        count, chosen = math.prod(places), slice(None)
        if self.limit is not None and self.limit < count:
            # not a whole stride, which could meet one position of every feature map only
            count, chosen = self.limit, np.linspace(0, count - 1, self.limit).astype(int)
        x = jnp.moveaxis(units[group].reshape(-1, *shape)[chosen], 0, -1) / math.sqrt(count)
        row = lambda mask: jnp.broadcast_to(mask, places).ravel()[chosen].reshape((1,) * len(shape) + (-1,))
        held = {p: row(mask) for p, mask in by_parity(spec, group, flips).items()}
        if not self.centred:
            return {p: x * mask for p, mask in held.items()}
        # axes that may be rotated share one scale
        return {p: _standardised(x, mask, own_axes(spec, group)) for p, mask in held.items()}


def _standardised(x: jax.Array, held: jax.Array, over: tuple[int, ...]) -> jax.Array:
    """The columns that are held, less their mean, scaled to the same size by these axes; zeros for the others."""
    share = jnp.maximum(jnp.mean(held), 1 / held.size)
    x = held * (x - jnp.mean(x * held, -1, keepdims=True) / share)
    square = jnp.mean(x**2, over, keepdims=True) / share
    return x * jax.lax.rsqrt(held.size * square + EPS)


@encoder("probe")
def _make(network: Network, shape: EncoderShape, probes: Any) -> ProbeEncoder:
    own = shape.given(channels="features", depth="rounds")
    return ProbeEncoder(network.spec, capture=network.capture, inputs=probes, shared=shape.shared, **own)
