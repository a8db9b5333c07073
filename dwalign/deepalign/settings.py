"""What an aligner and its training can be told.

Nothing is loaded for it, so that a command line can show it at once.
"""

from typing import Annotated, Literal

from dwalign.bounds import Amount, Count, Positive, Strength, one_of, settings


@settings
class AlignerConfig:
    """The aligner's shape."""

    encoder: str = "probe"
    """dws, graph, probe or noise; the default is as good as any by measurement at equal training time. Only dws knows
    nothing but the order of units. With noise nothing is learned that belongs to one architecture, and one aligner fits
    every network."""
    channels: Count | None = None
    """width of the encoder; its own default if not given."""
    depth: Amount | None = None
    """rounds of messages (graph, and the correction of probe) or hidden layers (dws); likewise."""
    features: Count = 128
    """of a unit (graph, dws); the probe encoder has one for each response."""
    updates: Amount = 3
    """unrolled score updates."""
    descent: Amount = 0
    """unrolled steps of midpoint refinement on learned inputs."""
    images: Count | None = None
    """inputs in each of these steps; all probes if not given. Many steps on few inputs find more in less time."""
    sharpen: Positive | None = None
    """soft orders become so many times sharper along the steps; not at all if not given."""
    outputs: Literal["logits", "values"] = "logits"
    """of the networks, which descent compares."""
    probes: Count = 128
    """inputs that the aligner learns, for the probe encoder and for descent."""
    shared: bool = False
    """layers of one role share parameters, so that an aligner fits networks of other widths and depths."""


@settings
class LossWeights:
    """Weights of the losses; 0 switches one off."""

    supervised: Strength = 1.0
    """to the permutation of a relabelled and disturbed copy."""
    alignment: Strength = 1.0
    """distance of the weights after soft alignment."""
    mode_connectivity: Strength = 1.0
    """task loss between the networks."""
    distillation: Strength = 1.0
    """cross-entropy to solutions that an optimiser found for pairs of training networks."""


@settings
class Optimisation:
    """How the aligner is trained: AdamW with linear warm-up, cosine decay and gradient clipping."""

    steps: Count = 1000
    batch_size: Count = 16
    """pairs of networks in each step."""
    learning_rate: Positive = 1e-3
    warmup: Amount = 50
    weight_decay: Strength = 5e-4
    clip: Positive = 1.0
    images: Count = 256
    """drawn in each step for the mode-connectivity loss."""
    temperature: Positive = 1.0
    """of Sinkhorn."""
    iterations: Count = 20
    """likewise."""
    solver: Annotated[str, one_of(("ott", "scaling"))] = "scaling"
    """likewise, see `dwalign.assignment.soft_assign`."""
    midpoint: bool = True
    """take the mode-connectivity loss at the midpoint; otherwise at a random point of the path, as the paper does."""
    refine: Amount = 0
    """steps of midpoint refinement between the scores and the losses that take plans, so that the aligner learns to be
    a good start for it. First order: the gradient at the refined scores is taken for that at the scores."""
    hard: bool = False
    """the losses that take plans are those of the permutation that the plans stand for, with the gradient of the plans
    (straight-through). Otherwise an aligner can lower them by averaging units, which no permutation does; networks with
    few, wide groups leave most room for that."""
