"""Messages one by one in the order of their log times, from blocks in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dql_ros.bag.block import Batch, MessageBlock


@dataclass
class _Pending:
    """A block of which messages are left from ``first`` on."""

    block: MessageBlock
    batch: int
    first: int = 0


def in_time_order(batches: Iterable[Batch]) -> Iterator[tuple[MessageBlock, int]]:
    """Yield each message as its block and its place in there.

    Messages of equal times come in the order of the batches, and within one in that of the file.
    """
    pending: list[_Pending] = []
    for number, batch in enumerate(batches):
        pending += [_Pending(block, number) for block in batch.blocks if len(block)]
        yield from _before(pending, batch.complete_until_ns)
        pending = [each for each in pending if each.first < len(each.block)]
    yield from _before(pending, None)


def _before(pending: list[_Pending], until_ns: int | None) -> Iterator[tuple[MessageBlock, int]]:
    """The pending messages before a time, by time; all without one."""
    times, batches, places, owners, indices = [], [], [], [], []
    for owner, each in enumerate(pending):
        log_times = each.block.log_times_ns
        last = len(log_times) if until_ns is None else int(log_times.searchsorted(until_ns))
        if last <= each.first:
            continue
        times.append(log_times[each.first : last])
        places.append(each.block.starts[each.first : last])
        indices.append(np.arange(each.first, last))
        batches.append(np.full(last - each.first, each.batch))
        owners.append(np.full(last - each.first, owner))
        each.first = last
    if not times:
        return
    owner_of, index_of = np.concatenate(owners), np.concatenate(indices)
    order = np.lexsort((np.concatenate(places), np.concatenate(batches), np.concatenate(times)))
    for owner, index in zip(owner_of[order].tolist(), index_of[order].tolist(), strict=True):
        yield pending[owner].block, index
