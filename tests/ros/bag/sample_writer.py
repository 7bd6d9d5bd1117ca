"""Writes small recordings as the recorder does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from dql_ros.bag.metadata import describe
from dql_ros.bag.writer import BagWriter
from dql_ros.contract import QualityOfService


class SampleWriter(BagWriter):
    """Closes its recording; after an exception it is left as by a recorder that was killed.

    Args:
        directory: As for `BagWriter`.
        typestore: Where message definitions come from; Jazzy's standard types by default.
        options: As for `BagWriter`.
    """

    def __init__(
        self, directory: Path, typestore: Typestore | None = None, **options: Any
    ) -> None:
        super().__init__(directory, **options)
        self._typestore = typestore or get_typestore(Stores.ROS2_JAZZY)

    def add_topic(
        self,
        name: str,
        msgtype: str,
        qos: Sequence[QualityOfService] = (),
        definition: str | None = None,
    ) -> None:
        self.add(describe(name, msgtype, qos, definition, self._typestore))

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.flush()
            self._output.close()
