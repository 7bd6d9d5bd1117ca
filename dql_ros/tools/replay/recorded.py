"""The commands that a recording has, beside which those of a replay are put."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_ros.bag.reader import Bag
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.contract import Contract, parts
from dql_ros.convert.alignment import Alignment
from dql_ros.convert.bag_episodes import require_topic
from dql_ros.convert.columns import Times
from dql_ros.convert.topic_decoders import (
    TopicDecoder,
    TopicRole,
    located,
    topic_decoder,
    topic_roles,
)
from dql_ros.convert.transitions import END_OF_TIME_NS


class RecordedMessage(NamedTuple):
    """A message of a command topic, still serialised."""

    log_time_ns: int
    topic: str
    cdr: bytes


class RecordedCommands:
    """Takes the blocks of a bag's command topics.

    Attributes:
        roles: The contract's command topics.
        missing: Those that the bag does not have, or has no message of.
        messages: What came, by topic in the order of the recording.

    Args:
        bag: An opened bag.
        contract: Names the command topics.
        namespace: Namespace of the contract's relative topics in the bag.

    Raises:
        BagError: If a command topic is of another type.
    """

    def __init__(self, bag: Bag, contract: Contract, namespace: str) -> None:
        self._bag, self._contract = bag, contract
        self.roles = [role for role in topic_roles(contract, namespace) if role.kind == "action"]
        self.missing = tuple(
            role.topic
            for role in self.roles
            if role.topic not in bag.topics or not bag.topics[role.topic].count
        )
        self.messages: list[RecordedMessage] = []
        self._alignment = Alignment(contract)
        self._decoders: list[tuple[TopicRole, TopicDecoder]] = []
        for role in self.roles:
            if role.topic not in self.missing:
                require_topic(bag, role)
                decoder = topic_decoder(role, self.typestore(role), refuse_nonfinite=False)
                self._decoders.append((role, decoder))

    @property
    def topics(self) -> frozenset[str]:
        """The command topics that the bag has."""
        return frozenset(role.topic for role, _ in self._decoders)

    def typestore(self, role: TopicRole) -> Typestore:
        """Return what knows a command topic's type: the bag, or what is known without it.

        Raises:
            BagError: If nobody does.
        """
        if role.topic in self.missing:
            return self._bag.known_type(role.rule.type)
        return self._bag.typestore(role.topic, role.rule.type)

    def visit(self, block: MessageBlock) -> None:
        """Take in a block, if it has commands.

        Raises:
            BagError: At a message that lacks what the contract names.
        """
        is_kept = False
        for role, decode in self._decoders:
            if (block.topic, block.msgtype) != (role.topic, role.rule.type):
                continue
            try:
                arrived_ns, columns = decode(block)
            except MessageError as cause:
                raise located(cause, block, self._bag.start_ns, self._bag.path) from cause
            self._alignment.push("action", role.name, arrived_ns, *columns)
            is_kept = True
        if is_kept:
            self.messages += (
                RecordedMessage(time_ns, block.topic, block.payload(index))
                for index, time_ns in enumerate(block.log_times_ns.tolist())
            )

    def at(self, ticks_ns: Times) -> NDArray[np.float64]:
        """Return the recorded command of each tick, once all blocks are taken in.

        It is the one that a conversion makes the action of an observation at that tick: by the
        contract's ``command``, the first in the period that the tick begins, else the one in
        force; not clipped. What would have taken effect after the recording's end is not known.

        Args:
            ticks_ns: Shape (T,).

        Returns:
            Shape (T, A); NaN where there is none.
        """
        self._alignment.release(END_OF_TIME_NS)
        rows = self._alignment.action_in(ticks_ns, ticks_ns + self._contract.period_ns)
        values, streams = rows.values.copy(), self._contract.action
        for stream, columns in zip(streams, parts(streams), strict=True):
            values[rows.missing[stream.key], columns] = np.nan
            if stream.lookahead_ns:
                values[ticks_ns > self._bag.end_ns - stream.lookahead_ns, columns] = np.nan
        return values
