"""What `dql watch` shows of runs while they train, read from files that it never writes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from dql_core.config import TrainConfig
from dql_core.documents import RUN_FILE, file_within
from dql_core.errors import CheckpointError, DqlError, counted, one_line
from dql_core.live_page import Chart, Level, Line, View
from dql_core.training.run_files import (
    CONFIG_FILE,
    METRICS_FILE,
    VALIDATION_FILE,
    checkpoint_steps,
    read_best,
    read_config,
    read_records_from,
    read_run_info,
)
from dql_core.training.sweep.space import TRIAL_FILE, TrialDocument

ALONG = "updates"
Record = dict[str, Any]
# Parts of a record of a checkpoint whose numbers are shown, and how that is told; its own first.
_PARTS = {"": "", "judged": " (judged)", "online": " (in the environment)"}
_SPEED = "updates_per_s"
# Compiling, and measuring a checkpoint, may take so long.
SILENT_S = 900.0
# More records of a file than this are not kept; a chart shows fewer points.
MOST_KEPT = 4096
# Whether a file is another one: inode, time of its last change, size.
Stamp = tuple[int, int, int]


class RunView:
    """Looks at a run, or at the runs in a folder, as those of several seeds."""

    def __init__(self, folder: Path) -> None:
        """Find the runs.

        Raises:
            CheckpointError: If there is none.
        """
        self._folder = folder
        self._runs: dict[str, _Run] = {}
        if not self._found():
            raise CheckpointError(
                f"{folder}: holds no run of 'dql train' (no {RUN_FILE}, nor a folder with one)"
            )

    def __call__(self) -> View:
        """Return how they go now.

        Raises:
            DqlError: If a file of theirs is damaged.
        """
        runs = dict(self._found())
        broken: list[str] = []
        states: list[tuple[str, Level]] = []
        remarks: list[str] = []
        for name, run in list(runs.items()):
            try:
                state, found = run.state(), run.remarks()
            except DqlError as error:
                if not name:
                    raise
                broken.append(one_line(error))
                del runs[name]
                continue
            states.append(state)
            remarks += [f"{name}: {each}" for each in (state[0], *found)] if name else found
        if not runs:
            raise CheckpointError(f"{self._folder}: {'; '.join(broken) or 'no run is left'}")
        words, levels = zip(*states, strict=True)
        return View(
            title=str(self._folder),
            state=words[0] if len(words) == 1 else _together(words),
            level="error" if broken else max(levels, key=_LEVELS.index),
            remarks=[*broken, *remarks],
            facts=[fact for name, run in runs.items() for fact in run.facts(name)],
            charts=list(_charts(runs)),
        )

    def _found(self) -> Mapping[str, _Run]:
        """Return the runs by name; one alone needs none. A run may begin while one looks."""
        own = self._folder / RUN_FILE
        paths = [own] if own.is_file() else sorted(self._folder.glob(f"*/{RUN_FILE}"))
        names = {"" if path == own else path.parent.name: path.parent for path in paths}
        self._runs = {name: self._runs.get(name) or _Run(folder) for name, folder in names.items()}
        return self._runs


@dataclass
class _Run:
    folder: Path
    _read: dict[str, _Records] = field(default_factory=dict)
    _config: tuple[Stamp, TrainConfig] | None = None

    @property
    def metrics(self) -> Sequence[Record]:
        """The readings, one a step, thinned evenly if they are many."""
        return self._records(METRICS_FILE)

    @property
    def checkpoints(self) -> Sequence[Record]:
        """What was measured of checkpoints."""
        return self._records(VALIDATION_FILE)

    @property
    def config(self) -> TrainConfig:
        """What it was started with."""
        path = file_within(self.folder, CONFIG_FILE, CheckpointError)
        stamp = _stamp(path)
        if self._config is None or self._config[0] != stamp:
            self._config = stamp, read_config(path)
        return self._config[1]

    def state(self) -> tuple[str, Level]:
        """Return how it goes, and how bad that is."""
        info, step, steps = read_run_info(self.folder), self._step(), self.config.run.steps
        trial = self._trial()
        if failure := info.get("failure") or trial.failure:
            return f"failed: {failure}", "error"
        done = f"{step:,} of {steps:,} updates"
        if any(alarm.get("until") is None for alarm in info["q_alarms"]):
            return (
                f"the critics diverge since update {info['q_alarms'][-1]['step']:,}; {done}",
                "warn",
            )
        if checkpoint_steps(self.folder)[-1:] == [steps]:
            return f"finished: {done}", "ok"
        if trial.pruned:
            return f"ended early, since other trials were better: {done}", "ok"
        silent_s = self._silent_s()
        told = f"{done}; last reading {_duration(silent_s)} ago"
        # Between two readings a checkpoint may be measured.
        return told, "warn" if silent_s > SILENT_S + 10 * self._usual_s() else "ok"

    def remarks(self) -> list[str]:
        """Say which checkpoint is the best so far, and why."""
        best = read_best(self.folder)
        return [
            f"{name}: update {chosen['step']:,}: {chosen['criterion']}"
            for name, chosen in best.items()
            if _is_number(chosen.get("step")) and "criterion" in chosen
        ]

    def facts(self, name: str) -> list[tuple[str, str | float | None]]:
        """Return the numbers in figures, each with the name of the run if it has one."""
        before = f"{name}: " if name else ""
        speed = self.metrics[-1].get(_SPEED, 0.0) if self.metrics else 0.0
        left = self.config.run.steps - self._step()
        found: list[tuple[str, str | float | None]] = [(f"{before}updates", self._step())]
        if _is_number(speed) and speed > 0 and left > 0 and not self._trial().pruned:
            found += [(f"{before}updates per second", speed)]
            found += [(f"{before}left, without measuring", _duration(left / speed))]
        return [*found, (f"{before}checkpoints", len(checkpoint_steps(self.folder)))]

    def _trial(self) -> TrialDocument:
        """What is known of it as a trial of a sweep; of another run, nothing."""
        if not (self.folder / TRIAL_FILE).is_file():
            return TrialDocument(parameters={})
        return TrialDocument.read(self.folder)

    def _step(self) -> int:
        return max(
            (each[-1]["step"] for each in (self.metrics, self.checkpoints) if each), default=0
        )

    def _silent_s(self) -> float:
        paths = [self.folder / name for name in (METRICS_FILE, VALIDATION_FILE, RUN_FILE)]
        newest = max((path.lstat().st_mtime for path in paths if path.is_file()), default=0.0)
        return max(0.0, time.time() - newest)

    def _usual_s(self) -> float:
        """How long it is from one reading to the next."""
        speed = self.metrics[-1].get(_SPEED) if self.metrics else None
        return self.config.run.log_every / speed if _is_number(speed) and speed > 0 else 0.0

    def _records(self, name: str) -> Sequence[Record]:
        """Read what is new in a file of records."""
        path = self.folder / name
        if not os.path.lexists(path):
            return ()
        known = self._read.get(name)
        if known is None or not known.goes_on(path):
            known = _Records()
            known.goes_on(path)
        self._read[name] = known
        return known.records


@dataclass
class _Records:
    """Some records of a file that grows: every n-th, and the last."""

    _kept: list[Record] = field(default_factory=list)
    _last: list[Record] = field(default_factory=list)
    _begin: int = 0  # of the last, in bytes
    _count: int = 0
    _stride: int = 1

    @property
    def records(self) -> Sequence[Record]:
        """Those that are kept, in their order."""
        return self._kept if self._is_kept(self._count - 1) else [*self._kept, *self._last]

    def goes_on(self, path: Path) -> bool:
        """Read what was added; return whether it was, to the same file.

        Raises:
            CheckpointError: If it is damaged, when it is read for the first time.
        """
        try:
            records, begin = read_records_from(path, self._begin)
        except CheckpointError:
            if not self._count:
                raise
            return False
        if records[: len(self._last)] != self._last:
            return False
        for record in records[len(self._last) :]:
            if self._is_kept(self._count):
                self._kept.append(record)
            self._count += 1
            if len(self._kept) > MOST_KEPT:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._last, self._begin = records[-1:], begin
        return True

    def _is_kept(self, number: int) -> bool:
        return number % self._stride == 0


_LEVELS: tuple[Level, ...] = ("ok", "warn", "error")


def _charts(runs: Mapping[str, _Run]) -> Iterator[Chart]:
    """Yield what was measured of checkpoints, and then what was read in between."""
    for kind in (_checkpoint_values, _reading_values):
        values = {name: kind(run) for name, run in runs.items()}
        titles = dict.fromkeys(title for found in values.values() for title in found)
        for title in titles:
            lines = [
                _line(name, found[title]).thinned()
                for name, found in values.items()
                if title in found
            ]
            marks = _marks(runs) if kind is _checkpoint_values else ()
            yield Chart(title, ALONG, lines, marks=marks)


Point = tuple[int, float | None, float | None, float | None]


def _line(name: str, points: Sequence[Point]) -> Line:
    x, y, low, high = zip(*points, strict=True)
    has_interval = any(each is not None for each in (*low, *high))
    return Line(name, x, y, low if has_interval else (), high if has_interval else ())


def _reading_values(run: _Run) -> dict[str, list[Point]]:
    return _points((record["step"], record, "") for record in run.metrics)


def _checkpoint_values(run: _Run) -> dict[str, list[Point]]:
    return _points(
        (record["step"], record.get(part) if part else record, f"{word} of checkpoints")
        for record in run.checkpoints
        for part, word in _PARTS.items()
    )


def _points(parts: Iterable[tuple[int, Any, str]]) -> dict[str, list[Point]]:
    """Collect the numbers of steps by the titles of their charts, of which a part is given."""
    found: dict[str, list[Point]] = {}
    for step, part, word in parts:
        for key, (value, ends) in _numbers(part).items():
            found.setdefault(f"{_words(key)}{word}", []).append((step, value, *ends))
    return found


def _numbers(record: Any) -> dict[str, tuple[float, tuple[float | None, float | None]]]:
    """Return the numbers of a record, each with its interval if it has one."""
    found: dict[str, tuple[float, tuple[float | None, float | None]]] = {}
    for key, value in record.items() if isinstance(record, dict) else ():
        estimate = value if isinstance(value, dict) else {"mean": value}
        if key != "step" and _is_number(mean := estimate.get("mean")):
            found[key] = (mean, _ends(estimate.get("ci95", record.get(f"{key}_ci95"))))
    return found


def _ends(interval: object) -> tuple[float | None, float | None]:
    if not (isinstance(interval, list) and len(interval) == 2):
        return None, None
    low, high = (each if _is_number(each) else None for each in interval)
    return low, high


def _marks(runs: Mapping[str, _Run]) -> list[tuple[float, str]]:
    """Return where the best checkpoint of a single run is."""
    if len(runs) > 1:
        return []
    best = {name: each for run in runs.values() for name, each in read_best(run.folder).items()}
    steps = [(best.get(name, {}).get("step"), name) for name in ("best_offline", "best_online")]
    return [(step, name) for step, name in steps if _is_number(step)]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _stamp(path: Path) -> Stamp:
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _words(key: str) -> str:
    return key.replace("_", " ")


def _together(states: Sequence[str]) -> str:
    finished = sum(state.startswith("finished") for state in states)
    failed = sum(state.startswith("failed") for state in states)
    ended = sum(state.startswith("ended early") for state in states)
    told = f"{counted(len(states), 'run')}: {finished} finished"
    told += f", {ended} ended early" if ended else ""
    return f"{told}, {failed} failed" if failed else told


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
