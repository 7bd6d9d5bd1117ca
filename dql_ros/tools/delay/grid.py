"""What each of some dead times and lags leaves unexplained of a state, and which may be true."""

from __future__ import annotations

import numpy as np

from dql_ros.tools.delay.response import Lag, Numbers

_RESAMPLED = 200
_LIKELY = 3.84  # twice the log of the likelihood ratio, of one parameter: 95 %
# What is left is never less than float32 and a simulation's own steps make it.
_FINEST = 1e-6
# Another one that explains so much of what the best does, and leaves no more than so many times
# as much, may be the true one.
_AMBIGUOUS, _AS_GOOD = 0.97, 1.1
_CANDIDATES = 2  # of each order of lag


class Grid:
    """What is left unexplained by each of some dead times and lags.

    Attributes:
        misfit: Share of what the best leaves that is the model's fault.

    Args:
        seconds: The dead times, shape (d,).
        lags: The lags.
        sums: Of each block's told increments, shape (d, lags, blocks).
        squares: Of their squares.
        products: Of their products with the state's increments.
        of_state: Of each block number, sum and sum of squares of these; shape (3, blocks).
        rises: Whether only positive gains explain anything.
    """

    def __init__(
        self,
        seconds: Numbers,
        lags: tuple[Lag, ...],
        sums: Numbers,
        squares: Numbers,
        products: Numbers,
        of_state: Numbers,
        rises: bool,
    ) -> None:
        self.misfit = 0.0
        self.seconds, self._lags, self._rises = seconds, lags, rises
        self._sums, self._squares, self._products = sums, squares, products
        self._of_state = of_state
        gains, left = self._fitted(np.ones((1, of_state.shape[1])))
        self._gains, self._left = gains[0], left[0]
        self._count = float(of_state[0].sum())

    @property
    def step_s(self) -> float:
        """Distance of two dead times."""
        return float(self.seconds[1] - self.seconds[0])

    def _fitted(self, weights: Numbers) -> tuple[Numbers, Numbers]:
        """Gains, and the share that is left, for some weights of blocks, shape (k, d, lags)."""
        count, sums, squares = (weights @ each for each in self._of_state)
        shape = (slice(None), None, None)
        told, told_squares, products = (
            np.einsum("kb,dlb->kdl", weights, each, optimize=True)
            for each in (self._sums, self._squares, self._products)
        )
        spread = told_squares - told**2 / count[shape]
        both = products - told * (sums / count)[shape]
        whole = np.maximum(squares - sums**2 / count, np.finfo(float).tiny)
        is_moving = spread > 1e-12 * max(float(told_squares.max()), np.finfo(float).tiny)
        gains = np.where(is_moving, both, 0.0) / np.where(is_moving, spread, 1.0)
        if self._rises:
            gains = np.maximum(gains, 0.0)
        left = 1 - gains * both / whole[shape]
        return np.asarray(gains), np.maximum(left, _FINEST)

    def _chosen(self, from_s: float, to_s: float, order: int | None) -> Numbers:
        """What is left, infinite where it does not count."""
        left = np.array(self._left)
        left[(self.seconds < from_s - 1e-9) | (self.seconds > to_s + 1e-9)] = np.inf
        if order is not None:
            left[:, [lag.order != order for lag in self._lags]] = np.inf
        return left

    def best(
        self, from_s: float = -np.inf, to_s: float = np.inf, order: int | None = None
    ) -> tuple[float, Lag]:
        """Return the dead time and lag that leave least."""
        left = self._chosen(from_s, to_s, order)
        dead, lag = np.unravel_index(int(np.argmin(left)), left.shape)
        return float(self.seconds[dead]), self._lags[lag]

    def least(
        self, from_s: float = -np.inf, to_s: float = np.inf, order: int | None = None
    ) -> float:
        """Return what the best leaves, as a share."""
        return float(self._chosen(from_s, to_s, order).min())

    def middle(self) -> float:
        """Return the middle of the dead times that leave no more than the best."""
        profile = self._left.min(axis=1)
        return float(self.seconds[profile <= profile.min() * (1 + 1e-9)].mean())

    def gain(self) -> float:
        """Return the gain of the best."""
        return float(self._gains.ravel()[np.argmin(self._left)])

    def tells(self, least: float) -> bool:
        """Whether what another one leaves is told from what the best one leaves."""
        return bool(self._count * abs(np.log(least / self.least())) > 4 * _LIKELY)

    def is_flat(self) -> bool:
        """Whether nothing explains more than chance would, of so many dead times."""
        return bool(-self._count * np.log(self.least()) < 10 * _LIKELY)

    def interval(self) -> tuple[float, float]:
        """Return the ends of the interval."""
        profile = self._left.min(axis=1)
        told = np.log(profile / profile.min()) - np.log1p(self.misfit)
        likely = self.seconds[self._count * told <= _LIKELY]
        rng = np.random.default_rng(0)
        blocks = self._of_state.shape[1]
        drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=_RESAMPLED)
        _, left = self._fitted(drawn.astype(np.float64))
        found = self.seconds[np.argmin(left.min(axis=2), axis=1)]
        low, high = np.quantile(found, [0.025, 0.975])
        half = self.step_s / 2
        return float(min(low, likely.min()) - half), float(max(high, likely.max()) + half)

    def is_as_good_as(self, best: Grid) -> bool:
        """Whether it may be the true one beside the best, of the same increments."""
        mine, least = self.least(), best.least()
        explains = (1 - mine) >= _AMBIGUOUS * (1 - least) and mine <= _AS_GOOD * least
        return explains or not best.tells(mine)

    def candidates(self) -> list[tuple[float, Lag]]:
        """Return where to look closer: for each order of lag the best dead times, far apart."""
        found: list[tuple[float, Lag]] = []
        for order in (1, 2):
            left = self._chosen(0.0, np.inf, order)
            profile = left.min(axis=1)
            near = np.minimum(np.append(profile[1:], np.inf), np.append(np.inf, profile[:-1]))
            lows = np.flatnonzero(np.isfinite(profile) & (profile <= near))
            chosen: list[int] = []
            for each in sorted(lows.tolist(), key=lambda index: float(profile[index])):
                is_far = all(abs(self.seconds[each] - self.seconds[i]) > 0.02 for i in chosen)
                explains = (1 - profile[each]) >= 0.9 * (1 - self.least(from_s=0.0))
                if is_far and explains and len(chosen) < _CANDIDATES:
                    chosen.append(each)
            found += [
                (float(self.seconds[each]), self._lags[int(np.argmin(left[each]))])
                for each in chosen
            ]
        return found

    def curve(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the dead times, and what each leaves with the lag that fits it best."""
        left = self._left.min(axis=1)
        return tuple(map(float, self.seconds)), tuple(map(float, left))
