"""What became of an episode, as the bridge says it in a message and others read it there."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class EpisodeResult:
    """What became of one episode.

    Attributes:
        episode: Its number, from 0.
        seed: What the environment was reset with.
        return_: Undiscounted sum of its rewards.
        length: Number of transitions.
        terminated: Whether the task itself ended it.
        truncated: Whether a time limit or a reset ended it.
        success: Whether the environment calls it a success (``info["is_success"]``), or the
            contract does where the environment has no task; ``None`` if neither says.
        failure: Why the simulation could not go on, as when the physics is lost; else empty.
    """

    episode: int
    seed: int
    return_: float
    length: int
    terminated: bool
    truncated: bool
    success: bool | None
    failure: str = ""

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps({key.rstrip("_"): value for key, value in vars(self).items()})

    @classmethod
    def from_json(cls, line: str) -> EpisodeResult:
        """Rebuild the result that `to_json` wrote."""
        document = json.loads(line)
        return cls(return_=document.pop("return"), **document)
