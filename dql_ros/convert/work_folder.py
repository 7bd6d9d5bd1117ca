"""The folder of a conversion under way: one finished result a bag, so that it can be resumed."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dql_core.data.dataset import Episode
from dql_core.documents import read_json
from dql_core.errors import BagError, DatasetError
from dql_core.files import write_text
from dql_core.leftovers import remove_partial
from dql_core.rewards.call import source_sha256
from dql_ros import __version__
from dql_ros.bag.storage.message_folders import message_folders
from dql_ros.contract import Contract, Predicate
from dql_ros.convert.bag_job import EPISODES, RESULT, BagJob, read_episodes
from dql_ros.convert.bag_result import BagResult

# Written by the main process alone when a bag is done: what its result depends on.
IDENTITY = "identity.json"
LOCK = "lock"
# A bag of a million episodes has some hundred megabytes of rows.
MAX_RESULT_BYTES = 1 << 30
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class WorkFolder:
    """Folders beside the dataset to be, one a bag.

    Attributes:
        folder: Where they lie.

    Args:
        out: The folder of the dataset.
        bags: How many bags are to be converted.
        dry_run: Keep out of the way of a conversion that was interrupted.
    """

    def __init__(self, out: Path, bags: int, *, dry_run: bool = False) -> None:
        self.folder = out.with_name(f".{out.name}.{'dry-run' if dry_run else 'parts'}")
        self._bags = bags
        self._dry_run = dry_run
        # A worker that outlives its killed main process has no folder in the next conversion.
        self._run = secrets.token_hex(4)
        self._identities: dict[Path, dict[str, Any]] = {}
        self._missing = [parent for parent in out.parents if not parent.exists()]
        self._out = out

    @property
    def kept(self) -> str:
        """How many bags are done and need not be converted again, in words; empty if none."""
        # Counted where they lie: an interruption may come between writing and counting one.
        finished = 0 if self._dry_run else sum(1 for _ in self._finished())
        if not finished:
            return ""
        return f"; {finished} of {self._bags} bags are done, continue with --resume"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep other conversions to the same folder out, and remove at the end what is no use.

        Raises:
            DatasetError: If one is under way, or somebody else made their folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._require_own()
        lock = os.open(self.folder / LOCK, _LOCK_FLAGS, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            os.close(lock)
            raise DatasetError(
                f"{self._out}: another dql convert is writing this folder: wait until it "
                f"finishes, or name another --out folder"
            ) from cause
        except OSError:  # a file system without locks
            pass
        remove_partial(self._out.parent, glob.escape(self._out.name))
        try:
            yield
        finally:
            self._remove_unfinished()
            os.close(lock)

    def folder_of(self, bag: Path) -> Path:
        """Folder of a bag's result."""
        return self.folder / f"{_key(bag)}.{self._run}"

    def take_over(self, job: BagJob) -> bool:
        """Take the result of a bag that was converted before, in the same way, without failing."""
        for folder in self.folder.glob(f"{_key(job.bag)}.*"):
            try:
                known = read_json(folder / IDENTITY, BagError)
                result = BagResult.from_json(
                    read_json(folder / RESULT, BagError, MAX_RESULT_BYTES)
                )
            except BagError:
                continue
            # What could be read whole is the same with --salvage and without.
            same = known == _identity(job) and (job.salvage or not result.losses)
            if same and result.error is None:
                folder.rename(job.folder)
                return True
        return False

    def begin(self, jobs: Sequence[BagJob], *, resume: bool) -> None:
        """Prepare the folders of the bags that are to be converted.

        Args:
            jobs: The bags.
            resume: Keep what earlier conversions have finished.
        """
        if not resume:
            for folder in self._folders():
                shutil.rmtree(folder, ignore_errors=True)
        for job in jobs:
            self._identities[job.folder] = _identity(job)
            job.folder.mkdir()

    def finish(self, job: BagJob) -> None:
        """Note that a bag is done."""
        write_text(job.folder / IDENTITY, json.dumps(self._identities[job.folder]))

    def read(self, job: BagJob) -> BagResult:
        """Return the result of a bag that is converted."""
        document = read_json(job.folder / RESULT, BagError, MAX_RESULT_BYTES)
        result = BagResult.from_json(document, str(job.folder))
        return result.model_copy(update={"bag": str(job.bag)})

    def episodes(self, jobs: Sequence[BagJob], results: Sequence[BagResult]) -> Iterator[Episode]:
        """Yield the episodes of all bags in their order, one in memory at a time."""
        for job, result in zip(jobs, results, strict=True):
            if result.error is None:
                yield from read_episodes(job.folder / EPISODES)

    def discard(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self._missing:
            with suppress(OSError):  # it holds something: the dataset
                folder.rmdir()

    def _require_own(self) -> None:
        """Refuse a folder that another user put there, or a link: their results are not ours."""
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise DatasetError(
                f"{self.folder}: this folder for partial results belongs to another user or is a "
                f"link: delete it, or choose another --out folder"
            )

    def _remove_unfinished(self) -> None:
        for folder in self._folders():
            if not (folder / IDENTITY).is_file():
                shutil.rmtree(folder, ignore_errors=True)
        if self._dry_run or not any(self._folders()):
            self.discard()

    def _finished(self) -> Iterator[Path]:
        """Folders of this conversion's bags that are done and did not fail."""
        for identity in self.folder.glob(f"*.{self._run}/{IDENTITY}"):
            document = read_json(identity.with_name(RESULT), BagError, MAX_RESULT_BYTES)
            if BagResult.from_json(document).error is None:
                yield identity.parent

    def _folders(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("*") if path.is_dir())


def _key(bag: Path) -> str:
    return hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:16]


def _identity(job: BagJob) -> dict[str, Any]:
    """What a bag's result depends on."""
    files = sorted(job.bag.iterdir()) if job.bag.is_dir() else [job.bag]
    stats = {file.name: file.stat() for file in files if file.is_file()}  # none: no such bag
    return {
        "version": __version__,
        "contract": job.contract.hash(),
        "takeover": job.contract.takeover and job.contract.takeover.model_dump(mode="json"),
        "functions": function_hashes(job.contract),
        "namespace": job.namespace,
        "msgs": message_folders(job.msgs).identity,
        "files": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
    }


def function_hashes(contract: Contract) -> dict[str, str]:
    """Return the SHA-256 of the source of each function that a contract names, by its name."""
    terminated = contract.episode.terminated
    named = [function.function for function in contract.reward_functions]
    named += [terminated.function] if isinstance(terminated, Predicate) else []
    return {name: source_sha256(name) for name in named}
