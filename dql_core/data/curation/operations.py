"""Makes new datasets of finished ones, which stay as they are: merge, keep, drop, trim, split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minari
import numpy as np

from dql_core.data.curation.copying import EpisodeCopier, Pick
from dql_core.data.curation.joining import joined_metadata
from dql_core.data.curation.lineage import (
    Contents,
    Ingredient,
    counted_twice,
    dataset_sha256,
    lineage,
)
from dql_core.data.curation.rules import CHOSEN_BY, EpisodeFacts, Rules, numbers_text
from dql_core.data.curation.shards import (
    are_of_several,
    find_division,
    is_empty_shard,
    join_shards,
    not_here,
    without_episodes,
)
from dql_core.data.dataset import DATA_FOLDER, episode_digest, find_dataset, require_outside
from dql_core.data.episode_reader import EpisodeReader
from dql_core.data.metadata import LINEAGE_KEY, DatasetMetadata, metadata_of
from dql_core.errors import ConfigError, DatasetError, counted
from dql_core.files import atomic_directory

Progress = Callable[[int, int], None]
_SILENT: Progress = lambda done, total: None  # noqa: E731
_JOINED = "these are all shards of one conversion: the dataset is the one of a single process"
_PART_NAME = re.compile(r"[A-Za-z0-9][-_A-Za-z0-9]{0,63}")


@dataclass(frozen=True)
class StoredDataset:
    """A dataset that was read through, of which only the facts are in memory.

    Attributes:
        source: Its name, as it was given.
        data_path: Its data folder, absolute.
        metadata: What it says of itself.
        episodes: The facts of each of its episodes.
        sha256: Of its files.
        digests: `episode_digest` of each of its episodes.
    """

    source: str
    data_path: Path
    metadata: DatasetMetadata
    episodes: tuple[EpisodeFacts, ...]
    sha256: str
    digests: tuple[bytes, ...]

    def picks(self, numbers: Sequence[int]) -> list[Pick]:
        """Return whole episodes by number."""
        return [Pick(number, self.episodes[number].length) for number in numbers]

    def ingredient(self, picks: Sequence[Pick]) -> Ingredient:
        """Return what the lineage says of it, of which these episodes are taken."""
        numbers = numbers_text(pick.episode for pick in picks)
        return Ingredient(self.source, self.sha256, numbers, self.metadata.document)


@dataclass(frozen=True)
class Made:
    """A dataset that was made.

    Attributes:
        out: Its folder.
        episodes: How many episodes it has.
        transitions: How many transitions.
        of_episodes: How many episodes the inputs had together.
        of_transitions: How many transitions these had.
        notes: What a user must not miss, one line each.
    """

    out: Path
    episodes: int
    transitions: int
    of_episodes: int
    of_transitions: int
    notes: tuple[str, ...] = ()


def open_stored(
    source: str | Path, progress: Progress = _SILENT, *, bounds_matter: bool = False
) -> StoredDataset:
    """Read a dataset through, episode by episode, and keep the facts.

    Args:
        source: The folder that holds ``data/``, the data folder itself, or a local Minari id.
        bounds_matter: Refuse an action space without finite bounds.
        progress: Called after each episode with how many of how many are done.

    Raises:
        DatasetError: If there is no such dataset, or it is damaged.
    """
    data_path = find_dataset(source).absolute()
    reader = EpisodeReader(data_path, str(source), bounds_matter=bounds_matter, infos=CHOSEN_BY)
    facts, digests = [], []
    for stored in reader:
        facts.append(EpisodeFacts.of(stored))
        digests.append(episode_digest(stored.episode))
        progress(len(facts), reader.metadata.total_episodes)
    return StoredDataset(
        str(source),
        data_path,
        reader.metadata,
        tuple(facts),
        dataset_sha256(data_path),
        tuple(digests),
    )


def merge_datasets(sources: Sequence[str | Path], out: Path, progress: Progress = _SILENT) -> Made:
    """Join datasets whose numbers mean the same, one behind the other.

    Limits may differ, of which the looser ones hold, as in a training on several datasets. All
    shards of one conversion, in any order, give the dataset that one process makes, to the byte.

    Args:
        sources: Two or more, or the only shard of a conversion; see `open_stored`.
        out: The folder to make, with the dataset in ``data/``; it appears whole or not at all.
        progress: As for `open_stored`, of each dataset.

    Raises:
        DatasetError: If one cannot be read or is named twice, or ``out`` holds something.
        SpecMismatchError: If their numbers mean different things, naming each key and both values.
    """
    places = [find_dataset(source).resolve() for source in sources]
    for source, place in zip(sources, places, strict=True):
        if places.count(place) > 1:
            raise DatasetError(f"{source}: named twice; name each dataset once")
    documents = [metadata_of(place) for place in places]
    division = find_division(documents) if documents else None
    if len(sources) < 2 and (division is None or division.missing):
        raise ConfigError("merge joins two datasets or more; name another one")
    with _new_folder(out, sources) as folder:
        if division is None or division.missing:
            return _merge(dict(zip(sources, documents, strict=True)), out, folder, progress)
        ordered = [places[division.places[number]] for number in sorted(division.places)]
        counts = join_shards(ordered, folder, progress)
    return Made(out, *counts, *counts, (_JOINED,))


def _merge(
    documents: Mapping[str | Path, Mapping[str, Any]],
    out: Path,
    folder: Path,
    progress: Progress,
) -> Made:
    """Join datasets, by their names with their metadata, as they are."""
    empty = [
        source
        for source in documents
        if is_empty_shard(find_dataset(source).absolute(), str(source))
    ]
    filled = [source for source in documents if source not in empty]
    if not filled:
        raise without_episodes(empty[0])
    stored = [open_stored(source, progress, bounds_matter=True) for source in filled]
    document, notes = joined_metadata([(each.source, each.metadata) for each in stored])
    notes += [f"{source}: a shard without an episode, which adds nothing" for source in empty]
    if are_of_several(list(documents.values())):
        notes.append(
            "these are shards of several conversions (other bags or paths, another order, "
            "contract, function, namespace, version or number of shards): they are joined as any "
            "other datasets"
        )
    notes += counted_twice(
        [
            Contents(each.source, each.sha256, each.metadata.document, each.digests)
            for each in stored
        ]
    )
    notes += not_here(list(documents.values()))
    parts = [(each, each.picks(range(len(each.episodes)))) for each in stored]
    _write(folder, "merge", {}, parts, document)
    return _made(out, parts, notes)


def choose_episodes(
    source: str | Path, rules: Rules, out: Path, *, drop: bool, progress: Progress = _SILENT
) -> Made:
    """Copy the episodes that rules select, or all others.

    Args:
        source: See `open_stored`.
        rules: At least one is given.
        out: As for `merge_datasets`.
        drop: Leave those out that are selected, instead of the others.
        progress: As for `open_stored`.

    Raises:
        ConfigError: If no rule is given.
        DatasetError: If the dataset cannot be read, a rule goes by what it has not got, nothing
            would be left, or ``out`` holds something.
    """
    operation = "drop" if drop else "keep"
    if not rules.given():
        raise ConfigError(
            f"{operation} needs a rule that says which episodes, such as --episode 0-4,7; see "
            f"'dql dataset {operation} --help'"
        )
    with _new_folder(out, [source]) as folder:
        stored = open_stored(source, progress)
        selected = set(rules.choose(stored.episodes, stored.source))
        numbers = [each.number for each in stored.episodes if (each.number in selected) != drop]
        if not numbers:
            raise DatasetError(
                f"{stored.source}: {'every' if drop else 'no'} episode of "
                f"{len(stored.episodes):,} is selected by {rules_text(rules)}, so that nothing "
                f"would be left; change the rules"
            )
        parts = [(stored, stored.picks(numbers))]
        _write(folder, operation, rules.given(), parts, stored.metadata.document)
    return _made(out, parts, _unknown(stored.episodes, rules))


def trim_episodes(
    source: str | Path,
    rules: Rules,
    out: Path,
    *,
    begin: int = 0,
    end: int = 0,
    progress: Progress = _SILENT,
) -> Made:
    """Cut steps off the beginning and the end of episodes; the other episodes stay whole.

    An episode that is cut at its end is truncated, not terminated: its recording goes no further,
    and what followed had a value.

    Args:
        source: See `open_stored`.
        rules: Which episodes are cut; all if none is given.
        out: As for `merge_datasets`.
        begin: How many steps are cut off at the beginning.
        end: How many at the end.
        progress: As for `open_stored`.

    Raises:
        ConfigError: If nothing is to be cut.
        DatasetError: If an episode is too short to be cut so, the dataset cannot be read, a rule
            goes by what it has not got, or ``out`` holds something.
    """
    if min(begin, end) < 0 or begin + end == 0:
        raise ConfigError("trim needs --begin or --end, a number of steps to cut off")
    with _new_folder(out, [source]) as folder:
        stored = open_stored(source, progress)
        selected = rules.choose(stored.episodes, stored.source)
        picks = _cut(stored, set(selected), begin, end)
        arguments = {**rules.given(), "begin": begin, "end": end}
        _write(folder, "trim", arguments, [(stored, picks)], stored.metadata.document)
    notes = [
        f"cut: {counted(len(selected), 'episode')} of {len(picks):,}",
        *_unknown(stored.episodes, rules),
    ]
    ended = [number for number in selected if stored.episodes[number].terminated]
    if end and ended:
        notes.append(
            f"{counted(len(ended), 'episode')} terminated before and now count as truncated"
        )
    return _made(out, [(stored, picks)], notes)


def _cut(stored: StoredDataset, selected: set[int], begin: int, end: int) -> list[Pick]:
    """Return all episodes, those that are selected without their first and last steps."""
    short = [number for number in selected if stored.episodes[number].length <= begin + end]
    if short:
        raise DatasetError(
            f"{stored.source}: nothing would be left of {counted(len(short), 'episode')} of "
            f"{begin + end} steps or fewer: cut less, or drop them first: "
            f"dql dataset drop {stored.source} --max-length {begin + end} --out DIR"
        )
    return [
        Pick(each.number, each.length, *((begin, end) if each.number in selected else (0, 0)))
        for each in stored.episodes
    ]


def split_dataset(
    source: str | Path,
    shares: Mapping[str, float],
    out: Path,
    *,
    seed: int = 0,
    progress: Progress = _SILENT,
) -> list[Made]:
    """Split a dataset by whole episodes, the same way at each call with the same seed.

    Transitions of one episode resemble each other, so that a split within episodes would test on
    what was learned from.

    Args:
        source: See `open_stored`.
        shares: Of each part its share of the episodes by its name, in any unit.
        out: The folder to make, with a dataset in a folder for each part; all appear, or none.
        seed: Of the draw.
        progress: As for `open_stored`.

    Raises:
        ConfigError: If a name is no folder's, or a share is not positive.
        DatasetError: If there are fewer episodes than parts, the dataset cannot be read, or
            ``out`` holds something.
    """
    _require_parts(shares)
    with _new_folder(out, [source]) as folder:
        stored = open_stored(source, progress)
        counts = _counts(list(shares.values()), len(stored.episodes), stored.source)
        order = np.random.default_rng(seed).permutation(len(stored.episodes))
        drawn = np.split(order, np.cumsum(counts)[:-1])
        picks = {
            name: stored.picks(sorted(numbers.tolist()))
            for name, numbers in zip(shares, drawn, strict=True)
        }
        for name, chosen in picks.items():
            arguments = {"parts": dict(shares), "seed": seed, "part": name}
            (folder / name).mkdir()
            _write(folder / name, "split", arguments, [(stored, chosen)], stored.metadata.document)
    return [_made(out / name, [(stored, chosen)]) for name, chosen in picks.items()]


def rules_text(rules: Rules) -> str:
    """Return rules as the command line takes them."""
    names = {"episodes": "episode"}
    return " ".join(
        f"--{names.get(name, name).replace('_', '-')} {value}"
        for name, value in rules.given().items()
    )


def _require_parts(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if not _PART_NAME.fullmatch(name):
            raise ConfigError(
                f"--parts: '{name:.80}' cannot name a folder; use letters, digits, '-' and '_'"
            )
        if not 0 < share < float("inf"):
            raise ConfigError(f"--parts: the share of '{name}' is {share:g}; it must be positive")
    if len(shares) < 2:
        raise ConfigError("--parts names fewer than two parts; give e.g. train=0.8,test=0.2")


def _counts(shares: Sequence[float], total: int, where: str) -> list[int]:
    """Divide episodes by largest remainders; each part gets one at least."""
    if total < len(shares):
        raise DatasetError(
            f"{where}: has {counted(total, 'episode')}, and whole episodes are split into "
            f"{len(shares)} parts; name fewer parts or record more"
        )
    parts = np.array(shares) / max(shares)  # of which the sum is a number
    exact = parts / parts.sum() * total
    counts = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    while counts.min() == 0:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return [int(count) for count in counts]


def _unknown(episodes: Sequence[EpisodeFacts], rules: Rules) -> list[str]:
    """Say of how many episodes a rule could not know whether they are selected."""
    notes = []
    unlabelled = sum(each.success is None for each in episodes)
    if rules.outcome in ("success", "failure") and unlabelled:
        notes.append(f"{counted(unlabelled, 'episode')} without a labelled outcome: not selected")
    unsaid = sum(each.intervention is None for each in episodes)
    given = rules.given()
    if {"min_intervention", "max_intervention"} & given.keys() and unsaid:
        notes.append(f"{counted(unsaid, 'episode')} without the info 'intervention': not selected")
    unclear = sum(bool(np.isnan(each.earned)) for each in episodes)
    if {"min_return", "max_return"} & given.keys() and unclear:
        notes.append(
            f"{counted(unclear, 'episode')} with a return that is no number: not selected"
        )
    return notes


@contextmanager
def _new_folder(out: Path, sources: Sequence[str | Path]) -> Iterator[Path]:
    """Yield a folder that becomes ``out``, and refuse a place that is none before work begins."""
    out = out.absolute()
    for source in sources:
        require_outside(out, find_dataset(source).absolute(), source)
    with atomic_directory(out, error=DatasetError) as folder:
        yield folder


def _write(
    folder: Path,
    operation: str,
    arguments: Mapping[str, Any],
    parts: Sequence[tuple[StoredDataset, Sequence[Pick]]],
    document: Mapping[str, Any],
) -> None:
    """Write a dataset into a folder: these episodes of these datasets."""
    if not any(pick.kept for _, picks in parts for pick in picks):
        raise DatasetError(
            f"{parts[0][0].source}: nothing would be left but episodes without a transition; "
            f"change what is chosen, or drop them first"
        )
    (folder / DATA_FOLDER).mkdir()
    copier = EpisodeCopier(folder / DATA_FOLDER)
    for stored, picks in parts:
        copier.add(stored.data_path, stored.metadata, picks)
    made_of = [stored.ingredient(picks) for stored, picks in parts]
    copier.finish(
        {
            **document,
            "minari_version": minari.__version__,
            LINEAGE_KEY: lineage(operation, arguments, made_of, document),
        }
    )


def _made(
    out: Path,
    parts: Sequence[tuple[StoredDataset, Sequence[Pick]]],
    notes: Sequence[str] = (),
) -> Made:
    converted = sorted(
        {
            stored.metadata.data_format
            for stored, _ in parts
            if stored.metadata.data_format != "hdf5"
        }
    )
    more = [f"stored as hdf5, not {' and '.join(converted)}"] if converted else []
    picks = [pick for _, chosen in parts for pick in chosen]
    facts = [each for stored, _ in parts for each in stored.episodes]
    return Made(
        out,
        len(picks),
        sum(pick.kept for pick in picks),
        len(facts),
        sum(each.length for each in facts),
        (*notes, *more),
    )
