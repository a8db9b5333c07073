"""dwalign: align, compare and merge independently trained neural networks in JAX.

Every public name is here, loaded when it is asked for; `dwalign.apply` holds those for pipelines.
"""

from dwalign.lazy import lazily

__version__ = "0.1.0"
__getattr__, __dir__ = lazily(__name__, __file__)
