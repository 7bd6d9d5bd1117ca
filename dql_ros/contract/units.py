"""Units of measurement: which can be converted into which, and by what factor.

A unit is a product such as ``rad``, ``m/s^2``, ``N m`` or ``deg/s``. Angles count as a dimension
of their own, so that a rate in 1/s is not taken for one in rad/s.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import did_you_mean

DIMENSIONS = ("m", "kg", "s", "A", "K", "rad")
_FACTOR = re.compile(r"([^\s*·/^]+)(?:\^(-?\d+))?")


@dataclass(frozen=True)
class Unit:
    """A unit in terms of SI base units: value in SI = value * factor * pi^pi + offset.

    Attributes:
        powers: Exponents of `DIMENSIONS`.
        factor: The rational part of its size.
        pi: The power of pi in its size.
        offset: What SI shows at the unit's zero; only for temperatures.
    """

    powers: tuple[int, ...]
    factor: Fraction = Fraction(1)
    pi: int = 0
    offset: Fraction = Fraction(0)

    def __mul__(self, other: Unit) -> Unit:
        return Unit(
            tuple(mine + its for mine, its in zip(self.powers, other.powers, strict=True)),
            self.factor * other.factor,
            self.pi + other.pi,
        )

    def __pow__(self, exponent: int) -> Unit:
        powers = tuple(power * exponent for power in self.powers)
        return Unit(powers, self.factor**exponent, self.pi * exponent)


@dataclass(frozen=True)
class Conversion:
    """The line that leads from one unit to another: ``value * multiplier / divisor + offset``.

    A multiplier and a divisor instead of one factor keep conversions such as mm to m correctly
    rounded: 1000 is exact in binary, 0.001 is not.

    Attributes:
        multiplier: What values are multiplied by first.
        divisor: What they are divided by then.
        offset: What is added last.
    """

    multiplier: float = 1.0
    divisor: float = 1.0
    offset: float = 0.0

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert ``values``, of any shape; what is too large becomes infinite."""
        with np.errstate(over="ignore"):
            if self.multiplier != 1.0:
                values = values * self.multiplier
            if self.divisor != 1.0:
                values = values / self.divisor
            return values + self.offset if self.offset else values

    def inverse(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert back; exact up to rounding."""
        with np.errstate(over="ignore"):
            if self.offset:
                values = values - self.offset
            if self.divisor != 1.0:
                values = values * self.divisor
            return values / self.multiplier if self.multiplier != 1.0 else values


def _unit(factor: Any = 1, pi: int = 0, offset: Any = 0, **powers: int) -> Unit:
    exponents = tuple(powers.get(dimension, 0) for dimension in DIMENSIONS)
    return Unit(exponents, Fraction(factor), pi, Fraction(offset))


UNITS = {
    "1": _unit(),
    "%": _unit("0.01"),
    **{
        prefix + "m": _unit(size, m=1)
        for prefix, size in {"": 1, "k": 1000, "c": "1e-2", "m": "1e-3", "u": "1e-6"}.items()
    },
    "in": _unit("0.0254", m=1),
    "ft": _unit("0.3048", m=1),
    "kg": _unit(kg=1),
    "g": _unit("1e-3", kg=1),
    "s": _unit(s=1),
    "ms": _unit("1e-3", s=1),
    "us": _unit("1e-6", s=1),
    "ns": _unit("1e-9", s=1),
    "min": _unit(60, s=1),
    "h": _unit(3600, s=1),
    "Hz": _unit(s=-1),
    "rad": _unit(rad=1),
    "mrad": _unit("1e-3", rad=1),
    "deg": _unit("1/180", pi=1, rad=1),
    "rev": _unit(2, pi=1, rad=1),
    "rpm": _unit("1/30", pi=1, rad=1, s=-1),
    "N": _unit(m=1, kg=1, s=-2),
    "mN": _unit("1e-3", m=1, kg=1, s=-2),
    "kN": _unit(1000, m=1, kg=1, s=-2),
    "g0": _unit("9.80665", m=1, s=-2),
    "J": _unit(m=2, kg=1, s=-2),
    "W": _unit(m=2, kg=1, s=-3),
    "Pa": _unit(m=-1, kg=1, s=-2),
    "hPa": _unit(100, m=-1, kg=1, s=-2),
    "kPa": _unit(1000, m=-1, kg=1, s=-2),
    "bar": _unit(100_000, m=-1, kg=1, s=-2),
    "A": _unit(A=1),
    "mA": _unit("1e-3", A=1),
    "V": _unit(m=2, kg=1, s=-3, A=-1),
    "mV": _unit("1e-3", m=2, kg=1, s=-3, A=-1),
    "T": _unit(kg=1, s=-2, A=-1),
    "uT": _unit("1e-6", kg=1, s=-2, A=-1),
    "G": _unit("1e-4", kg=1, s=-2, A=-1),
    "K": _unit(K=1),
    "degC": _unit(offset="273.15", K=1),
    "degF": _unit("5/9", offset="45967/180", K=1),
}
# What people write in their place: looked up as it is, then in small letters, then without an s.
_SPELLED = {
    "meter": "m",
    "metre": "m",
    "gram": "g",
    "kilogram": "kg",
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "hertz": "Hz",
    "radian": "rad",
    "degree": "deg",
    "°": "deg",
    "newton": "N",
    "Nm": "N m",
    "joule": "J",
    "watt": "W",
    "pascal": "Pa",
    "ampere": "A",
    "amp": "A",
    "volt": "V",
    "tesla": "T",
    "gauss": "G",
    "kelvin": "K",
    "celsius": "degC",
    "°C": "degC",
    "fahrenheit": "degF",
    "percent": "%",
}


@lru_cache(maxsize=256)
def conversion(source: str, target: str) -> Conversion:
    """Return the conversion from one unit to another.

    Raises:
        ValueError: Naming the unit that is not known, or both if they measure different things.
    """
    here, there = _parse(source), _parse(target)
    if here.powers != there.powers:
        raise ValueError(
            f"'{source}' cannot be converted to '{target}': one is in {_base(here)}, the other "
            f"in {_base(there)}"
        )
    ratio, pi = here.factor / there.factor, here.pi - there.pi
    offset = float((here.offset - there.offset) / there.factor)
    multiplier, divisor = float(ratio.numerator), float(ratio.denominator)
    if pi > 0:
        multiplier *= math.pi**pi
    else:
        divisor *= math.pi**-pi
    return Conversion(multiplier, divisor, offset)


def why_unknown(text: str) -> str:
    """Return why a text is no unit that could be converted; empty if it is one."""
    try:
        _parse(text)
    except ValueError as cause:
        return str(cause)
    return ""


def _hint(name: str) -> str:
    plain = name.lower()
    for spelled in (name, plain, plain.removesuffix("s")):
        if spelled in _SPELLED:
            return f" (did you mean '{_SPELLED[spelled]}'?)"
    return did_you_mean(name, UNITS)


def _parse(text: str) -> Unit:
    """Read a product of units; what follows a slash, up to the next, divides."""
    total = UNITS["1"]
    for index, part in enumerate(text.split("/")):
        factors = _FACTOR.findall(part)
        if not factors or _FACTOR.sub("", part).strip(" *·"):
            raise ValueError(f"'{text}' is not a unit; write for example m/s^2, N m or deg")
        for name, exponent in factors:
            if name not in UNITS:
                raise ValueError(f"unknown unit '{name}'{_hint(name)}")
            if UNITS[name].offset and text != name:
                raise ValueError(f"'{name}' has a zero of its own and cannot be part of '{text}'")
            total = total * UNITS[name] ** (int(exponent or 1) * (-1 if index else 1))
    return UNITS.get(text, total)


def _base(unit: Unit) -> str:
    """Name a unit's dimension by the SI base units."""
    powers = zip(DIMENSIONS, unit.powers, strict=True)
    named = [name if power == 1 else f"{name}^{power}" for name, power in powers if power]
    return " ".join(named) or "no unit"


def half_turn(unit: str) -> float:
    """Return the size of a half turn in a unit of angle.

    Raises:
        ValueError: If it is no unit of angle.
    """
    return float(conversion("rad", unit)(np.array(math.pi)))
