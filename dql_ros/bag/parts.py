"""The folder of a conversion under way: one finished part a bag, so that it can be resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dql_core.atomic import write_text
from dql_core.data.dataset import Episode
from dql_core.errors import BagError
from dql_core.rewards.lookup import source_sha256
from dql_ros import __version__
from dql_ros.bag.bag_job import EPISODES, PART, BagJob
from dql_ros.bag.bag_part import BagPart
from dql_ros.bag.episode_file import read_episodes
from dql_ros.contract import Contract, Predicate

IDENTITY = "identity.json"


class Parts:
    """Folders beside the dataset to be, one a bag.

    Attributes:
        folder: Where they lie.

    Args:
        out: The folder of the dataset.
        resume: Keep what an interrupted conversion has finished.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.folder = out.absolute().with_name(f".{out.name}.parts")
        if not resume:
            self.discard()

    def folder_of(self, bag: Path) -> Path:
        """Folder of a bag's part."""
        name = hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:16]
        return self.folder / name

    def finished(self, job: BagJob) -> BagPart | None:
        """Return the part of a bag that was converted before, in the same way, without failing."""
        try:
            known = json.loads((job.folder / IDENTITY).read_text())
            part = BagPart.from_json(json.loads((job.folder / PART).read_text()))
        except (OSError, ValueError, BagError):
            return None
        if known != _identity(job) or part.error is not None:
            return None
        return part

    def read(self, job: BagJob) -> BagPart:
        """Return the part of a bag that is converted."""
        part = BagPart.from_json(json.loads((job.folder / PART).read_text()), str(job.folder))
        return part.model_copy(update={"bag": str(job.bag)})

    def begin(self, job: BagJob) -> None:
        """Prepare the folder of a bag, and note what its part will depend on."""
        shutil.rmtree(job.folder, ignore_errors=True)
        job.folder.mkdir(parents=True)
        write_text(job.folder / IDENTITY, json.dumps(_identity(job)))

    def episodes(self, jobs: Sequence[BagJob], parts: Sequence[BagPart]) -> Iterator[Episode]:
        """Yield the episodes of all bags in their order, one in memory at a time."""
        for job, part in zip(jobs, parts, strict=True):
            if part.error is None:
                yield from read_episodes(job.folder / EPISODES)

    def keep_finished(self) -> int:
        """Remove what is not finished, and return how many parts are left."""
        for folder in self.folder.glob("*"):
            if not (folder / PART).is_file():
                shutil.rmtree(folder, ignore_errors=True)
        left = sum(1 for _ in self.folder.glob("*"))
        if not left:
            self.discard()
        return left

    def discard(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _identity(job: BagJob) -> dict[str, Any]:
    """What a bag's part depends on."""
    files = sorted(job.bag.iterdir()) if job.bag.is_dir() else [job.bag]
    stats = {file.name: file.stat() for file in files if file.is_file()}  # none: no such bag
    return {
        "version": __version__,
        "contract": job.contract.hash(),
        "functions": _function_hashes(job.contract),
        "namespace": job.namespace,
        "salvage": job.salvage,
        "files": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
    }


def _function_hashes(contract: Contract) -> dict[str, str | None]:
    terminated = contract.episode.terminated
    named = [function.function for function in contract.reward_functions]
    named += [terminated.function] if isinstance(terminated, Predicate) else []
    return {name: source_sha256(name) for name in named}
