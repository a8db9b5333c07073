"""With which power of its unit factors an array changes at a place: `h0`, `h0^-1`, `h0^0`.

A group of kind "scale", "sign" or "monomial" has factors of one or several directions that are independent of one
another; at a place each counts with a power of its own, `h0^1:0:-1`. Powers of signs count modulo 2. Where both are
free they are written one after the other, `h0^1:-1~1:1`; the second part is left out where it says the same. For
"linear" the power 1 stands for the map itself and -1 for its dual, the inverse transposed.
"""

import re
from fractions import Fraction
from typing import NamedTuple

KINDS = ("permutation", "sign", "scale", "monomial", "orthogonal", "linear")
"""What a group of interchangeable units may be multiplied with, see `PermutationSpec.kinds`."""
SCALED = ("scale", "monomial", "linear")
SIGNED = ("sign", "monomial")


class Power(NamedTuple):
    """Powers of the factors at one place, an entry for each direction.

    Attributes:
      scale: of positive factors; of a linear map 1 or -1.
      sign: of signs, 0 or 1.
    """

    scale: tuple[Fraction, ...] = ()
    sign: tuple[int, ...] = ()


def parse_power(kind: str, text: str) -> Power:
    """The power in `text`, what follows `^` in the notation; raises `ValueError` where there is none.

    >>> parse_power("monomial", "1:-2")
    Power(scale=(Fraction(1, 1), Fraction(-2, 1)), sign=(1, 0))
    """
    first, *rest = text.split("~")
    numbers = tuple(map(Fraction, first.split(":")))
    if len(rest) > 1 or (rest and kind != "monomial") or (kind == "linear" and numbers not in ((1,), (-1,))):
        raise ValueError(text)
    scale = numbers if kind in SCALED else ()
    signs = tuple(map(Fraction, rest[0].split(":"))) if rest else numbers if kind in SIGNED else ()
    if not rest and kind == "monomial" and any(number.denominator != 1 for number in numbers):
        raise ValueError(text)
    if any(number.denominator != 1 for number in signs):
        raise ValueError(text)
    return Power(scale, tuple(int(number) % 2 for number in signs))


def power_text(power: Power) -> str:
    """The inverse of `parse_power`; "" for what need not be written: 1 in the only direction.

    >>> power_text(Power((Fraction(1), Fraction(-1, 2)), (1,))), power_text(Power((Fraction(1),), (1,)))
    ('1:-1/2~1', '')
    """
    scale, sign = (":".join(map(str, numbers)) for numbers in power)
    same = tuple(number % 2 for number in power.scale) == power.sign
    text = f"{scale}~{sign}" if scale and sign and not same else scale or sign
    return "" if text == "1" else text


def split_name(factor: str) -> tuple[str, str]:
    """The name of a factor and the text of its power, "" where that is not written."""
    name, _, power = factor.partition("^")
    return name, power


def valid_power(text: str) -> bool:
    """Whether something can be read as a power at all."""
    number = r"-?\d+(/\d+)?"
    return re.fullmatch(rf"{number}(:{number})*(~\d(:\d)*)?", text) is not None
