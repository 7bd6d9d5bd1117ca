"""The parts of all files of a bag, read by the order of their times."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

from dql_ros.bag.block import MessageBlock
from dql_ros.bag.storage.damage import DAMAGE, DamageError
from dql_ros.bag.storage.part import MAX_TIME_NS, Channel, Part, Piece, Storage

# Told of a part that could not be read wholly: its storage, the part, what could be read of each
# topic, and why. It raises, or takes note of the loss.
OnDamage = Callable[[Storage, Part, Counter[str], Exception], None]


# So many threads read ahead; decompression and checksums leave the interpreter to the others.
READERS = 1


@dataclass(frozen=True)
class Step:
    """What one step of reading a bag yields.

    Attributes:
        blocks: Messages by channel.
        complete_until_ns: No later step has a message with a log time before this one.
        share: How much of what is to be read is done, 0 to 1.
    """

    blocks: tuple[tuple[Channel, MessageBlock], ...]
    complete_until_ns: int
    share: float


class _Source(NamedTuple):
    storage: Storage
    part: Part


def steps(
    storages: Sequence[Storage], topics: Collection[str], on_damage: OnDamage
) -> Iterator[Step]:
    """Read the messages of topics.

    Args:
        storages: The bag's files in their order.
        topics: The wanted topics.
        on_damage: Told of each part that could not be read wholly.
    """
    sources = [_Source(storage, part) for storage in storages for part in storage.parts(topics)]
    sources.sort(key=lambda source: source.part.start_ns)
    total = sum(source.part.size_bytes for source in sources)
    promised = -MAX_TIME_NS
    done = 0
    for number, (source, pieces) in enumerate(_ahead(sources)):
        is_last = number == len(sources) - 1
        following = MAX_TIME_NS if is_last else sources[number + 1].part.start_ns
        following = min(following, MAX_TIME_NS)
        found: Counter[str] = Counter()
        try:
            for piece in pieces:
                blocks, late = _in_time(piece, promised)
                for channel, block in blocks:
                    found[channel.topic] += len(block)
                promised = max(promised, min(piece.until_ns, following))
                yield Step(blocks, promised, done / total if total else 1.0)
                if late:
                    raise DamageError(f"has {late} messages before the time it says it begins at")
        except DAMAGE as cause:
            on_damage(source.storage, source.part, found, cause)
        done += source.part.size_bytes


def _in_time(piece: Piece, promised: int) -> tuple[tuple[tuple[Channel, MessageBlock], ...], int]:
    """A piece without messages from before the promised time, and how many there were."""
    kept = tuple((channel, _from(block, promised)) for channel, block in piece.blocks)
    late = sum(len(block) for _, block in piece.blocks) - sum(len(block) for _, block in kept)
    return tuple((channel, block) for channel, block in kept if len(block)), late


def _from(block: MessageBlock, time_ns: int) -> MessageBlock:
    if not len(block) or block.log_times_ns[0] >= time_ns:
        return block
    first = int(block.log_times_ns.searchsorted(time_ns))
    return replace(
        block,
        log_times_ns=block.log_times_ns[first:],
        starts=block.starts[first:],
        lengths=block.lengths[first:],
    )


def _ahead(sources: Sequence[_Source]) -> Iterator[tuple[_Source, Iterator[Piece]]]:
    """Yield the sources with their pieces; small ones are read while others are worked on."""
    coming: deque[Future[_Read] | None] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for number, source in enumerate(sources):
            for following in sources[number + len(coming) : number + 1 + READERS]:
                small = following.part.is_small
                coming.append(pool.submit(_read, following.part) if small else None)
            reading = coming.popleft()
            yield source, source.part.read() if reading is None else reading.result().pieces()


@dataclass(frozen=True)
class _Read:
    """What reading a part gave, to be told by another thread than that which read it."""

    found: list[Piece]
    damage: Exception | None

    def pieces(self) -> Iterator[Piece]:
        yield from self.found
        if self.damage is not None:
            raise self.damage


def _read(part: Part) -> _Read:
    found: list[Piece] = []
    try:
        for piece in part.read():
            found.append(piece)
    except DAMAGE as cause:
        return _Read(found, cause)
    return _Read(found, None)
