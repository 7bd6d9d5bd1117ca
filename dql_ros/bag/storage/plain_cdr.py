"""Messages in the rarer forms of CDR, written anew in the plain one that all other code reads.

Rare are big-endian numbers, wide texts and characters, ``long double``, an empty text without its
terminating zero, and bytes in a text that are no UTF-8. Plain is XCDR version 1, little-endian,
with texts in UTF-8 and ``long double`` as its 16 bytes.

How long a wide character is depends on who wrote it: Fast CDR 1 (up to Iron) counts characters of
4 bytes, Fast CDR 2 (since Jazzy) bytes of characters of 2, others characters of 2. The form is
the one in which the message has just the length that its type gives it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict

from dql_ros.bag.storage.storage import DamageError
from dql_ros.codecs.cdr_layout import MAX_PADDING

HEAD = b"\0\1\0\0"
_SIZES = {
    **dict.fromkeys(("bool", "byte", "char", "int8", "uint8"), 1),
    **dict.fromkeys(("int16", "uint16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64"), 8),
}
# What takes their place in the plain form.
_REPLACED = {"wstring": "string", "wchar": "uint32", "float128": "uint8"}
_LONG_DOUBLE_BYTES = 16
_NOTHING = (("", (Nodetype.BASE, ("uint8", 0))),)  # what CDR has of a type without fields


def is_plain(types: Typesdict) -> bool:
    """Whether messages of types have numbers and narrow texts only."""
    return not any(
        _base_of(description) in _REPLACED
        for _, fields in types.values()
        for _, description in fields
    )


def plain_types(types: Typesdict) -> Typesdict:
    """Return what types are in the plain form.

    Raises:
        DamageError: If one has a field of a kind that is not understood.
    """
    return {
        name: (constants, [(field, _plain(field, what)) for field, what in fields])
        for name, (constants, fields) in types.items()
    }


def _base_of(description: Any) -> str:
    """The kind of a field's numbers or texts; empty for messages."""
    node, detail = description
    if node in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
        node, detail = detail[0]
    return str(detail[0]) if node == Nodetype.BASE else ""


def _plain(field: str, description: Any) -> Any:
    kind = _base_of(description)
    if kind in {"", "string", *_SIZES}:
        return description
    if kind not in _REPLACED:
        raise DamageError(f"its field {field} is a {kind}, which is not understood")
    node, detail = description
    element = (Nodetype.BASE, (_REPLACED[kind], 0))
    is_single = node == Nodetype.BASE
    if kind != "float128":
        return element if is_single else (node, (element, detail[1]))
    count = 1 if is_single else detail[1]
    return Nodetype.ARRAY if is_single else node, (element, count * _LONG_DOUBLE_BYTES)


class _Wide(NamedTuple):
    """A form of wide texts: bytes of a character, and whether a text's length is in bytes."""

    size: int
    in_bytes: bool


_WIDE_FORMS = (_Wide(4, False), _Wide(2, True), _Wide(2, False))


class PlainCdr:
    """Writes messages of one type anew.

    Args:
        msgtype: The type.
        types: The type and those that it uses, as recorded.
    """

    def __init__(self, msgtype: str, types: Typesdict) -> None:
        self._msgtype = msgtype
        self._fields = {name: tuple(fields) or _NOTHING for name, (_, fields) in types.items()}
        self._forms = _WIDE_FORMS[:1] if is_plain(types) else _WIDE_FORMS

    def __call__(self, message: bytes | memoryview) -> bytes:
        """Return a message in the plain form.

        Raises:
            DamageError: If it is no message of the type.
        """
        found: tuple[int, bytes] | None = None
        reason = "it is no CDR"
        for form in self._forms:
            try:
                left, plain = _rewritten(bytes(message), self._msgtype, self._fields, form)
            except (DamageError, struct.error, UnicodeError) as cause:
                reason = str(cause)
            else:
                if found is None or left < found[0]:
                    found = left, plain
        if found is None:
            raise DamageError(reason)
        return found[1]


