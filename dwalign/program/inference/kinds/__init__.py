"""Which factors and maps a program leaves free beside the order of units: signs, scales, orthogonal and linear maps.

The second half of the walk. When the dimensions of all values are known, every place at which a value carries a group
gets an unknown exponent: with unit factors s the value changes by s to that power. Each equation of the program is a
linear equation of the exponents (`rules`); what solves all of them is a symmetry (`solve`). Signs are the same over the
integers modulo 2. A group that no equation touches unit by unit may be mapped by any matrix that its products leave.
"""

from dwalign.program.inference.kinds.find import Kinds, find_kinds

__all__ = ["Kinds", "find_kinds"]
