from dwalign.evaluation.benchmark import Measured, benchmark
from dwalign.evaluation.interpolation import Curve, curve
from dwalign.evaluation.intervals import Interval, interval

__all__ = ["Curve", "Interval", "Measured", "benchmark", "curve", "interval"]
