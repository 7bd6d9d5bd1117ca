"""Round numbers that a person would write."""

from __future__ import annotations

import math

# How a control rate is usually chosen.
RATES = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 100, 120, 125, 200, 240, 250, 400, 500, 1000)

# What is smaller is zero with noise.
SMALLEST = 1e-300


def outward(low: float, high: float) -> tuple[float, float]:
    """Widen a range to round numbers: by less than a tenth of its width at each end.

    A range without width is widened by the size of its number, or by 1.
    """
    width = high - low
    if not math.isfinite(width):
        return low, high
    if width < SMALLEST:
        width = max(abs(low), abs(high))
        width = width if width > SMALLEST else 1.0
        low, high = low - width, high + width
    step = _step(width / 10)
    digits = max(0, -math.floor(math.log10(step)))
    least, greatest = math.floor(low / step) * step, math.ceil(high / step) * step
    # Adding 0 turns a minus zero into a zero.
    rounded = round(least, digits) + 0.0, round(greatest, digits) + 0.0
    # Where the width is hardly more than what a float resolves, nothing is rounder.
    return rounded if rounded[0] < rounded[1] else (low, high)


def upward(number: float) -> float:
    """Return the smallest of 1, 2, 3, 5 times a power of ten that is not below ``number``."""
    power = 10.0 ** math.floor(math.log10(number))
    steps = (1, 2, 3, 5, 10)
    chosen = next(step for step in steps if step * power >= number * (1 - 1e-9))
    return float(f"{chosen * power:.3g}")


def usual_rate(rate_hz: float) -> float:
    """Return the usual control rate within a tenth of ``rate_hz``, or else two digits of it."""
    nearest = min(RATES, key=lambda rate: abs(math.log(rate / rate_hz)))
    if abs(nearest - rate_hz) <= 0.1 * rate_hz:
        return float(nearest)
    return float(f"{rate_hz:.2g}")


def _step(number: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above ``number``."""
    power = 10.0 ** math.floor(math.log10(number))
    return next(step * power for step in (5, 2, 1) if step * power <= number * (1 + 1e-9))
