"""The stages of a conversion by themselves, each with all that comes before it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dql_ros.bag.reader import Bag
from dql_ros.codecs.block_decoder import BlockDecoder
from dql_ros.contract import Contract, Stream
from dql_ros.convert.bag_episodes import read_bag_episodes


def stages(bag: Path, contract: Contract) -> dict[str, Callable[[], object]]:
    """Return a function for each stage, by name."""
    return {
        "read": partial(read, bag, contract),
        "read, decode": partial(decode, bag, contract),
        "read, decode, align": partial(align, bag, contract),
    }


def read(path: Path, contract: Contract) -> int:
    """Read the messages without looking into them; return their number."""
    with Bag(path) as bag:
        topics = frozenset(stream.topic for stream in _streams(contract))
        return sum(len(block) for batch in bag.batches(topics) for block in batch.blocks)


def decode(path: Path, contract: Contract) -> int:
    """Read and decode observations and actions; return the number of their messages."""
    with Bag(path) as bag:
        decoders = {
            stream.topic: BlockDecoder(stream, bag.typestore(stream.topic))
            for stream in _streams(contract)
        }
        decoded = 0
        for batch in bag.batches(frozenset(decoders)):
            for block in batch.blocks:
                decoded += len(decoders[block.topic].decode(block).values)
        return decoded


def align(path: Path, contract: Contract) -> int:
    """Read, decode, align and cut; return the number of episodes."""
    episodes: list[object] = []
    with Bag(path) as bag:
        read_bag_episodes(bag, contract, "/", episodes.append)
    return len(episodes)


def _streams(contract: Contract) -> tuple[Stream, ...]:
    return (*contract.observation, *contract.action)
