"""What a policy in shadow mode would have sent, beside what was sent: how far they are apart.

Its commands alone say nothing of what the policy is worth: they were never carried out, and what
it would have done in other states is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.evaluation.offline.agreement import (
    STRETCH_STEPS,
    Agreement,
    Stretch,
    beyond_limits,
    compare,
)
from dql_core.evaluation.offline.judging import (
    FORMAT_VERSION,
    Judgement,
    finite,
    objections_to_acting,
)
from dql_core.evaluation.offline.recording import lay_out
from dql_core.evaluation.offline.support import measure_support
from dql_core.runtime.guard import Guard

# Of values, which nothing here depends on.
_DISCOUNT = 0.9
# In which far shares are measured; more would sharpen them little.
MAX_STATES = 2_000


@dataclass(frozen=True)
class ShadowEpisode:
    """An episode of T steps that somebody drove, with what a policy would have sent.

    Attributes:
        episode: What was observed and sent.
        commands: What the policy would have sent, shape (T, A); NaN where it sent nothing.
        source: Where it was recorded.
        times_s: When each step was, in seconds since the recording began, shape (T,).
    """

    episode: Episode
    commands: NDArray[np.float32]
    source: str
    times_s: NDArray[np.float64]


@dataclass(frozen=True)
class ShadowFindings:
    """How a policy in shadow mode compares with who drove.

    Attributes:
        episodes: What was compared.
        steps: How many steps they have, also those without a command of the policy.
        agreement: Of the policy's commands with those that were sent. Its guards are those that
            can be told from the observations alone; the policy's commands have passed the others.
        far_share: Share of the states in which it would have acted like nobody acted nearby;
            ``None`` if there are too few to say.
        reported: What the node itself counted, by its names.
        remarks: What a reader must know of the recordings.
    """

    episodes: tuple[ShadowEpisode, ...]
    steps: int
    agreement: Agreement
    far_share: float | None
    reported: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def objections(self) -> list[str]:
        """What speaks against letting it drive."""
        return objections_to_acting(self.agreement, self.far_share)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; moments have the recording and the time in it."""
        agreement = self.agreement.to_json()
        for moment in agreement["moments"]:
            there = self.episodes[moment["episode"]]
            moment["source"] = there.source
            moment["at_s"] = round(float(there.times_s[moment["step"]]), 6)
        return {
            "sources": list(dict.fromkeys(each.source for each in self.episodes)),
            "steps": self.steps,
            "far_share": self.far_share,
            "agreement": agreement,
            "reported": dict(self.reported),
            "remarks": list(self.remarks),
            "objections": self.objections,
        }


def document_of(
    dataset: LoadedDataset, shadow: ShadowFindings, judgement: Judgement | None
) -> dict[str, Any]:
    """Return the content of ``judge.json``.

    Args:
        dataset: The episodes that were driven.
        shadow: What was found in them.
        judgement: What policies are worth by the same episodes, if any was asked for.
    """
    document: dict[str, Any] = (
        {
            "format_version": FORMAT_VERSION,
            "dataset": {
                "source": dataset.source,
                "episodes": len(dataset.episodes),
                "transitions": dataset.num_transitions,
            },
            "spec": dataset.spec.to_json(),
            "remarks": [],
            "behaviour": None,
            "policies": [],
            "take": None,
        }
        if judgement is None
        else judgement.to_json()
    )
    return {**document, "shadow": finite(shadow.to_json())}


def compare_shadow(
    dataset: LoadedDataset,
    episodes: Sequence[ShadowEpisode],
    reported: Mapping[str, str],
    remarks: tuple[str, ...] = (),
    seed: int = 0,
) -> ShadowFindings | None:
    """Compare shadow commands with what was sent.

    Args:
        dataset: The episodes that were driven, and what their numbers mean.
        episodes: The same, with the shadow commands.
        reported: As `ShadowFindings.reported`.
        remarks: As `ShadowFindings.remarks`.
        seed: Of which states are looked at where there are many.

    Returns:
        What was found; ``None`` if there is no step with both.
    """
    parts = [part for number, each in enumerate(episodes) for part in _stretches(number, each)]
    if not parts:
        return None
    chosen = np.concatenate([episodes[each.number].commands[each.steps] for each in parts])
    observed = np.concatenate([each.episode.observations[each.steps] for each in parts])
    guards = {
        Guard.IMPOSSIBLE_OBSERVATION.value: float(beyond_limits(observed, dataset.spec).mean())
    }
    return ShadowFindings(
        episodes=tuple(episodes),
        steps=dataset.num_transitions,
        agreement=compare(parts, dataset.spec, chosen, guards),
        far_share=_far_share(dataset, episodes, seed),
        reported=reported,
        remarks=remarks,
    )


def _stretches(number: int, shadow: ShadowEpisode) -> list[Stretch]:
    """Return the steps in which the policy sent something, without gaps in a stretch."""
    known = np.isfinite(shadow.commands).all(axis=1).astype(np.int8)
    edges = np.flatnonzero(np.diff(known, prepend=0, append=0))
    return [
        Stretch(number, start, shadow.episode, min(STRETCH_STEPS, int(end) - start))
        for first, end in zip(edges[::2], edges[1::2], strict=True)
        for start in range(int(first), int(end), STRETCH_STEPS)
    ]


def _far_share(
    dataset: LoadedDataset, episodes: Sequence[ShadowEpisode], seed: int
) -> float | None:
    recording = lay_out(dataset, _DISCOUNT)
    commands = np.concatenate([each.commands for each in episodes])
    known = np.isfinite(commands).all(axis=1)
    # Those before a step with both, in the same episode.
    asked = np.flatnonzero(known[1:] & (recording.episodes[1:] == recording.episodes[:-1]))
    if not len(asked):
        return None
    following = np.random.default_rng(seed).permutation(asked)[:MAX_STATES] + 1
    support = measure_support(recording, recording.rows[following], seed)
    return support.far_share(recording.standardized(commands[following]))
