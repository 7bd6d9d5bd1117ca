"""Message types: as the bag defines them, else as its distribution does."""

from __future__ import annotations

from collections.abc import Iterable

from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from dql_ros.bag.storage.damage import DAMAGE, DamageError, sentence
from dql_ros.bag.storage.definition_text import types_from_idl, types_from_msg
from dql_ros.bag.storage.part import Channel, Definition
from dql_ros.bag.storage.service_definitions import is_service_event, service_event_types

HEADER = "std_msgs/msg/Header"
_IDL_SEPARATOR = "=" * 80 + "\n"
# Before version 8 the metadata do not name the distribution; these wrote the versions.
_BY_VERSION = {
    1: Stores.ROS2_DASHING,
    2: Stores.ROS2_ELOQUENT,
    3: Stores.ROS2_FOXY,
    4: Stores.ROS2_GALACTIC,
    5: Stores.ROS2_HUMBLE,
    6: Stores.ROS2_IRON,
    7: Stores.ROS2_IRON,
}
_DEFAULT = Stores.ROS2_JAZZY


class Definitions:
    """Finds types, and keeps what was found.

    Args:
        distribution: The ROS distribution that recorded the bag, if it says.
        version: The version of the bag's metadata, else 0.
    """

    def __init__(self, distribution: str, version: int = 0) -> None:
        by_name = {store.value.rpartition("_")[2]: store for store in Stores}
        known = by_name.get(distribution.lower())
        self._store = known or _BY_VERSION.get(version, _DEFAULT)
        self._found: dict[tuple[str, Definition], Typestore] = {}

    def typestore(self, channels: Iterable[Channel]) -> Typestore:
        """Return the type store that knows the type of a topic's channels.

        Args:
            channels: Channels of one topic and one type.

        Raises:
            DamageError: If nobody defines the type, or the channels define it differently.
        """
        first, *others = dict.fromkeys(
            (channel.msgtype, channel.definition) for channel in channels
        )
        store = self._one(*first)
        for other in others:
            fields = self._one(*other).fielddefs
            if fields[other[0]] != store.fielddefs[first[0]]:
                raise DamageError(f"the bag defines {first[0]} in two ways")
        return store

    def is_known(self, channel: Channel) -> bool:
        """Whether the channel's messages can be read."""
        try:
            check_encoding(channel)
            if channel.msgtype not in self._standard().fielddefs:
                self.typestore([channel])
        except DamageError:
            return False
        return True

    def _one(self, msgtype: str, definition: Definition) -> Typestore:
        key = (msgtype, definition)
        if key not in self._found:
            self._found[key] = (
                _embedded(msgtype, definition, self._standard())
                if definition.text.strip() and definition.format
                else self._standard_with(msgtype)
            )
        return self._found[key]

    def _standard(self) -> Typestore:
        key = ("", Definition())
        if key not in self._found:
            self._found[key] = get_typestore(self._store)
        return self._found[key]

    def _standard_with(self, msgtype: str) -> Typestore:
        for store in (self._standard(), get_typestore(_DEFAULT)):
            if msgtype in store.fielddefs:
                return store
        raise DamageError(
            f"the bag does not define {msgtype}, and it is none of ROS 2's standard types; "
            f"record it as MCAP"
        )


def check_encoding(channel: Channel) -> None:
    """Check that a channel's serialisation is understood.

    Raises:
        DamageError: If it is neither ROS 2's nor ROS 1's.
    """
    if channel.encoding not in {"cdr", "ros1"}:
        raise DamageError(f"it is serialised as {channel.encoding!r}; cdr and ros1 can be read")


def _embedded(msgtype: str, definition: Definition, standard: Typestore) -> Typestore:
    """The definition in the bag; standard types only where it leaves out what it uses."""
    try:
        types = _parsed(msgtype, definition)
        store = get_typestore(Stores.EMPTY)
        store.register({**types})
        try:
            store.get_msgdef(msgtype)
        except KeyError:
            missing = {
                name: fields for name, fields in standard.fielddefs.items() if name not in types
            }
            store = get_typestore(Stores.EMPTY)
            store.register({**missing, **types})
            store.get_msgdef(msgtype)
    except DAMAGE as cause:
        raise DamageError(
            f"the definition of {msgtype} in the bag is not valid ({sentence(cause)})"
        ) from cause
    return store


def _parsed(msgtype: str, definition: Definition) -> Typesdict:
    is_pure_idl = definition.text.startswith(f"{_IDL_SEPARATOR}IDL: ")
    if is_service_event(msgtype) and not is_pure_idl:
        return service_event_types(definition.text, msgtype)
    if definition.format not in {"ros2idl", "omgidl"}:
        types = types_from_msg(definition.text, msgtype)
        if definition.format == "ros1msg" and HEADER in types:
            # ROS 2's header has no counter, and none is in the messages once they are in CDR.
            constants, fields = types[HEADER]
            types[HEADER] = (constants, [field for field in fields if field[0] != "seq"])
        return types
    if not is_pure_idl:
        return types_from_idl(definition.text)
    types = {}
    for section in definition.text.split(_IDL_SEPARATOR)[1:]:
        types.update(types_from_idl(section.partition("\n")[2]))
    return types
