"""dwalign: align, compare and merge independently trained neural networks in JAX. Start at `dwalign.apply`."""

__version__ = "0.1.0"
