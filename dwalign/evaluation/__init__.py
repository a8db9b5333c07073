from dwalign.evaluation.assessment import Assessment, assess
from dwalign.evaluation.benchmark import Measured, benchmark
from dwalign.evaluation.confidence import Confidence, clues, confidence, predict_chance
from dwalign.evaluation.fine_tuning import fine_tune
from dwalign.evaluation.forecast import Forecast, forecast, gives_logits, predict_barrier, traits
from dwalign.evaluation.interpolation import Curve, curve
from dwalign.evaluation.intervals import Interval, interval
from dwalign.evaluation.planted import Recovery, planted_recovery
from dwalign.evaluation.validation import mean_barrier
from dwalign.evaluation.weight_space import aligned_distances, cluster_agreement, planar_map, retrieval_precision

__all__ = [
    "Assessment",
    "Confidence",
    "Curve",
    "Forecast",
    "Interval",
    "Measured",
    "Recovery",
    "aligned_distances",
    "assess",
    "benchmark",
    "clues",
    "cluster_agreement",
    "confidence",
    "curve",
    "fine_tune",
    "forecast",
    "gives_logits",
    "interval",
    "mean_barrier",
    "planar_map",
    "predict_barrier",
    "predict_chance",
    "planted_recovery",
    "retrieval_precision",
    "traits",
]
