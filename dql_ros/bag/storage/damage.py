"""What is wrong with a file, and what was lost by it."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from dataclasses import dataclass

import zstandard
from mcap.exceptions import McapError
from rosbags.rosbag1 import ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import TypesysError
from yaml import YAMLError

# Parsers repeat what they could not parse, all of it.
MAX_SENTENCE = 300


class DamageError(Exception):
    """Why a file, or a part of it, cannot be read: half a sentence without the file's name."""


# What the libraries raise on damaged files; a defect of theirs must not end in a traceback.
DAMAGE = (
    DamageError,
    McapError,
    ReaderError,
    SerdeError,
    TypesysError,
    YAMLError,
    sqlite3.Error,
    struct.error,
    zlib.error,
    zstandard.ZstdError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    SyntaxError,
)


@dataclass(frozen=True)
class Loss:
    """What could not be read of a file.

    Attributes:
        file: The file's name.
        reason: What is wrong with it.
        messages: How many messages of the wanted topics are lost; ``None`` where nobody knows.
        bytes: How many bytes of the file were given up; ``None`` where nobody knows.
    """

    file: str
    reason: str
    messages: int | None
    bytes: int | None


def sentence(cause: BaseException) -> str:
    """Return an exception's message on one line, or its kind if it says nothing."""
    text = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
    return text if len(text) <= MAX_SENTENCE else f"{text[:MAX_SENTENCE]}…"