def _rewritten(
    message: bytes, msgtype: str, fields: Mapping[str, Any], form: _Wide
) -> tuple[int, bytes]:
    """How many bytes are left behind the last field, and the message in the plain form."""
    if len(message) < len(HEAD) or message[:2] not in {b"\0\0", b"\0\1"}:
        raise DamageError("it is no CDR")
    walk = _Rewriting(message, fields, form)
    walk.message(msgtype)
    if walk.left > MAX_PADDING:
        raise DamageError(f"it has {walk.left} bytes more than its type")
    return walk.left, bytes(walk.plain)


class _Rewriting:
    """One pass over a message along its definition."""

    def __init__(self, message: bytes, fields: Mapping[str, Any], form: _Wide) -> None:
        self.plain = bytearray(HEAD)
        self._message = message
        self._fields = fields
        self._form = form
        self._order = "<" if message[1] & 1 else ">"
        self._position = len(HEAD)

    @property
    def left(self) -> int:
        return len(self._message) - self._position

    def message(self, msgtype: str) -> None:
        for _, (node, detail) in self._fields[msgtype]:
            if node in {Nodetype.BASE, Nodetype.NAME}:
                self._elements((node, detail), 1)
            elif node == Nodetype.ARRAY:
                self._elements(*detail)
            else:
                count = self._length()
                kind = _base_of(detail[0])
                factor = _LONG_DOUBLE_BYTES if kind == "float128" else 1
                self._write("<I", 4, count * factor)
                self._elements(detail[0], count)

    def _elements(self, description: Any, count: int) -> None:
        node, detail = description
        if count > self.left:
            raise DamageError(f"it cannot have {count} elements")
        if node == Nodetype.NAME:
            for _ in range(count):
                self.message(detail)
        elif detail[0] in {"string", "wstring"}:
            for _ in range(count):
                self._text(self._narrow() if detail[0] == "string" else self._wide())
        elif count:
            self._numbers(detail[0], count)

    def _numbers(self, kind: str, count: int) -> None:
        if kind == "float128":
            self.plain += self._take(8, _LONG_DOUBLE_BYTES * count)
            return
        size = self._form.size if kind == "wchar" else _SIZES[kind]
        numbers = np.frombuffer(self._take(size, size * count), f"{self._order}u{size}")
        plain = numbers.astype("<u4" if kind == "wchar" else f"<u{size}")
        self._align(plain.itemsize)
        self.plain += plain.tobytes()

    def _narrow(self) -> str:
        size = self._length()
        text = self._take(1, size)
        if size and text[-1] != 0:
            raise DamageError("a text of it does not end with a zero")
        return text[:-1].decode(errors="backslashreplace")

    def _wide(self) -> str:
        length, (size, in_bytes) = self._length(), self._form
        bytes_ = self._take(1, length if in_bytes else length * size)
        if len(bytes_) % size:
            raise DamageError("a wide text of it has half a character")
        units = np.frombuffer(bytes_, f"{self._order}u{size}").astype("<u4")
        # Up to Iron, each half of a pair that makes one character in UTF-16 took 4 bytes, too.
        is_pairs = units.max(initial=0) <= 0xFFFF
        text = units.astype("<u2" if is_pairs else "<u4").tobytes()
        return text.decode("utf-16-le" if is_pairs else "utf-32-le").rstrip("\0")

    def _text(self, text: str) -> None:
        content = text.encode() + b"\0"
        self._write("<I", 4, len(content))
        self.plain += content

    def _length(self) -> int:
        return int.from_bytes(self._take(4, 4), "little" if self._order == "<" else "big")

    def _take(self, alignment: int, size: int) -> bytes:
        start = self._position + -(self._position - len(HEAD)) % alignment
        if start + size > len(self._message):
            raise DamageError("it is shorter than its type")
        self._position = start + size
        return self._message[start : start + size]

    def _align(self, size: int) -> None:
        self.plain += bytes(-(len(self.plain) - len(HEAD)) % size)

    def _write(self, form: str, alignment: int, number: int) -> None:
        self._align(alignment)
        self.plain += struct.pack(form, number)
