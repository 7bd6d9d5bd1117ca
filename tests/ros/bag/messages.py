"""Messages of a bag one by one, as objects, in the order of their log times."""

from typing import Any, NamedTuple

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.codecs.block_decoder import DAMAGE


class BagMessage(NamedTuple):
    """One message."""

    topic: str
    log_time_ns: int
    message: Any


def messages_of(bag: Bag, topics: frozenset[str]) -> list[BagMessage]:
    """Read topics; messages of equal times come in the order of the batches and of the file."""
    known = topics & bag.topics.keys()
    stores = {
        (topic, msgtype): bag.typestore(topic, msgtype)
        for topic in known
        for msgtype in bag.topics[topic].msgtype.split(" and ")
    }
    found: list[tuple[tuple[int, int, int], BagMessage]] = []
    for number, batch in enumerate(bag.batches(known)):
        for block in batch.blocks:
            store = stores[block.topic, block.msgtype]
            places = zip(block.log_times_ns.tolist(), block.starts.tolist(), strict=True)
            for index, (time_ns, start) in enumerate(places):
                try:
                    message = store.deserialize_cdr(block.payload(index), block.msgtype)
                except DAMAGE as cause:
                    raise BagError(f"a message of {block.topic} is no {block.msgtype}") from cause
                found.append(((time_ns, number, start), BagMessage(block.topic, time_ns, message)))
    return [message for _, message in sorted(found, key=lambda each: each[0])]
