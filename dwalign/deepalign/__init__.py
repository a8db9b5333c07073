from dwalign.deepalign.aligner import Aligner, deep_align
from dwalign.deepalign.build import ENCODERS, AlignerConfig, describe, fit_aligner, load_aligner, make_model
from dwalign.deepalign.checkpoints import CheckpointError, Checkpoints
from dwalign.deepalign.model import DeepAlign
from dwalign.deepalign.step import (
    METRICS,
    LossWeights,
    Optimisation,
    Targets,
    TrainState,
    device_mesh,
    init_state,
    make_step,
)
from dwalign.deepalign.targets import find_targets
from dwalign.deepalign.training import Trained, train_aligner

__all__ = [
    "ENCODERS",
    "METRICS",
    "Aligner",
    "AlignerConfig",
    "CheckpointError",
    "Checkpoints",
    "DeepAlign",
    "LossWeights",
    "Optimisation",
    "Targets",
    "TrainState",
    "Trained",
    "deep_align",
    "describe",
    "device_mesh",
    "find_targets",
    "fit_aligner",
    "init_state",
    "load_aligner",
    "make_model",
    "make_step",
    "train_aligner",
]
