"""The dead time between a command and the state that answers it, with an interval.

The increments of the state between its own samples are explained by those of the command's
response (`HeldResponse`) for each dead time and lag, by least squares; the dead time that leaves
least unexplained is the estimate. What is left of one increment is told from what was left before,
and taken out of both sides (Cochrane and Orcutt 1949). Noise is then no longer like itself a
moment later, so that errors count for what they are, and a command that was computed from the
state does not look as if it came before its cause (Ljung 1999, section 13.4).

The interval holds 95 % of the estimates from blocks of time that are drawn with replacement, all
dead times that the likelihood ratio does not tell from the best, and what other lags say that
explain as much. Where the command still explains, at other times, what the model leaves, the model
is wrong, and the interval wider by as much; and by a millisecond in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dql_ros.tools.delay.grid import Grid
from dql_ros.tools.delay.response import NO_LAG, HeldResponse, Lag, Numbers

# Dead times that are tried; what answers before it was told does not answer.
EARLIEST_S, LATEST_S = -0.1, 0.5
_LAGS = tuple(
    Lag(order, seconds)
    for order, all_seconds in (
        (1, (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)),
        (2, (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)),
    )
    for seconds in all_seconds
)
# States that come faster say nothing more, and a lag that is shorter is not told from dead time.
_LEAST_SPACING_S = 0.004
_MOST_ROWS, _FEW_ROWS = 5000, 1000
_MOST_BLOCKS, _LEAST_BLOCKS, _LEAST_BLOCK_S = 100, 10, 1.0
_REMEMBERED = 3  # increments before, by which what is left of one is told
# A command that changes less often, or moves in fewer blocks, shows nothing.
_LEAST_CHANGES = 20
# Less of the state's motion than this may be anything: of what has the command's unit, and of
# whatever else it may be.
_LEAST_EXPLAINED = {True: 0.1, False: 0.3}
_OF_OTHERS_S = (0.0, 0.02, 0.04, 0.08, 0.16, 0.32)  # after what times others may move it
# A wider interval is no answer. By so much a robot that is not quite a lag may mislead it, at
# either end.
WIDEST_S, UNLIKE_S = 0.005, 0.001
_STEP_S = 0.0005
# A look around an estimate that is not its own best moves there, at most so often.
_LOOKS = 16
_REACH_S = 0.01
# Time constants that are told apart have this ratio, or are a step apart where they are small.
_NEAR = 1.0125
_FEW, _MANY = (-45, -10, -2, 2, 10, 45), (-60, -30, -12, -5, -2, -1, 1, 2, 5, 12, 30, 60)


@dataclass(frozen=True)
class Track:
    """One number over time.

    Attributes:
        times_s: Shape (n,).
        values: Shape (n,); what is not finite is left out.
        spans_s: Where increments count, start and end each, ascending, shape (k, 2); ``None``:
            everywhere.
    """

    times_s: Numbers
    values: Numbers
    spans_s: Numbers | None = None


@dataclass(frozen=True)
class Delay:
    """What is known of the dead time between a command and a state.

    Attributes:
        seconds: The estimate; ``None`` if nothing can be said.
        low_s: Lower end of the interval; ``None`` without an estimate.
        high_s: Upper end.
        doubt: Why it cannot be told; empty if it can.
        explained: Share of the state's increments that the command explains.
        untold: Share of them that neither the command nor what came before tells.
        lag: What answers after the dead time.
        gain: What the state makes of a command of 1.
        integrated: Whether the state answers by its speed.
        curve: Dead times and what they leave unexplained, as a share, shape (2, n).
    """

    seconds: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    doubt: str = ""
    explained: float = 0.0
    untold: float = 1.0
    lag: Lag = NO_LAG
    gain: float = 0.0
    integrated: bool = False
    curve: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    @property
    def is_told(self) -> bool:
        """Whether the dead time is known."""
        return not self.doubt


def estimate_delay(
    command: Track,
    state: Track,
    *,
    integrated: bool,
    rises: bool = False,
    others: Sequence[Track] = (),
) -> Delay:
    """Estimate after what time a state begins to answer a command.

    Args:
        command: What was commanded; each value holds until the next.
        state: What may answer it.
        integrated: Whether the state's speed answers, as a position does to a speed.
        rises: Whether more command must mean more state: both are of one unit.
        others: Other commands, which may move the state as well, after any time.
    """
    rows = _rows(command, state)
    if isinstance(rows, str):
        return Delay(doubt=rows, integrated=integrated)
    trial = _Trial(rows, integrated=integrated, rises=rises, others=others)
    grid = trial.coarse_grid()
    best = trial.evaluate(grid, _LAGS).best()
    trial.whiten(*best)
    coarse = trial.evaluate(grid, _LAGS)
    fine = [trial.refined(*candidate) for candidate in coarse.candidates()]
    fine.sort(key=lambda each: each.least())
    likely = [each for each in fine if each.is_as_good_as(fine[0])]
    seconds, lag = fine[0].middle(), fine[0].best()[1]
    ends = [end for each in likely for end in each.interval()]
    if (late := lag.order * lag.seconds) <= _LEAST_SPACING_S:
        ends.append(seconds + late + _STEP_S / 2)
    found = Delay(
        seconds=max(seconds, 0.0),
        low_s=max(min(ends) - UNLIKE_S, 0.0),
        high_s=min(max(*ends, 0.0) + UNLIKE_S, LATEST_S),
        explained=trial.explained(seconds, lag),
        untold=fine[0].least() * trial.kept,
        lag=lag,
        gain=fine[0].gain(),
        integrated=integrated,
        curve=coarse.curve(),
    )
    return replace(found, doubt=_doubt(found, coarse, fine[0], rises=rises))


def unexplained(command: Track, state: Track, *, integrated: bool, rises: bool) -> float:
    """Return roughly what share of a state's increments a command leaves unexplained.

    Args: as of `estimate_delay`.
    """
    rows = _rows(command, state, _FEW_ROWS)
    if isinstance(rows, str):
        return 1.0
    trial = _Trial(rows, integrated=integrated, rises=rises)
    return trial.evaluate(np.arange(0.0, LATEST_S, 0.02), _LAGS[:10:3]).least()


def _doubt(found: Delay, coarse: Grid, fine: Grid, *, rises: bool) -> str:
    """Why the estimate is none; empty if it is one."""
    assert found.seconds is not None
    assert found.low_s is not None
    assert found.high_s is not None
    if found.explained < _LEAST_EXPLAINED[rises] or coarse.is_flat():
        return f"the command explains {found.explained:.0%} of the state's motion"
    early = coarse.least(to_s=-coarse.step_s)
    leads = early < fine.least() and fine.tells(early)
    if leads or fine.interval()[1] < -coarse.step_s:
        return "the command follows the state, as that of a controller which answers it"
    if found.seconds > LATEST_S - 2 * coarse.step_s:
        return f"no dead time up to {LATEST_S:g} s fits best"
    if found.high_s - found.low_s > 2 * (WIDEST_S + UNLIKE_S):
        return (
            f"it may lie anywhere from {1000 * found.low_s:.1f} to {1000 * found.high_s:.1f} ms, "
            f"more than {2000 * (WIDEST_S + UNLIKE_S):g} ms apart"
        )
    return ""


@dataclass(frozen=True)
class _Rows:
    """Increments of the state.

    Attributes:
        command: What was commanded.
        times_s: When the state was sampled, shape (n,).
        begins: Which sample each increment begins with, shape (m,); it ends with the next.
        values: The increments, shape (m,).
        blocks: Where each block of increments begins, ascending, shape (b,).
    """

    command: Track
    times_s: Numbers
    begins: NDArray[np.intp]
    values: Numbers
    blocks: NDArray[np.intp]


def _rows(command: Track, state: Track, most: int = _MOST_ROWS) -> _Rows | str:
    """Return the increments to be explained; or why there are none."""
    command, state = _clean(command), _clean(state, _LEAST_SPACING_S)
    changes = int(np.count_nonzero(np.diff(command.values)))
    if changes < _LEAST_CHANGES:
        return f"the command changes {changes} times; move the robot more"
    if len(state.times_s) < 2 * _LEAST_CHANGES:
        return f"the state has {len(state.times_s)} values"
    times, values = state.times_s, state.values
    spacing = np.diff(times)
    begins = times[:-1]
    usable = spacing <= 5 * np.median(spacing)
    usable &= (begins >= command.times_s[0] + LATEST_S) & (times[1:] <= command.times_s[-1])
    if state.spans_s is not None:
        span = np.searchsorted(state.spans_s[:, 0], begins, side="right") - 1
        usable &= (span >= 0) & (times[1:] <= state.spans_s[np.maximum(span, 0), 1])
    chosen = np.flatnonzero(usable)
    if not len(chosen) or np.ptp(values[chosen]) == 0 or not np.diff(values)[chosen].any():
        return "the state does not move while the command does"
    return _blocks(command, times, chosen, np.diff(values)[chosen], most)


def _blocks(
    command: Track, times: Numbers, chosen: NDArray[np.intp], values: Numbers, most: int
) -> _Rows | str:
    """Divide the increments into blocks of time; of many keep those in which most is told."""
    lasts_s = float(np.diff(times)[chosen].sum())
    length_s = max(_LEAST_BLOCK_S, lasts_s / _MOST_BLOCKS)
    if lasts_s < _LEAST_BLOCKS * _LEAST_BLOCK_S:
        return f"{lasts_s:.1f} s of motion are too few: give {_LEAST_BLOCKS * _LEAST_BLOCK_S:g} s"
    block = np.floor((times[chosen] - times[chosen[0]]) / length_s).astype(np.int64)
    if len(chosen) > most:
        told = np.zeros(block[-1] + 1)
        changes = np.abs(np.diff(command.values))
        place = np.floor((command.times_s[1:] - times[chosen[0]]) / length_s).astype(np.int64)
        inside = (place >= 0) & (place < len(told))
        np.add.at(told, place[inside], changes[inside])
        counts = np.bincount(block, minlength=len(told))
        order = np.argsort(-told, kind="stable")
        is_kept = np.zeros(len(told), bool)
        is_kept[order[np.cumsum(counts[order]) <= max(most, counts.max())]] = True
        kept = is_kept[block]
        chosen, values, block = chosen[kept], values[kept], block[kept]
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    return _Rows(command, times, chosen, values, starts)


def _clean(track: Track, spacing_s: float = 0.0) -> Track:
    """Leave out what is not finite, does not come later than what was before, or is too near."""
    good = np.isfinite(track.values) & np.isfinite(track.times_s)
    times, values = track.times_s[good], track.values[good]
    later = np.maximum.accumulate(np.concatenate([[-np.inf], times]))[:-1]
    if spacing_s and len(times):
        cells = np.floor((times - times[0]) / spacing_s)
        before = np.maximum.accumulate(np.concatenate([[-1.0], cells]))[:-1]
        kept = (times > later) & (cells > before)
    else:
        kept = times > later
    return replace(track, times_s=times[kept], values=values[kept])


class _Trial:
    """Tries dead times and lags on the increments of a state."""

    def __init__(
        self, rows: _Rows, *, integrated: bool, rises: bool, others: Sequence[Track] = ()
    ) -> None:
        self._rows, self._integrated, self._rises = rows, integrated, rises
        self._weights = np.zeros(0)
        self._is_whole = np.ones(len(rows.values), bool)
        self._raw = rows.values
        samples = np.unique(np.concatenate([rows.begins, rows.begins + 1]))
        self._samples_s = rows.times_s[samples]
        self._places = np.searchsorted(samples, rows.begins)  # where each increment begins
        columns = [np.ones((1, len(self._raw)))]
        for other in map(_clean, others):
            if len(other.times_s):
                response = HeldResponse(other.times_s, other.values, (NO_LAG,))
                columns += [self._told(response, dead_s) for dead_s in _OF_OTHERS_S]
        self._beside = np.concatenate(columns)
        self._cleared = self._basis()

    def _basis(self) -> Numbers:
        """Orthonormal rows that span what other commands may do, as it is whitened."""
        return np.asarray(np.linalg.qr(self._whitened(self._beside).T)[0].T)

    def _clear(self, columns: Numbers) -> Numbers:
        """Whitened increments, shape (k, m), without what other commands explain."""
        left = self._whitened(columns)
        return np.asarray(left - (left @ self._cleared.T) @ self._cleared)

    def coarse_grid(self) -> Numbers:
        """Dead times near enough to each other that none is missed between two."""
        spacing = float(np.median(np.diff(self._rows.times_s)))
        step = min(max(spacing / 2, 0.002), 0.005)
        numbers = np.arange(round(EARLIEST_S / step), round(LATEST_S / step) + 1)
        return numbers.astype(np.float64) * step

    def evaluate(self, seconds: Numbers, lags: Sequence[Lag]) -> Grid:
        """Return what each dead time and lag explains."""
        response = HeldResponse(self._rows.command.times_s, self._rows.command.values, tuple(lags))
        wanted = np.flatnonzero(self._is_whole)
        starts = np.searchsorted(wanted, self._rows.blocks)
        starts = starts[np.diff(starts, append=len(wanted)) > 0]
        values = self._clear(self._raw[None])[0]
        shape = len(seconds), len(lags), len(starts)
        sums, squares, products = np.empty(shape), np.empty(shape), np.empty(shape)
        for index, dead_s in enumerate(seconds):
            told = self._clear(self._told(response, float(dead_s)))
            sums[index] = np.add.reduceat(told, starts, axis=1)
            squares[index] = np.add.reduceat(told**2, starts, axis=1)
            products[index] = np.add.reduceat(told * values, starts, axis=1)
        of_state = np.array(
            [
                np.diff(starts, append=len(wanted)),
                np.add.reduceat(values, starts),
                np.add.reduceat(values**2, starts),
            ]
        )
        return Grid(seconds, tuple(lags), sums, squares, products, of_state, self._rises)

    def _told(self, response: HeldResponse, dead_s: float) -> Numbers:
        """Increments of the response, shape (lags, m)."""
        levels = response.at(self._samples_s - dead_s, integrated=self._integrated)
        return np.asarray(levels[:, self._places + 1] - levels[:, self._places])

    def _whitened(self, columns: Numbers) -> Numbers:
        """What is left of increments, shape (k, m), after those before them."""
        if not len(self._weights):
            return columns
        wanted = np.flatnonzero(self._is_whole)
        left = columns[:, wanted].copy()
        for back, weight in enumerate(self._weights, start=1):
            left -= weight * columns[:, wanted - back]
        return left

    def whiten(self, dead_s: float, lag: Lag) -> None:
        """Learn how what is left unexplained goes on, and take that out from now on."""
        response = HeldResponse(self._rows.command.times_s, self._rows.command.values, (lag,))
        told, raw = self._clear(np.stack([self._told(response, dead_s)[0], self._raw]))
        left = raw - told * (told @ raw) / max(told @ told, np.finfo(float).tiny)
        follows = np.diff(self._rows.begins, prepend=-2) == 1
        whole = np.ones(len(left), bool)
        for back in range(_REMEMBERED):
            whole[back:] &= follows[: len(follows) - back]
            whole[:back] = False
        wanted = np.flatnonzero(whole)
        if len(wanted) < 10 * _REMEMBERED:
            return
        before = np.stack([left[wanted - back] for back in range(1, _REMEMBERED + 1)], axis=1)
        self._weights = np.linalg.lstsq(before, left[wanted], rcond=None)[0]
        self._is_whole = whole
        self._cleared = self._basis()

    def misfit(self, dead_s: float, lag: Lag) -> float:
        """Share of what is left that the command still explains, at other times."""
        command = self._rows.command
        one = HeldResponse(command.times_s, command.values, (lag, NO_LAG))
        told, raw = self._clear(np.stack([self._told(one, dead_s)[0], self._raw]))
        left = raw - told * (told @ raw) / max(told @ told, np.finfo(float).tiny)
        rows = [self._told(one, dead_s + later_s)[1:] for later_s in _OF_OTHERS_S]
        basis = np.linalg.qr(self._clear(np.concatenate(rows)).T)[0]
        share = float(((basis.T @ left) ** 2).sum() / max(left @ left, np.finfo(float).tiny))
        return max(0.0, share - 2 * len(rows) / len(left))

    @property
    def kept(self) -> float:
        """Variance of the increments once they are whitened, as a share of what it was."""
        return float(self._clear(self._raw[None]).var() / self._raw.var())

    def explained(self, dead_s: float, lag: Lag) -> float:
        """Share of the increments themselves that a dead time and lag explain."""
        response = HeldResponse(self._rows.command.times_s, self._rows.command.values, (lag,))
        told = self._told(response, dead_s)[0]
        told, raw = told - told.mean(), self._raw - self._raw.mean()
        both = float(told @ told) * float(raw @ raw)
        return float((told @ raw) ** 2 / both) if both else 0.0

    def refined(self, dead_s: float, lag: Lag) -> Grid:
        """Look closer around a dead time and lag, as far as they are likely."""
        seconds, is_moving = lag.seconds, True
        for _ in range(_LOOKS):
            grid = self._near(dead_s, Lag(lag.order, seconds), _REACH_S, _FEW)
            new_s, new_lag = grid.middle(), grid.best()[1]
            is_moving = abs(new_s - dead_s) > _REACH_S / 4 or new_lag.seconds != seconds
            dead_s, seconds = new_s, new_lag.seconds
            if not is_moving:
                break
        reach_s = _REACH_S
        while True:
            grid = self._near(dead_s, Lag(lag.order, seconds), reach_s, _MANY)
            grid.misfit = self.misfit(dead_s, Lag(lag.order, seconds))
            low_s, high_s = grid.interval()
            is_inside = low_s > grid.seconds[0] and high_s < grid.seconds[-1]
            if is_inside or reach_s > LATEST_S / 2:
                return grid
            reach_s *= 2.5

    def _near(self, dead_s: float, lag: Lag, reach_s: float, powers: Sequence[int]) -> Grid:
        """Try dead times and time constants around some."""
        count = round(2 * len(powers) * _REACH_S / _STEP_S / len(_MANY))
        if lag.seconds < 2 * _STEP_S:
            all_s = lag.seconds + _STEP_S * np.arange(len(powers) + 1)
        else:
            all_s = lag.seconds * _NEAR ** np.array(powers, dtype=np.float64)
        lags = tuple(Lag(lag.order, float(each)) for each in (lag.seconds, *all_s))
        return self.evaluate(dead_s + np.linspace(-reach_s, reach_s, 2 * (count // 2) + 1), lags)
