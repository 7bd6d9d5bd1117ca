"""What a held command would have made of a state, for many dead times and lags, exactly.

A command is held until the next. What answers it is one of two lags: of order 1,
``tau x' = u(t - d) - x``, or of order 2, two of these in a row; without a lag x is the command
itself. A position answers a speed by the integral of that. Between two commands all of these are
exponentials, so that nothing is resampled: the true times of commands and states count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Lag:
    """How what a command asks for comes about, once it takes effect.

    Attributes:
        order: How many equal lags lie in a row; 1 or 2.
        seconds: The time constant of each; 0 for none.
    """

    order: int
    seconds: float


NO_LAG = Lag(1, 0.0)


class HeldResponse:
    """The responses of several lags to one command.

    Args:
        times_s: When each value begins to be commanded, ascending, shape (n,), n > 0.
        values: Shape (n,).
        lags: Whose responses are known.

    Before the first value it counts as having been commanded for ever.
    """

    def __init__(self, times_s: Numbers, values: Numbers, lags: tuple[Lag, ...]) -> None:
        changes = np.concatenate([[True], np.diff(values) != 0])
        self._times, self._values = times_s[changes], values[changes]
        self.lags = lags
        self._seconds = np.array([max(lag.seconds, 1e-9) for lag in lags])
        self._is_second = np.array([lag.order == 2 for lag in lags])
        self._has_second = bool(self._is_second.any())
        self._begin()

    def _begin(self) -> None:
        """Follow each lag from change to change: where it is at each, and the integral so far."""
        spans, values = np.diff(self._times)[:, None], self._values[:-1, None]
        decays = np.exp(-np.minimum(spans / self._seconds, 700.0))
        start = np.full((1, len(self.lags)), self._values[0])
        self._first = np.vstack([start, _followed(decays, values * (1 - decays), start)])
        pulled = (self._first[:-1] - values) * spans / self._seconds * decays
        pulled = values * (1 - decays) + pulled
        self._second = np.vstack([start, _followed(decays, pulled, start)])
        areas = self._area(values, self._first[:-1], self._second[:-1], spans, decays)
        self._integral = np.vstack([np.zeros_like(start), np.cumsum(areas, axis=0)])

    def at(self, times_s: Numbers, *, integrated: bool) -> Numbers:
        """Return each lag's response, or its integral, at some times, shape (lags, m)."""
        place = np.maximum(np.searchsorted(self._times, times_s, side="right") - 1, 0)
        value, span = self._values[place][:, None], (times_s - self._times[place])[:, None]
        decay = np.exp(-np.clip(span / self._seconds, 0.0, 700.0))
        first, second = self._first[place], self._second[place]
        if integrated:
            area = self._area(value, first, second, span, decay)
            return np.asarray((self._integral[place] + area).T)
        return np.asarray(self._level(value, first, second, span, decay).T)

    def _level(
        self, value: Numbers, first: Numbers, second: Numbers, span: Numbers, decay: Numbers
    ) -> Numbers:
        """Where a lag is that was at ``first`` (and ``second``) a time ago."""
        left = (first - value) * decay
        if self._has_second:
            of_second = left * span / self._seconds + (second - value) * decay
            left = np.where(self._is_second, of_second, left)
        return np.asarray(value + left)

    def _area(
        self, value: Numbers, first: Numbers, second: Numbers, span: Numbers, decay: Numbers
    ) -> Numbers:
        """The integral of that time."""
        left = (first - value) * self._seconds * (1 - decay)
        if self._has_second:
            of_second = left - (first - value) * span * decay
            of_second = of_second + (second - value) * self._seconds * (1 - decay)
            left = np.where(self._is_second, of_second, left)
        return np.asarray(value * span + left)


def _followed(decays: Numbers, inputs: Numbers, start: Numbers) -> Numbers:
    """Return all x[j + 1] = decays[j] x[j] + inputs[j], shape (n, lags), in log(n) passes."""
    decays, inputs = decays.copy(), inputs.copy()
    reach = 1
    while reach < len(decays):
        inputs[reach:] += decays[reach:] * inputs[:-reach]
        decays[reach:] = decays[reach:] * decays[:-reach]
        reach *= 2
    return np.asarray(decays * start + inputs)
