from dwalign.evaluation.benchmark import Measured, benchmark
from dwalign.evaluation.interpolation import Curve, correct, curve
from dwalign.evaluation.intervals import Interval, interval
from dwalign.evaluation.planted import Recovery, planted_recovery

__all__ = ["Curve", "Interval", "Measured", "Recovery", "benchmark", "correct", "curve", "interval", "planted_recovery"]
