"""Message types: as the bag defines them, else as its distribution does.

Among them are the types of a service's events, in any form in which recorders define them. An
event has ``info``, and the request and the response in lists of at most one (REP 2012). Bags
define it in two forms: as messages are, or, as rosbag2's recorder has it since Jazzy, by the
service's own file behind a line ``SRV: package/srv/Name``, followed by the messages that the
service uses; these are ``MSG`` sections, or an empty ``MSG`` section and an ``IDL`` one
(``local_message_definition_source.cpp`` in rosbag2_cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from dql_ros.bag.storage.definition_text import types_from_idl, types_from_msg
from dql_ros.bag.storage.storage import DAMAGE, Channel, DamageError, Definition, reason_of

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
_EVENT_NAME = re.compile(r"\w+/srv/\w+_Event")
_PART_NAME = re.compile(r"_(Request|Response|Event)$")
_DELIMITER = re.compile(r"^={80}\n(?=MSG: |IDL: |SRV: )", re.MULTILINE)
_REQUEST_END = re.compile(r"^---[ \t]*$", re.MULTILINE)
_EVENT = """service_msgs/ServiceEventInfo info
{service}_Request[<=1] request
{service}_Response[<=1] response
"""
# service_msgs since its first release, in Iron, with 'uint8' for the file's 'char', which ROS 2
# takes for the same; the recorder leaves it out.
_INFO = """uint8 event_type
builtin_interfaces/Time stamp
uint8[16] client_gid
int64 sequence_number
"""
_TIME = "int32 sec\nuint32 nanosec\n"


class Definitions:
    """Finds the types of one bag.

    Args:
        distribution: The ROS distribution that recorded the bag, if it says.
        version: The version of the bag's metadata, else 0.
    """

    def __init__(self, distribution: str, version: int = 0) -> None:
        by_name = {store.value.rpartition("_")[2]: store for store in Stores}
        known = by_name.get(distribution.lower())
        self._standard = known or _BY_VERSION.get(version, _DEFAULT)

    def typestore(self, channels: Sequence[Channel]) -> Typestore:
        """Return the type store that knows the type of a topic's channels.

        Args:
            channels: Channels of one topic and one type.

        Raises:
            DamageError: If nobody defines the type, or the channels define it differently.
        """
        msgtype = channels[0].msgtype
        store, *others = (self._one(msgtype, channel.definition) for channel in channels)
        for other in others:
            if other.fielddefs[msgtype] != store.fielddefs[msgtype]:
                raise DamageError(f"the bag defines {msgtype} in two ways")
        return store

    def is_known(self, channel: Channel) -> bool:
        """Whether the channel's messages can be read."""
        try:
            check_encoding(channel)
            if channel.msgtype not in _types_of(self._standard).fielddefs:
                self.typestore([channel])
        except DamageError:
            return False
        return True

    def _one(self, msgtype: str, definition: Definition) -> Typestore:
        if definition.text.strip() and definition.format:
            return _embedded(msgtype, definition, self._standard)
        for standard in (self._standard, _DEFAULT):
            if msgtype in _types_of(standard).fielddefs:
                return _types_of(standard)
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


# All bags of a robot define the same, and a type store compiles what it has read with.
_types_of = cache(get_typestore)


@lru_cache(maxsize=256)
def _embedded(msgtype: str, definition: Definition, standard: Stores) -> Typestore:
    """The definition in the bag; standard types only where it leaves out what it uses."""
    try:
        types = _parsed(msgtype, definition)
        store = get_typestore(Stores.EMPTY)
        store.register({**types})
        try:
            store.get_msgdef(msgtype)
        except KeyError:
            known = _types_of(standard).fielddefs
            missing = {name: fields for name, fields in known.items() if name not in types}
            store = get_typestore(Stores.EMPTY)
            store.register({**missing, **types})
            store.get_msgdef(msgtype)
    except DAMAGE as cause:
        raise DamageError(
            f"the definition of {msgtype} in the bag is not valid ({reason_of(cause)})"
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


class _Section(NamedTuple):
    kind: str
    name: str
    text: str


def is_service_event(msgtype: str) -> bool:
    """Whether a type is that of a service's events, ``package/srv/Name_Event``."""
    return _EVENT_NAME.fullmatch(msgtype) is not None


def service_event_types(text: str, msgtype: str) -> Typesdict:
    """Return the types that a definition of a service's events holds.

    Args:
        text: The definition, as a file carries it.
        msgtype: ``package/srv/Name_Event``.

    Raises:
        DamageError: If a service's file does not separate request and response.
        Exception: What rosbags' parsers raise on a definition that is none.
    """
    sections = list(_sections(msgtype, text))
    in_idl = {section.name for section in sections if section.kind == "IDL"}
    types: dict[str, Any] = {}
    for kind, name, body in sections:
        if kind == "IDL":
            types.update(types_from_idl(body))
        elif name not in in_idl or body.strip():
            # Under the service's name, rosbags would look for its neighbours among services.
            types.update(types_from_msg(body, name.replace("/srv/", "/")))
    return {
        _proper(name): (constants, [(field, _described(what)) for field, what in fields])
        for name, (constants, fields) in types.items()
    }


def _sections(msgtype: str, text: str) -> Iterator[_Section]:
    first, *others = _DELIMITER.split(text)
    if first.strip():
        yield _Section("MSG", msgtype, first)
    for other in others:
        title, _, body = other.partition("\n")
        kind, _, name = title.partition(": ")
        if kind == "SRV":
            yield from _of_service(name.strip(), body)
        else:
            yield _Section(kind, name.strip(), body)


def _of_service(service: str, text: str) -> Iterator[_Section]:
    parts = _REQUEST_END.split(text)
    if len(parts) != 2:
        raise DamageError(f"{service} has {len(parts) - 1} lines '---', not 1")
    yield _Section("MSG", "builtin_interfaces/Time", _TIME)
    yield _Section("MSG", "service_msgs/ServiceEventInfo", _INFO)
    yield _Section("MSG", f"{service}_Event", _EVENT.format(service=service))
    yield _Section("MSG", f"{service}_Request", parts[0])
    yield _Section("MSG", f"{service}_Response", parts[1])


def _described(description: Any) -> Any:
    node, detail = description
    if node == Nodetype.NAME:
        return node, _proper(detail)
    if node == Nodetype.BASE:
        return description
    return node, (_described(detail[0]), detail[1])


def _proper(name: str) -> str:
    """A type's name; rosbags takes the parts of services for messages, spelled in many ways."""
    package, *_, leaf = name.split("/")
    return f"{package}/srv/{leaf}" if _PART_NAME.search(leaf) else name
