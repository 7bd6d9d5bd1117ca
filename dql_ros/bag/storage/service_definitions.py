"""The types of a service's events, from any form in which recorders define them.

An event has ``info``, and the request and the response in lists of at most one (REP 2012). Bags
define it in two forms: as messages are, or, as rosbag2's recorder has it since Jazzy, by the
service's own file behind a line ``SRV: package/srv/Name``, followed by the messages that the
service uses; these are ``MSG`` sections, or an empty ``MSG`` section and an ``IDL`` one
(``local_message_definition_source.cpp`` in rosbag2_cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict

from dql_ros.bag.storage.damage import DamageError
from dql_ros.bag.storage.definition_text import types_from_idl, types_from_msg

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
        DamageError: If a service's file does not tell request from response.
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
