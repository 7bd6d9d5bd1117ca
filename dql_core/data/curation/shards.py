"""Shards of a conversion: datasets of its bags in order; joined, what one process makes of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from dql_core.data.dataset import Episode, episode_of, write_dataset
from dql_core.data.episode_reader import HDF5_FILE, EpisodeReader
from dql_core.data.infos import INTERVENTION, SUCCESS
from dql_core.data.metadata import (
    INPUTS_KEY,
    INPUTS_NAME,
    LINEAGE_KEY,
    METADATA_FILE,
    RELABEL_KEY,
    SHARD_KEY,
    metadata_of,
)
from dql_core.documents import file_within, parse_json
from dql_core.errors import ConfigError, DatasetError, listed
from dql_core.spec import CONTRACT_KEY, PolicySpec

Item = TypeVar("Item")
MAX_SHARDS = 1_000_000
_REMEDY = "convert all shards with one contract"


@dataclass(frozen=True)
class Shard:
    """Which part of a list is one's own.

    Attributes:
        number: From 1 to ``of``.
        of: How many parts there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/4``.

        Raises:
            ConfigError: If it is not a number from 1 on, a slash, and how many there are.
        """
        number, _, of = text.partition("/")
        digits = len(str(MAX_SHARDS))
        are_numbers = all(each.isdecimal() and len(each) <= digits for each in (number, of))
        if not (are_numbers and 1 <= int(number) <= int(of) <= MAX_SHARDS):
            raise ConfigError(
                f"--shard {text:.40}: is not NUMBER/OF with a number from 1 to OF, which is at "
                f"most {MAX_SHARDS:,}; the second of four is 2/4"
            )
        return cls(int(number), int(of))

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items that are one's own: neighbours, as many as any other's or one more."""
        begin, end = (len(items) * place // self.of for place in (self.number - 1, self.number))
        return items[begin:end]

    def metadata(self, names: Sequence[str]) -> dict[str, str]:
        """Return what a dataset says of being a shard.

        Args:
            names: Of all that was divided, in the order in which it was, with what tells it from
                others of that name; and in what manner it is converted.
        """
        # Shards of lists in another order would have some bags twice, and others not at all.
        sha256 = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
        return {SHARD_KEY: json.dumps({"number": self.number, "of": self.of, "list": sha256})}


@dataclass(frozen=True)
class Division:
    """The shards of one conversion among some datasets.

    Attributes:
        of: How many it has.
        places: Where each of those that are there is, by its number.
    """

    of: int
    places: Mapping[int, int]

    @property
    def missing(self) -> list[int]:
        """Numbers of those that are not there."""
        return [number for number in range(1, self.of + 1) if number not in self.places]


def find_division(documents: Sequence[Mapping[str, Any]]) -> Division | None:
    """Tell whether datasets are shards of one conversion, each once and as it came out of it.

    Args:
        documents: The metadata of each.
    """
    numbers, conversions = zip(*(_shard_of(each) for each in documents), strict=True)
    if None in numbers or len(set(conversions)) > 1 or len(set(numbers)) < len(numbers):
        return None
    places = {number: place for place, number in enumerate(numbers)}
    of, *_ = conversions[0]
    return Division(of, places)


def are_of_several(documents: Sequence[Mapping[str, Any]]) -> bool:
    """Whether datasets are shards as they came out of conversions, of which there are several."""
    numbers, conversions = zip(*(_shard_of(each) for each in documents), strict=True)
    return None not in numbers and len(set(conversions)) > 1


def not_here(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the shards that are missing of each conversion of which there are some."""
    found: dict[tuple[Any, ...], set[int]] = {}
    for number, conversion in map(_shard_of, documents):
        if number is not None:
            found.setdefault(conversion, set()).add(number)
    notes = []
    for (of, *_), numbers in found.items():
        if missing := [str(each) for each in range(1, of + 1) if each not in numbers]:
            notes.append(f"of the conversion's {of} shards not here: {listed(missing, 8)}")
    return notes


def is_empty_shard(data_path: Path, where: str) -> bool:
    """Whether a dataset is a shard, as it came out of a conversion, whose bags had no episode.

    Args:
        data_path: Its data folder, absolute.
        where: Its name, for messages.

    Raises:
        DatasetError: If it says that it has no episode, and has something.
    """
    document = metadata_of(data_path)
    if _shard_of(document)[0] is None or document.get("total_episodes") != 0:
        return False
    held = file_within(data_path, HDF5_FILE, DatasetError).stat().st_size  # of no episode, none
    if held or document.get("total_steps") != 0:
        raise DatasetError(
            f"{where}: damaged: 'total_episodes' in {METADATA_FILE} is 0, 'total_steps' is "
            f"{document.get('total_steps')!r:.40}, and {HDF5_FILE} has {held:,} bytes; convert "
            f"this shard again"
        )
    return True


def without_episodes(shard: str | Path) -> DatasetError:
    """Return the refusal of shards of which none has an episode; it names the first one."""
    return DatasetError(
        f"{shard}: neither this shard nor another one has an episode: look at the shards' reports"
    )


def _shard_of(document: Mapping[str, Any]) -> tuple[int | None, tuple[Any, ...]]:
    """Return a shard's number, and what all shards of its conversion have in common."""
    text = document.get(SHARD_KEY)
    if not isinstance(text, str) or LINEAGE_KEY in document or RELABEL_KEY in document:
        return None, ()
    facts = parse_json(text, f"'{SHARD_KEY}' in {METADATA_FILE}", DatasetError)
    number, of, names = (facts.get(key) for key in ("number", "of", "list"))
    if type(number) is not int or type(of) is not int or not 1 <= number <= of <= MAX_SHARDS:
        return None, ()
    shared = names, document.get(CONTRACT_KEY), document.get("description")
    return number, (of, *map(json.dumps, shared))


def join_shards(
    data_paths: Sequence[Path], folder: Path, progress: Callable[[int, int], None]
) -> tuple[int, int]:
    """Write the dataset that one process makes of all bags, to the byte.

    Args:
        data_paths: The data folders of all shards in their order, absolute.
        folder: Where ``data/`` is to be.
        progress: Called after each episode with how many of how many are done.

    Returns:
        How many episodes and transitions it has.

    Raises:
        DatasetError: If one is damaged, or none has an episode.
        SpecMismatchError: If their numbers mean different things.
    """
    documents = [metadata_of(path) for path in data_paths]
    filled = [path for path in data_paths if not is_empty_shard(path, str(path))]
    if not filled:
        raise without_episodes(data_paths[0])
    readers = [EpisodeReader(path, str(path), infos=(INTERVENTION, SUCCESS)) for path in filled]
    metadata = [reader.metadata for reader in readers]
    for each, path in zip(metadata, filled, strict=True):
        metadata[0].spec.require_same_meaning(each.spec, str(filled[0]), str(path), _REMEDY)
    inputs = [
        parse_json(str(each.get(INPUTS_KEY)), INPUTS_NAME, DatasetError) for each in documents
    ]
    steps = sum(each.total_steps for each in metadata)
    total = sum(each.total_episodes for each in metadata)
    write_dataset(
        folder,
        _episodes(readers, total, progress),
        reduce(PolicySpec.joined, (each.spec for each in metadata)),
        description=str(documents[0].get("description")),
        extra_metadata={
            CONTRACT_KEY: documents[0].get(CONTRACT_KEY),
            INPUTS_KEY: json.dumps({bag: files for each in inputs for bag, files in each.items()}),
        },
    )
    return total, steps


def _episodes(
    readers: Sequence[EpisodeReader], total: int, progress: Callable[[int, int], None]
) -> Iterator[Episode]:
    done = 0
    for reader in readers:
        for stored in reader:
            yield episode_of(stored, reader.where)
            done += 1
            progress(done, total)
