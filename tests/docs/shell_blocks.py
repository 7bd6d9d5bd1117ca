"""What a page of the documentation tells to type, and what it says is printed."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"(<<'?(\w+)'?.*?\n)(.*?)^\2$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)
_SEPARATORS = "();<>|&\n"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of a page, in order."""
    return _FENCE.findall(page.read_text())


def shell(page: Path) -> list[str]:
    """The blocks that are to be typed."""
    return [text for language, text in blocks(page) if language in ("sh", "bash")]


def inline(page: Path) -> list[str]:
    """What stands in single backquotes, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", page.read_text()))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell block; of a redirection, its target as ``>FILE``."""
    text = _HEREDOC.sub(_script_within, text)
    text = _COMMENT.sub("", text.replace("\\\n", " "))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    words: list[str] = []
    redirection = ""
    for token in lexer:
        if token.strip(_SEPARATORS):
            words.append(redirection + token)
            redirection = ""
        elif "<" in token or ">" in token:
            redirection = token[0]
        elif words:
            yield words
            words = []
    if words:
        yield words


def _script_within(document: re.Match[str]) -> str:
    """Leave of a document that the shell writes what is typed there, if it is a script."""
    return document[1] + (document[3] if document[3].startswith("#!/bin/bash\n") else "")
