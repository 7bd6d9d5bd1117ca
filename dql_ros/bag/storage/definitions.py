"""Message types: as the bag defines them, else as the user's folders or its distribution do.

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
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict
from rosbags.serde import SerdeError
from rosbags.typesys import Stores
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.bag.storage.definition_text import (
    Section,
    referred_type,
    sections,
    types_from_idl,
    types_from_msg,
)
from dql_ros.bag.storage.message_folders import MessageFolders
from dql_ros.bag.storage.plain_cdr import PlainCdr, is_plain, plain_types
from dql_ros.bag.storage.storage import DAMAGE, Channel, DamageError, Definition, reason_of
from dql_ros.codecs.installed import installed_types

HEADER = "std_msgs/msg/Header"
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
_ROS1 = Stores.ROS1_NOETIC
# Packages that are none of rosbags': those whose bags leave out definitions, up to Humble.
_BUNDLED = Path(__file__).parents[1] / "messages"
_BEFORE_HUMBLE = {
    Stores.ROS2_DASHING,
    Stores.ROS2_ELOQUENT,
    Stores.ROS2_FOXY,
    Stores.ROS2_GALACTIC,
}
_EVENT_NAME = re.compile(r"\w+/srv/\w+_Event")
_PART_NAME = re.compile(r"_(Request|Response|Event)$")
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


class BagTypes(Typestore):
    """Types of a bag; its messages may be in the rarer forms of CDR, see `PlainCdr`.

    Attributes:
        is_fieldless: Whether the type that they were asked for has no field by the bag, and nobody
            else defines it: it may be an empty one, or its definition was left out.

    Args:
        base: The module of a distribution, or nothing.
        recorded: The types as the bag's messages have them, if that is not the plain form.
    """

    def __init__(self, base: ModuleType | None = None, recorded: Typesdict | None = None) -> None:
        super().__init__(base)
        self.is_fieldless = False
        self._recorded = recorded

    @property
    def is_plain(self) -> bool:
        """Whether all messages are of the types, before they are written anew."""
        return self._recorded is None

    def plain_cdr(self, msgtype: str) -> PlainCdr:
        """Return what writes the bag's messages of a type in the plain form."""
        return PlainCdr(msgtype, self.fielddefs if self._recorded is None else self._recorded)

    def deserialize_cdr(self, rawdata: bytes | memoryview, typename: str) -> object:
        """Deserialise a message, also with texts that have no end or are no UTF-8."""
        try:
            return super().deserialize_cdr(rawdata, typename)
        except SerdeError as cause:
            try:
                plain = PlainCdr(typename, self.fielddefs)(rawdata)
            except DamageError:
                raise cause from None
            return super().deserialize_cdr(plain, typename)


class Definitions:
    """Finds the types of one bag.

    Args:
        distribution: The ROS distribution that recorded the bag, if it says.
        version: The version of the bag's metadata, else 0.
        folders: The user's definitions, for types that the bag does not define.
    """

    def __init__(
        self, distribution: str, version: int = 0, folders: MessageFolders | None = None
    ) -> None:
        by_name = {store.value.rpartition("_")[2]: store for store in Stores}
        known = by_name.get(distribution.lower())
        self._standard = known or _BY_VERSION.get(version, _DEFAULT)
        self._folders = folders

    def typestore(self, channels: Sequence[Channel]) -> BagTypes:
        """Return the type store that knows the type of a topic's channels.

        Args:
            channels: Channels of one topic and one type.

        Raises:
            DamageError: If nobody defines the type, or the channels define it differently.
        """
        msgtype = channels[0].msgtype
        store, *others = map(self._one, channels)
        for other in others:
            if other.fielddefs[msgtype][1] != store.fielddefs[msgtype][1]:
                raise DamageError(f"the bag defines {msgtype} in two ways")
        return store

    def flaw(self, channel: Channel) -> str:
        """Why a channel's messages cannot be read; empty if they can."""
        try:
            check_encoding(channel)
            if channel.msgtype not in standard_types(self._standard).fielddefs:
                self._one(channel)
        except DamageError as cause:
            return str(cause)
        return ""

    def _one(self, channel: Channel) -> BagTypes:
        is_ros1 = channel.encoding == "ros1" or channel.definition.format == "ros1msg"
        standard = _ROS1 if is_ros1 else self._standard
        return _store(channel.msgtype, channel.definition, standard, self._folders)


def known_type(msgtype: str, folders: MessageFolders | None = None) -> Typestore:
    """Return a type store that knows a type of which no bag is at hand.

    Looked for in the user's folders, among ROS 2's standard types and those that come with us, and
    in what is installed here.

    Raises:
        DamageError: If nobody defines it.
    """
    try:
        return _Known(_DEFAULT, folders).store(msgtype)
    except UndefinedTypeError:
        try:
            return installed_types(msgtype)
        except ContractError:
            pass
        raise


class UndefinedTypeError(DamageError):
    """Nobody defines a type."""

    def __init__(self, msgtype: str) -> None:
        super().__init__(
            f"neither the bag nor ROS's standard packages define {msgtype}; name a folder that "
            f"has its package's .msg files, with --msgs"
        )


def check_encoding(channel: Channel) -> None:
    """Check that a channel's serialisation is understood.

    Raises:
        DamageError: If it is neither ROS 2's nor ROS 1's.
    """
    if channel.encoding not in {"cdr", "ros1"}:
        raise DamageError(f"it is serialised as {channel.encoding!r}; cdr and ros1 can be read")


