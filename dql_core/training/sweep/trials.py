"""The trials of a sweep and what they came to.

A trial is an ordinary run. What chooses the best checkpoint of a run (`validation.rule`, or the
mean return in an environment) chooses the best trial.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dql_core.config import TrainConfig
from dql_core.documents import RUN_FILE
from dql_core.errors import CheckpointError
from dql_core.files import write_text
from dql_core.training.run_files import (
    VALIDATION_FILE,
    checkpoint_steps,
    read_records,
    read_run_info,
)
from dql_core.training.sweep.space import (
    TRIAL_FILE,
    Parameters,
    TrialDocument,
    Value,
    rule_of,
    steps_of,
)
from dql_core.training.validation import Best, best_offline, best_online

TRIAL_PREFIX = "trial-"
# Of these, larger is better.
MAXIMISED = ("judge", "mean_return")
_RETRY = "remove the trial's folder, and another one takes its place"


def trial_folder(out: Path, parameters: Parameters) -> Path:
    """Return where the trial with these values is: the same values are the same run."""
    text = json.dumps(dict(parameters), sort_keys=True)
    return out / f"{TRIAL_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Trial:
    """A trial and what it came to.

    Attributes:
        folder: Of its run.
        parameters: Its values.
        history: Of each measured checkpoint the step, and the best value up to there.
        best: Its best checkpoint, if one was measured.
        interval: 95 % ends, see `basis`; an end is ``None`` where it is not known.
        episodes: On how many the value rests.
        step: Updates up to its last checkpoint.
        finished: Whether it took all updates, and the last checkpoint was measured.
        pruned: Whether it was ended early, since others were better.
        failure: Why it failed; empty if it did not.
        diverged: Whether its critics had diverged at the end.
    """

    folder: Path
    parameters: dict[str, Value]
    history: tuple[tuple[int, float], ...]
    best: Best | None
    interval: tuple[float | None, float | None]
    episodes: int
    step: int
    finished: bool
    pruned: bool
    failure: str
    diverged: bool

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to do for it."""
        return self.finished or self.pruned or bool(self.failure)

    @classmethod
    def read(cls, folder: Path, base: TrainConfig) -> Trial:
        """Read a trial from its folder.

        Raises:
            CheckpointError: If its files are damaged, or it is a link to somewhere else.
        """
        if folder.is_symlink():
            raise CheckpointError(f"{folder}: is a symbolic link: replace it by the real folder")
        noted = TrialDocument.read(folder)
        if folder != trial_folder(folder.parent, noted.parameters):
            raise CheckpointError(
                f"{folder / TRIAL_FILE}: damaged: its values are not those of this folder's name; "
                f"{_RETRY}"
            )
        records, steps = read_records(folder / VALIDATION_FILE), checkpoint_steps(folder)
        try:
            history = tuple(_history(records, base))
            best = choose(records, base)
            interval, episodes = _certainty(records, best)
        except (LookupError, TypeError, ValueError, AttributeError) as cause:
            raise CheckpointError(
                f"{folder / VALIDATION_FILE}: damaged: {type(cause).__name__}: {cause}; {_RETRY}"
            ) from cause
        last = steps_of(base, noted.parameters)
        alarms = read_run_info(folder)["q_alarms"] if (folder / RUN_FILE).is_file() else []
        return cls(
            folder,
            noted.parameters,
            history,
            best,
            interval,
            episodes,
            steps[-1] if steps else 0,
            finished=steps[-1:] == [last] and any(each["step"] == last for each in records),
            pruned=noted.pruned,
            failure=noted.failure,
            diverged=bool(alarms) and alarms[-1].get("until") is None,
        )


def read_trials(out: Path, base: TrainConfig) -> list[Trial]:
    """Return all trials of a folder, those that have a value first, the best one leading.

    Raises:
        CheckpointError: If the files of one are damaged.
    """
    folders = sorted(path.parent for path in out.glob(f"{TRIAL_PREFIX}*/{TRIAL_FILE}"))
    trials = [Trial.read(folder, base) for folder in folders]
    sign = -1.0 if is_maximised(base) else 1.0
    return sorted(
        trials, key=lambda trial: (trial.best is None, trial.best and sign * trial.best.value)
    )


def note_end(
    folder: Path, parameters: Parameters, *, pruned: bool = False, failure: str = ""
) -> None:
    """Write down that a trial has ended before its last update."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in trial_files(parameters, pruned=pruned, failure=failure).items():
        write_text(folder / name, text)


def trial_files(
    parameters: Parameters, *, pruned: bool = False, failure: str = ""
) -> dict[str, str]:
    """Return what a trial's folder has beside the run's files: ``trial.json`` and its text."""
    document = {"parameters": dict(parameters), "pruned": pruned, "failure": failure}
    return {TRIAL_FILE: json.dumps(document, indent=2) + "\n"}


def is_maximised(config: TrainConfig) -> bool:
    """Whether larger is better of what decides among trials."""
    return rule_of(config) in MAXIMISED


def choose(records: Sequence[dict[str, Any]], config: TrainConfig) -> Best | None:
    """Return the best checkpoint of a run by what decides among trials; ``None`` without one."""
    if config.evaluation.env:
        best = best_online(records, config.evaluation.env)
    else:
        best = best_offline(records, config.validation)
    return best if best is not None and math.isfinite(best.value) else None


def _history(records: Sequence[dict[str, Any]], base: TrainConfig) -> Iterator[tuple[int, float]]:
    for number, record in enumerate(records, start=1):
        if (best := choose(records[:number], base)) is not None:
            yield record["step"], best.value


def _certainty(
    records: Sequence[dict[str, Any]], best: Best | None
) -> tuple[tuple[float | None, float | None], int]:
    """Return the interval of the best checkpoint, and on how many episodes it rests."""
    if best is None:
        return (None, None), 0
    record = next(each for each in records if each["step"] == best.step)
    if best.rule == "mean_return":
        low, high = record["online"]["mean_return_ci95"]
        return (low, high), int(record["online"]["episodes"])
    episodes = int(record["measured_on"]["episodes"])
    if best.rule == "judge":
        low, high = record["judged"]["difference"]["ci95"]
    else:
        low, high = record.get("errors_ci95", {}).get(f"held_out_{best.rule}", (None, None))
    return (low, high), episodes


def basis(config: TrainConfig, episodes: int) -> str:
    """Say what the values of trials are, and what the brackets beside them."""
    held_out = f"{episodes} held-out episodes" if episodes != 1 else "1 held-out episode"
    return {
        "judge": (
            "value: what one can count on beside what was recorded, by fitted Q evaluation on "
            f"{held_out}; brackets: 95 % interval of the difference itself"
        ),
        "td_error": (
            f"value: squared error of the critics on {held_out}, small is good; brackets: 95 % "
            "interval of its mean over such episodes"
        ),
        "value_error": (
            f"value: distance of values from returns on {held_out}, small is good; brackets: "
            "95 % interval of its mean over such episodes"
        ),
        "mean_return": (
            f"value: mean return in {config.evaluation.env} over {episodes} episodes; brackets: "
            "its 95 % interval"
        ),
    }[rule_of(config)]


def rivals(trials: Sequence[Trial]) -> int | None:
    """Return how many trials the first, the best, cannot be told from.

    Their values lie within its interval. ``None`` if it has none.
    """
    low, high = trials[0].interval
    if low is None or high is None:
        return None
    return sum(each.best is not None and low <= each.best.value <= high for each in trials[1:])
