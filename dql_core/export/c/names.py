"""Names and texts of other people's in C: they can be nothing but names and texts.

A contract's names may be somebody else's, and hold what ends a comment or a string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dql_core.errors import BundleError

MAX_PREFIX, MAX_NAME = 24, 48
# C99 promises that a compiler takes texts of 4095 bytes.
MAX_TEXT_BYTES = 1000
PREFIX = re.compile(r"[a-z][a-z0-9_]*")


def identifier(text: str, else_: str, max_length: int = MAX_NAME) -> str:
    """Return a lower-case identifier of C that reads like ``text``.

    Args:
        text: Any.
        else_: What an identifier begins with where ``text`` begins with no letter.
        max_length: Its length at most.
    """
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if not word or not word[0].isalpha():
        word = f"{else_}_{word}".rstrip("_")
    return word[:max_length].rstrip("_")


def distinct(texts: Iterable[str], else_: str) -> Iterator[str]:
    """Yield an identifier for each text; where two would be equal, with its number."""
    taken: set[str] = set()
    for index, text in enumerate(texts):
        word = identifier(text, else_)
        while word in taken:
            word = f"{word}_{index}"
        taken.add(word)
        yield word


def string(text: str) -> str:
    """Return a text as a string literal of C, in UTF-8.

    Raises:
        BundleError: If it is too long for one.
    """
    content = text.encode("utf-8", errors="replace")
    if len(content) > MAX_TEXT_BYTES:
        raise BundleError(
            f"a name in the spec has {len(content):,} bytes, more than {MAX_TEXT_BYTES:,}: "
            f"'{text[:40]}…'; give it a shorter name in the contract, convert and train again"
        )
    return '"' + "".join(map(_character, content)) + '"'


def _character(byte: int) -> str:
    # A question mark may be part of a trigraph.
    if 32 <= byte < 127 and chr(byte) not in '"\\?':
        return chr(byte)
    return f"\\{byte:03o}"


def plain(text: str) -> str:
    """Return a text for markdown: what could be markup is a blank, what is too long is cut."""
    return re.sub(r"[^A-Za-z0-9_./^[\] -]+", " ", text)[:80].strip()