# All bags of a robot define the same, and a type store compiles what it has read with.
@lru_cache(maxsize=256)
def _store(
    msgtype: str, definition: Definition, standard: Stores, folders: MessageFolders | None
) -> BagTypes:
    """The type as the bag defines it; if that cannot be used, as others do."""
    known = _Known(standard, folders)
    reason = ""
    if definition.format and definition.text.strip():
        try:
            types = _parsed(msgtype, definition)
            has_fields = bool(types.get(msgtype, ((), ()))[1])
            if has_fields or not known.has_fields(msgtype):
                store = known.compiled(msgtype, types)
                store.is_fieldless = not has_fields and not known.has(msgtype)
                return store
        except DAMAGE as cause:
            reason = reason_of(cause)
    try:
        return known.store(msgtype)
    except UndefinedTypeError:
        if not reason:
            raise
        raise DamageError(
            f"the definition of {msgtype} in the bag is not valid ({reason})"
        ) from None


class _Known:
    """What is known of types outside of the bag.

    Args:
        standard: The distribution that recorded the bag.
        folders: The user's definitions.
    """

    def __init__(self, standard: Stores, folders: MessageFolders | None) -> None:
        self._standard = standard
        self._folders = folders

    def has(self, msgtype: str) -> bool:
        """Whether the type is known."""
        return bool(self._types(msgtype))

    def has_fields(self, msgtype: str) -> bool:
        """Whether the type is known and not an empty one."""
        return bool(self._types(msgtype).get(msgtype, ((), ()))[1])

    def store(self, msgtype: str) -> BagTypes:
        """Return a type store for a type that the bag does not define.

        Raises:
            DamageError: If nobody else defines it, either.
        """
        is_users = self._folders is not None and self._folders.types(msgtype)
        if not is_users and self._standard != _ROS1:
            for standard in (self._standard, _DEFAULT):
                if msgtype in standard_types(standard).fielddefs:
                    return standard_types(standard)
        return self.compiled(msgtype, {})

    def compiled(self, msgtype: str, types: Typesdict) -> BagTypes:
        """Return a type store of a type and of those that it uses.

        Args:
            msgtype: The type.
            types: The bag's own definitions, which come first.

        Raises:
            DamageError: If one of the types is not defined by anybody, or is not understood.
        """
        needed: dict[str, Any] = {}
        waiting = [msgtype]
        while waiting:
            name = waiting.pop()
            if name in needed:
                continue
            if not types.get(name, ((), ()))[1]:  # left out, or empty as it should be
                types = {**types, **self._types(name)}
            if name not in types:
                raise UndefinedTypeError(name)
            _, fields = types[name]
            if name == HEADER and self._standard == _ROS1:
                # ROS 2's header has no counter, and none is in the messages once they are in CDR.
                fields = [field for field in fields if field[0] != "seq"]
            needed[name] = ([], fields)
            waiting += [used for _, what in fields if (used := referred_type(what))]
        store = BagTypes(recorded=None if is_plain(needed) else needed)
        store.register(plain_types(needed))
        store.get_msgdef(msgtype)
        return store

    def _types(self, name: str) -> Typesdict:
        """What defines a type; empty if nobody does."""
        if self._folders is not None and (found := self._folders.types(name)):
            return found
        for standard in (self._standard, _DEFAULT):
            if (known := standard_types(standard).fielddefs.get(name)) is not None:
                return {name: known}
        bundled = _bundled(self._standard in _BEFORE_HUMBLE)
        return {name: bundled[name]} if name in bundled else {}


@cache
def standard_types(distribution: Stores) -> BagTypes:
    """Return the types of a distribution's packages, as far as rosbags knows them."""
    return BagTypes(import_module(f"rosbags.typesys.stores.{distribution.value}"))


@cache
def _bundled(before_humble: bool) -> Typesdict:
    """The types of packages that come with us, by the versions that recorders had."""
    name = f"control_msgs_{'galactic' if before_humble else 'humble'}.msg"
    _licence, separator, text = (_BUNDLED / name).read_text().partition("=" * 80)
    return types_from_msg(separator + text, "")


def _parsed(msgtype: str, definition: Definition) -> Typesdict:
    kind = "IDL" if definition.format in {"ros2idl", "omgidl"} else "MSG"
    if is_service_event(msgtype) and sections(definition.text, msgtype, kind)[0].kind != "IDL":
        return service_event_types(definition.text, msgtype)
    parse = types_from_idl if kind == "IDL" else types_from_msg
    return parse(definition.text, msgtype)


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
    found = [part for each in sections(text, msgtype) for part in _parts(each)]
    in_idl = {section.name for section in found if section.kind == "IDL"}
    types: dict[str, Any] = {}
    for kind, name, body in found:
        if kind == "IDL":
            types.update(types_from_idl(body))
        elif name not in in_idl or body.strip():
            # Under the service's name, rosbags would look for its neighbours among services.
            types.update(types_from_msg(body, name.replace("/srv/", "/")))
    return {
        _proper(name): (constants, [(field, _described(what)) for field, what in fields])
        for name, (constants, fields) in types.items()
    }


def _parts(section: Section) -> Iterator[Section]:
    """A section, or what a service's file is made of."""
    if section.kind != "SRV":
        yield section
        return
    service, parts = section.name, _REQUEST_END.split(section.text)
    if len(parts) != 2:
        raise DamageError(f"{service} has {len(parts) - 1} lines '---', not 1")
    yield Section("MSG", "builtin_interfaces/Time", _TIME)
    yield Section("MSG", "service_msgs/ServiceEventInfo", _INFO)
    yield Section("MSG", f"{service}_Event", _EVENT.format(service=service))
    yield Section("MSG", f"{service}_Request", parts[0])
    yield Section("MSG", f"{service}_Response", parts[1])


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
