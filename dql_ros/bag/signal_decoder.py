"""Decodes blocks of messages that tell of the task: rewards, ends of episodes, events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_ros.bag.block import MessageBlock
from dql_ros.bag.block_decoder import BlockDecoder, MessageError
from dql_ros.bag.storage.service_definitions import is_service_event
from dql_ros.contract import (
    Equal,
    Event,
    FieldSelection,
    FlagStream,
    RewardTopic,
    SignalStream,
    matches,
)


class SignalDecoder:
    """Decodes the blocks of a signal's or an event's topic.

    Args:
        signal: The contract's description.
        topic: The absolute topic name, for error messages.
        typestore: Knows the type.
    """

    def __init__(self, signal: SignalStream | Event, topic: str, typestore: Typestore) -> None:
        self._signal = signal
        self._topic = topic
        self._path = signal.path
        self._equals: Equal | None = None
        if isinstance(signal, FlagStream | Event):
            self._equals = signal.equals
        selections = (FieldSelection(path=self._path),) if self._path is not None else ()
        self._decoder = BlockDecoder(
            topic, selections, "refuse", typestore, signal.type, stamped=False
        )

    def decode(self, block: MessageBlock) -> NDArray[np.float64]:
        """Return a reward topic's rewards, or 1 for each message that matches and 0 for others.

        Returns:
            Shape (n,); NaN for a service event without the request or response that is asked for.

        Raises:
            MessageError: At the first message that has nothing fitting at the signal's path.
        """
        if self._path is None:
            return np.ones(len(block))
        if isinstance(self._signal, Event) or isinstance(self._equals, str):
            return self._matching(
                self._decoder.decode_objects(
                    block, self._path, may_lack_elements=is_service_event(self._signal.type)
                )
            )
        values = self._decoder.decode(block).values[:, 0]
        if isinstance(self._signal, RewardTopic):
            return values
        raised = values != 0 if self._equals is None else values == self._equals
        return np.asarray(raised, np.float64)

    def _matching(self, objects: list[Any]) -> NDArray[np.float64]:
        for index, found in enumerate(objects):
            if found is None:
                continue
            is_plain = isinstance(found, bool | int | float | str | np.number | np.bool_)
            is_text = isinstance(found, str)
            compares = self._equals is None or is_text == isinstance(self._equals, str)
            if not (is_plain and compares):
                wanted = "a number, flag or string"
                if self._equals is not None:
                    wanted = f"comparable with {self._equals!r}"
                raise MessageError(
                    f"{self._topic}: '{self._path}' is a {type(found).__name__}, which is not "
                    f"{wanted}; correct 'path' or 'equals' in the contract",
                    index,
                )
        # An event has a request, a response, or neither; it says nothing of what it has not.
        raised = [np.nan if each is None else matches(each, self._equals) for each in objects]
        return np.array(raised, np.float64)
