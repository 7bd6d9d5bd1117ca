"""The episodes that policies learn from, and those that they are judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.demo.episodes import demonstrate
from benchmarks.suite.sets import SETS, Reference, TaskSet, find_set
from dql_core.data.dataset import Episode, LoadedDataset, load_dataset, write_dataset
from dql_core.data.transitions import split_episodes
from dql_core.errors import ConfigError
from dql_core.sim import SCARA_ID

ARM = "arm"
# Returns of the arm are never turned into scores.
_ARM_SET = TaskSet(ARM, SCARA_ID, Reference(0.0, 1.0), 5.0)
NAMES = (ARM, *SETS)
HELD_OUT = 0.25
DEMONSTRATIONS = 500
SEED = 0
Part = Literal["learned", "held_out", "negated"]


def find_judged_set(name: str) -> TaskSet:
    """Return a set of the suite, or the demo's arm.

    Raises:
        ConfigError: If there is none of this name.
    """
    return _ARM_SET if name == ARM else find_set(name)


@dataclass(frozen=True)
class Split:
    """A set's episodes in separate datasets; no policy learns from the held-out ones.

    Attributes:
        folder: Of the datasets ``learned``, ``held_out`` and ``negated``, which is the first with
            the sign of its rewards changed.
    """

    folder: Path

    def part(self, name: Part) -> Path:
        """Return the folder of a part."""
        return self.folder / name

    def held_out(self) -> LoadedDataset:
        """Load what policies are judged by.

        Raises:
            ConfigError: If nothing was split.
        """
        self._require("held_out")
        return load_dataset(self.part("held_out"))

    def all_episodes(self) -> Iterator[Episode]:
        """Yield what was recorded, all of it.

        Raises:
            ConfigError: If nothing was split.
        """
        for name in ("learned", "held_out"):
            self._require(name)
            yield from load_dataset(self.folder / name).episodes

    def _require(self, name: str) -> None:
        if not (self.folder / name).is_dir():
            raise ConfigError(
                f"{self.folder / name}: is not there; make it by benchmarks.judge.policies"
            )


def split(task_set: TaskSet, name: str, data: Path, folder: Path) -> Split:
    """Split a set, unless that is done; the arm's demonstrations are made first.

    Args:
        task_set: The set.
        name: Its name with the number of episodes, if it is a subset.
        data: Folder of the suite's datasets.
        folder: Where the parts go.

    Raises:
        DatasetError: If there is no such dataset.
    """
    parts = Split(folder)
    if all(parts.part(each).is_dir() for each in ("learned", "held_out", "negated")):
        return parts
    source = data / name
    if task_set is _ARM_SET:
        source = folder / "demonstrations"
        if not source.is_dir():
            demonstrate(source, SEED, DEMONSTRATIONS)
    whole = load_dataset(source)
    learned, held_out = split_episodes(whole, HELD_OUT, SEED)
    assert held_out is not None  # a share of them is
    negated = [replace(each, rewards=-np.asarray(each.rewards)) for each in learned.episodes]
    made: tuple[tuple[Part, Sequence[Episode]], ...] = (
        ("learned", learned.episodes),
        ("held_out", held_out.episodes),
        ("negated", negated),
    )
    for part, episodes in made:
        if not parts.part(part).is_dir():
            write_dataset(parts.part(part), episodes, whole.spec)
    return parts
