"""One reading of a bag's messages, whose number is compared with what the bag says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from rosbags.typesys.store import Typestore

from dql_ros.bag.block import Batch, MessageBlock
from dql_ros.bag.storage.bag_files import BagFiles
from dql_ros.bag.storage.damage import DamageError, Loss, sentence
from dql_ros.bag.storage.merge import Step, steps
from dql_ros.bag.storage.metadata import METADATA_NAME
from dql_ros.bag.storage.part import MAX_TIME_NS, Channel, Part, Storage
from dql_ros.bag.storage.payload import decompressed, is_compressed, ros1_to_cdr


class Reading:
    """Reads topics once.

    Args:
        files: The bag's files.
        topics: The wanted topics, all of them in the bag.
        typestore: Finds the type store of a topic and type.

    Attributes:
        losses: What could not be read so far.
    """

    def __init__(
        self,
        files: BagFiles,
        topics: Collection[str],
        typestore: Callable[[str, str], Typestore],
    ) -> None:
        self.losses = list(files.losses)
        self._files = files
        self._topics = topics
        self._typestore = typestore
        self._read: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._promised = -MAX_TIME_NS

    def batches(self, *, salvage: bool) -> Iterator[Batch]:
        """Yield the messages; those that cannot be read are losses if the bag is salvaged.

        Raises:
            DamageError: If the bag is damaged and not salvaged; also the libraries' own.
        """
        on_damage = self._note if salvage else _raise
        size = self._files.size_bytes
        for step in steps(self._files.storages, self._topics, on_damage):
            done = int(size * step.share)
            yield from self._in_cdr(step, done, salvage=salvage)
        self._compare(salvage=salvage)
        yield Batch((), MAX_TIME_NS, size)

    def _in_cdr(self, step: Step, done: int, *, salvage: bool) -> Iterator[Batch]:
        """A step's messages, with those that must be worked on first in batches of their own."""
        ready = []
        for channel, block in step.blocks:
            lost: list[str] | None = [] if salvage else None
            converted = self._converter(channel, block, lost)
            if converted is None:
                ready.append(block)
                continue
            for each in converted:
                self._read[each.topic] += len(each)
                yield Batch((each,), self._promised, done)
            if lost:
                self._lost[block.topic] += len(lost)
                self.losses.append(Loss(self._files.files[0].name, lost[0], len(lost), None))
        for block in ready:
            self._read[block.topic] += len(block)
        self._promised = step.complete_until_ns
        yield Batch(tuple(ready), self._promised, done)

    def _converter(
        self, channel: Channel, block: MessageBlock, lost: list[str] | None
    ) -> Iterator[MessageBlock] | None:
        if channel.encoding == "ros1":
            typestore = self._typestore(channel.topic, channel.msgtype)
            return ros1_to_cdr(block, typestore, lost)
        return decompressed(block, lost) if is_compressed(block) else None

    def _note(self, storage: Storage, part: Part, found: Counter[str], cause: Exception) -> None:
        """Note a part that could not be read wholly as a loss."""
        messages = None
        if part.counts is not None:
            missing = {topic: count - found[topic] for topic, count in part.counts.items()}
            self._lost.update(missing)
            messages = sum(missing.values())
        self.losses.append(Loss(storage.path.name, sentence(cause), messages, part.size_bytes))

    def _compare(self, *, salvage: bool) -> None:
        """Compare the numbers of messages with what metadata.yaml and the files say."""
        short = [loss for topic in sorted(self._topics) for loss in self._shortfall(topic)]
        if short and not salvage:
            raise DamageError(short[0].reason)
        unknown = [index for index, loss in enumerate(self.losses) if loss.messages is None]
        missing = sum(loss.messages or 0 for loss in short)
        if len(unknown) == 1 and missing > 0:
            # All that is missing is what the one file lost of which nobody knew how much it had.
            self.losses[unknown[0]] = replace(self.losses[unknown[0]], messages=missing)
        else:
            self.losses += short

    def _shortfall(self, topic: str) -> list[Loss]:
        """What a topic lacks to the larger of the counts, beyond what is known to be lost."""
        stated = {
            METADATA_NAME: self._files.stated_counts,
            "its files' own count": self._files.own_counts,
        }
        counts = {
            source: known[topic] for source, known in stated.items() if known and topic in known
        }
        wrong = {source: count for source, count in counts.items() if count != self._read[topic]}
        if not wrong:
            return []
        source = max(wrong, key=lambda source: wrong[source])
        missing = wrong[source] - self._read[topic] - self._lost[topic]
        if missing == 0 or (missing < 0 and source != METADATA_NAME):
            return []  # Of a file without an end there may be more than is counted.
        reason = (
            f"{topic} has {wrong[source]} messages by {source}, but "
            f"{self._read[topic]} could be read"
        )
        return [Loss(source, reason, max(missing, 0), None)]


def _raise(storage: Storage, part: Part, found: Counter[str], cause: Exception) -> None:
    raise DamageError(f"{storage.path.name}: {sentence(cause)}") from cause
