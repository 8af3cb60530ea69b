"""The number formats of weights, bfloat16 and float8 among them, which numpy does not know.

Tensors are kept as their raw bits in unsigned integers: cutting and joining them needs no more, and
is exact. Values are made of them where arithmetic is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[Any]  # unsigned integers that hold the bits of numbers
Values = NDArray[np.float64]


@dataclass(frozen=True)
class NumberFormat:
    """How a number is stored.

    Attributes:
        name: The safetensors format's name of it, such as ``BF16``.
        size: Bytes a number.
        exponent_bits: Bits of its exponent; 0 for what is no weight (integers, booleans, complex).
        mantissa_bits: Bits of its mantissa.
    """

    name: str
    size: int
    exponent_bits: int = 0
    mantissa_bits: int = 0

    @property
    def is_float(self) -> bool:
        """Whether it can hold a weight."""
        return self.exponent_bits > 0

    @property
    def bits(self) -> np.dtype[Any]:
        """The numpy type that holds its bits, little-endian like the file."""
        return np.dtype(f"<u{self.size}")

    @property
    def sign(self) -> int:
        """Mask of the sign bit."""
        return 1 << (8 * self.size - 1)


FORMATS = {
    known.name: known
    for known in (
        NumberFormat("F64", 8, 11, 52),
        NumberFormat("F32", 4, 8, 23),
        NumberFormat("F16", 2, 5, 10),
        NumberFormat("BF16", 2, 8, 7),
        NumberFormat("F8_E4M3", 1, 4, 3),  # the "fn" kind: no infinity, NaN only where all bits are one
        NumberFormat("F8_E5M2", 1, 5, 2),
        *(NumberFormat(f"{kind}{8 * size}", size) for kind in "IU" for size in (1, 2, 4, 8)),
        *(NumberFormat(name, 1) for name in ("BOOL", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0")),
        NumberFormat("C64", 8),
    )
}
F32 = FORMATS["F32"]


def is_nonzero(bits: Bits, number: NumberFormat) -> NDArray[np.bool_]:
    """Where numbers are not zero; minus zero is zero."""
    nonzero: NDArray[np.bool_] = (bits & bits.dtype.type(number.sign - 1)) != 0
    return nonzero


def count_nonfinite(bits: Bits, number: NumberFormat) -> int:
    """How many numbers are NaN or infinite."""
    magnitude = bits & bits.dtype.type(number.sign - 1)
    if number.name == "F8_E4M3":
        return int(np.count_nonzero(magnitude == 0x7F))
    infinity = ((1 << number.exponent_bits) - 1) << number.mantissa_bits
    return int(np.count_nonzero(magnitude >= infinity))


def decode(bits: Bits, number: NumberFormat) -> Values:
    """The numbers that bits stand for."""
    with np.errstate(invalid="ignore"):  # widening some NaN warns
        if number.name in ("F64", "F32", "F16"):
            return bits.view(f"<f{number.size}").astype(np.float64)
        if number.name == "BF16":  # the upper half of a float32
            return (bits.astype("<u4") << 16).view("<f4").astype(np.float64)
    magnitudes = np.append(_float8(number), _nonfinite_float8(number))
    values: Values = magnitudes[bits & 0x7F]
    return np.where(bits & 0x80, -values, values)


def encode(values: Values, number: NumberFormat) -> Bits:
    """The bits of the nearest numbers of a format, ties to even; what is too large becomes no number."""
    with np.errstate(over="ignore", invalid="ignore"):
        if number.name in ("F64", "F32", "F16"):
            return values.astype(f"<f{number.size}").view(number.bits)
        if number.name == "BF16":
            wide = values.astype("<f4").view("<u4")
            rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16
            quiet = (wide >> 16) | 0x40  # adding would carry a NaN over into a number
            return np.where(np.isnan(values), quiet, rounded).astype("<u2")
    table = _float8(number)
    middles = (table[1:] + table[:-1]) / 2
    magnitudes = np.abs(values)
    codes = np.searchsorted(middles, magnitudes)  # a tie goes down ...
    tie = (codes < len(middles)) & (magnitudes == middles[np.minimum(codes, len(middles) - 1)])
    codes = codes + (tie & (codes % 2 == 1))  # ... unless that one is odd
    limit = table[-1] + (table[-1] - table[-2]) / 2
    codes = np.where(magnitudes <= limit, codes, 0x7F)  # NaN compares false
    return (codes | np.where(np.signbit(values), 0x80, 0)).astype(np.uint8)


@lru_cache
def _float8(number: NumberFormat) -> Values:
    """The finite numbers of a float8 format without their sign, by their bits."""
    count = 0x7F if number.name == "F8_E4M3" else 0x7C
    codes = np.arange(count)
    exponent, mantissa = codes >> number.mantissa_bits, codes & ((1 << number.mantissa_bits) - 1)
    bias = (1 << (number.exponent_bits - 1)) - 1
    fraction = mantissa / (1 << number.mantissa_bits)
    normal = (1 + fraction) * 2.0 ** (exponent - bias)
    return np.where(exponent == 0, fraction * 2.0 ** (1 - bias), normal)


def _nonfinite_float8(number: NumberFormat) -> Values:
    return np.array([np.nan] if number.name == "F8_E4M3" else [np.inf, np.nan, np.nan, np.nan])
