"""What a check found: sentences, each said once and none longer than a screen's few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# Ten lines of a terminal.
LONGEST = 780
# So many fields of a topic are named with their figures, others with their names.
MOST_FIELDS = 3


@dataclass
class Findings:
    """Sentences without the contract's name.

    Attributes:
        problems: What must be mended before anything can be converted.
        warnings: What converts, but perhaps not as it was meant.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: Findings, where: str = "") -> None:
        """Take over what was found elsewhere, with the place in front."""
        prefix = f"{where}: " if where else ""
        self.problems += [f"{prefix}{text}" for text in other.problems]
        self.warnings += [f"{prefix}{text}" for text in other.warnings]


def once(texts: Sequence[str], places: Sequence[str]) -> list[str]:
    """Say what is the same of several recordings once, and nothing at great length.

    Args:
        texts: Sentences; those that are about a recording begin with it.
        places: The recordings.
    """
    same: dict[str, list[str]] = {}
    for text in texts:
        place = next((each for each in places if text.startswith(f"{each}: ")), "")
        same.setdefault(text.removeprefix(f"{place}: ") if place else text, []).append(place)
    return [shortened(_with_places(text, list(dict.fromkeys(at)))) for text, at in same.items()]


def _with_places(text: str, places: Sequence[str]) -> str:
    first, more = places[0], len(places) - 1
    if not first:
        return text
    others = f" and {more} more" if more else ""
    return f"{first}{others}: {text}"


def shortened(text: str) -> str:
    """Return a sentence on one line, cut where it is too long for a reader."""
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST else f"{flat[:LONGEST]} ..."


def of_fields(topic: str, texts: Mapping[str, str]) -> Iterator[str]:
    """Say one thing of several fields of a topic; of most of many, only that it is the same.

    Args:
        topic: The topic.
        texts: What is said of each, by its name.
    """
    named = list(texts)
    shown = named if len(named) <= MOST_FIELDS else named[: MOST_FIELDS - 1]
    yield from (f"{topic}: '{name}' {texts[name]}" for name in shown)
    if rest := named[len(shown) :]:
        listed = ", ".join(f"'{name}'" for name in rest[:8])
        more = f" and {len(rest) - 8} more" if len(rest) > 8 else ""
        yield f"{topic}: the same of {len(rest)} more fields: {listed}{more}"
