"""The project's own errors: each says what, where, which value, which rule, and how to fix it."""

import difflib
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

MAX_LISTED = 12
# Of a longer line that is printed or logged, the beginning.
MAX_LINE = 4000

# What the operating system may refuse through no mistake of the program, and how to fix it.
_REMEDIES = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EDQUOT: "the quota is used up; free some room, or name another place",
    errno.EEXIST: "something else is there; name another place",
    errno.EFBIG: "the file system or 'ulimit -f' allows no larger file; name another place",
    errno.EIO: "the disk or its connection fails; see 'dmesg', or name another place",
    errno.EISDIR: "a folder is there; name a file",
    errno.ELOOP: "it is a link, or links lead in a circle; name the file itself",
    errno.EMFILE: "raise 'ulimit -n'",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENFILE: "end other programs",
    errno.ENODEV: "name a file",
    errno.ENOENT: "check the name",
    errno.ENOMEM: "end other programs, or use a machine with more memory",
    errno.ENOSPC: "free some room, or name another place",
    errno.ENOTDIR: "a file is where a folder must be; name another place",
    errno.ENOTEMPTY: "something else is there; name another place",
    errno.ENXIO: "name a file",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.ESTALE: "the server of the file system was restarted; mount it again",
    errno.ETXTBSY: "end the program that uses it",
}


class DqlError(Exception):
    """A mistake of the user's, with the way to fix it; the command line exits with 2."""


class ConfigError(DqlError):
    """A training configuration or a command-line value breaks a rule."""


class ContractError(DqlError):
    """A robot contract breaks a rule, or a message does not have what the contract names."""


class SpecMismatchError(DqlError):
    """Two of contract, dataset, checkpoint and bundle do not describe the same robot."""


class BagError(DqlError):
    """A bag is missing, damaged, or lacks what the contract needs."""


class DatasetError(DqlError):
    """A dataset is missing, damaged, or unfit for training."""


class CheckpointError(DqlError):
    """A run folder or checkpoint is missing, damaged, or foreign."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written; the one before it may be."""


class BundleError(DqlError):
    """A policy bundle is missing, damaged, or does not reproduce the policy it was made from."""


class OutputError(DqlError):
    """What is to be written cannot be: no room, no permission, or something in its place."""


class SimulationError(DqlError):
    """A simulated robot or one of the processes around it failed or does not fit the contract."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint: the known name nearest to ``name``, or the known names."""
    known = sorted(known)
    return nearest(name, known) or _all(known)


def did_you_mean_path(path: Path, others: Iterable[Path]) -> str:
    """Return a hint: the file or folder whose name without its ending is nearest, or the names.

    Hidden ones, whose names begin with a dot, are left out unless ``path`` is one.
    """
    is_hidden = path.name.startswith(".")
    others = sorted(each for each in others if is_hidden or not each.name.startswith("."))
    stems = difflib.get_close_matches(path.stem, {each.stem for each in others}, n=1, cutoff=0.6)
    alike = {each.name: each for each in others if each.stem in stems}
    if alike:
        (name,) = difflib.get_close_matches(path.name, alike, n=1, cutoff=0.0)
        return f" (did you mean '{alike[name]}'?)"
    return _all([each.name for each in others])


def _all(known: list[str]) -> str:
    if len(known) > MAX_LISTED:
        known[MAX_LISTED:] = [f"and {len(known) - MAX_LISTED} more"]
    return f" (known: {', '.join(known)})" if known else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint: the known name nearest to ``name``; empty if none is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names with commas between them, of many the first."""
    more = len(names) - most
    return f"{', '.join(names[:most])}{f' and {more} more' if more > 0 else ''}"


def is_system_error(cause: OSError) -> bool:
    """Whether the operating system refused something that is no mistake of the program."""
    return cause.errno in _REMEDIES


def system_error_text(cause: OSError) -> str:
    """Return what the operating system refused, and how to fix it."""
    reason = os.strerror(cause.errno) if cause.errno else one_line(cause)
    remedy = _REMEDIES.get(cause.errno or 0)
    return f"{reason}; {remedy}" if remedy else reason


def one_line(cause: object) -> str:
    """Return what ``cause`` says, without line ends; its type if it says nothing."""
    return " ".join(str(cause).split()) or type(cause).__name__


def visible(text: str) -> str:
    """Return a text in which all that is not shown as itself is escaped, as in ``repr``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def visible_lines(text: str) -> str:
    """Return a text of several lines, each of them visible."""
    return "\n".join(map(visible, text.split("\n")))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def counted(number: int, thing: str) -> str:
    """Return how many there are of a thing: 1 message, 2,000 messages."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
