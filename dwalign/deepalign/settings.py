"""What an aligner and its training can be told.

Nothing is loaded for it, so that a command line can show it at once.
"""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class AlignerConfig:
    """The aligner's shape."""

    encoder: str = "probe"
    """dws, graph, probe or noise; the default is as good as any by measurement at equal training time. With noise
    nothing is learned that belongs to one architecture, and one aligner fits every network."""
    channels: int | None = None
    """width of the encoder; its own default if not given."""
    depth: int | None = None
    """rounds of messages (graph, and the correction of probe) or hidden layers (dws); likewise."""
    features: int = 128
    """of a unit (graph, dws); the probe encoder has one for each response."""
    updates: int = 3
    """unrolled score updates."""
    descent: int = 0
    """unrolled steps of midpoint refinement on learned inputs."""
    outputs: Literal["logits", "values"] = "logits"
    """of the networks, which descent compares."""
    probes: int = 128
    """inputs that the aligner learns, for the probe encoder and for descent."""
    shared: bool = False
    """layers of one role share parameters, so that an aligner fits networks of other widths and depths."""


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; 0 switches one off."""

    supervised: float = 1.0
    """to the permutation of a relabelled and disturbed copy."""
    alignment: float = 1.0
    """distance of the weights after soft alignment."""
    mode_connectivity: float = 1.0
    """task loss between the networks."""
    distillation: float = 1.0
    """cross-entropy to solutions that an optimiser found for pairs of training networks."""


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """How the aligner is trained: AdamW with linear warm-up, cosine decay and gradient clipping."""

    steps: int = 1000
    batch_size: int = 16
    """pairs of networks in each step."""
    learning_rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 5e-4
    clip: float = 1.0
    images: int = 256
    """drawn in each step for the mode-connectivity loss."""
    temperature: float = 1.0
    """of Sinkhorn."""
    iterations: int = 20
    """likewise."""
    solver: str = "scaling"
    """likewise, see `dwalign.assignment.soft_assign`."""
    midpoint: bool = True
    """take the mode-connectivity loss at the midpoint; otherwise at a random point of the path, as the paper does."""
    refine: int = 0
    """steps of midpoint refinement between the scores and the losses that take plans, so that the aligner learns to be
    a good start for it. First order: the gradient at the refined scores is taken for that at the scores."""
    hard: bool = False
    """the losses that take plans are those of the permutation that the plans stand for, with the gradient of the plans
    (straight-through). Otherwise an aligner can lower them by averaging units, which no permutation does; networks with
    few, wide groups leave most room for that."""
