"""For each command of a bag the state that answers it, and after what time it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from dql_core.spec import FieldSpec
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract
from dql_ros.contract.units import conversion
from dql_ros.tools.delay.estimate import WIDEST_S, Delay, Track, estimate_delay, unexplained
from dql_ros.tools.delay.recorded import (
    NamedTrack,
    ReceiptDelays,
    RecordedTracks,
    read_tracks,
)

# A picture shows so much of a bag, at so many times.
_SHOWN_S, _SHOWN = 4.0, 200
Document = dict[str, Any]


def find_delays(
    bag: Bag, contract: Contract, namespace: str, progress: Callable[[int], None]
) -> Document:
    """Return all delays of a bag, ready for JSON.

    Args:
        bag: An opened bag; it is read twice.
        contract: Names commands and states.
        namespace: Namespace of its relative topics in the bag.
        progress: Called, now and then, with how many of the bag's bytes are done.

    Raises:
        BagError: If the bag is damaged, lacks a topic of the contract, or has no episode.
    """
    receipts = ReceiptDelays(bag, contract, namespace).read(progress)
    tracks = read_tracks(bag, contract, namespace, progress)
    pairs = [_pair(command, tracks) for command in tracks.commands]
    return {
        "streams": receipts,
        "pairs": pairs,
        "contract": [_line(stream.topic, pairs) for stream in contract.action],
        "remarks": list(tracks.remarks),
    }


def _pair(command: NamedTrack, tracks: RecordedTracks) -> Document:
    """What a command's pair shows."""
    others = [each.track for each in tracks.commands if each is not command]
    state, kinds = _answer(command, tracks.states)
    found = [
        estimate_delay(
            command.track, state.track, integrated=integrated, rises=rises, others=others
        )
        for integrated, rises in kinds
        if state is not None
    ]
    nothing = Delay(doubt="no state of the contract can answer it")
    delay = min(found, key=lambda each: each.untold, default=nothing)
    return {
        "topic": command.stream.topic,
        "command": command.field.name,
        "state": None if state is None else state.field.name,
        "stamp": None if state is None else state.stream.stamp,
        "answers_by": "speed" if delay.integrated else "value",
        "delay_ms": _ms(delay.seconds),
        "low_ms": _ms(delay.low_s),
        "high_ms": _ms(delay.high_s),
        "explained": round(delay.explained, 4),
        "lag_ms": _ms(delay.lag.seconds),
        "lag_order": delay.lag.order,
        "gain": float(f"{delay.gain:.4g}"),
        "doubt": delay.doubt,
        "curve": {
            "delay_ms": [_ms(each) for each in delay.curve[0]],
            "unexplained": [round(each, 5) for each in delay.curve[1]],
        },
        "example": {} if state is None else _example(command.track, state.track, delay.integrated),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 2)


def _answer(
    command: NamedTrack, states: Sequence[NamedTrack]
) -> tuple[NamedTrack | None, list[tuple[bool, bool]]]:
    """The state that answers a command, and the ways in which it may; see `_kinds`.

    Of what has the command's unit, or is that of its speed, what has its name comes first; where
    nothing has the unit, as with efforts, any state may answer. Of several the one that the
    command explains best.
    """
    kinds = [(state, list(_kinds(command.field, state.field))) for state in states]
    if any(each for _, each in kinds):
        kinds = [(state, each) for state, each in kinds if each]
    else:
        kinds = [(state, [(False, False), (True, False)]) for state in states]
    named = [each for each in kinds if _is_named_alike(command.field, each[0].field)]
    kinds = named or kinds
    if len(kinds) < 2:
        return kinds[0] if kinds else (None, [])
    left = [
        min(
            unexplained(command.track, state.track, integrated=integrated, rises=rises)
            for integrated, rises in each
        )
        for state, each in kinds
    ]
    return kinds[int(np.argmin(left))]


def _kinds(command: FieldSpec, state: FieldSpec) -> Iterator[tuple[bool, bool]]:
    """Whether the state may answer by its speed, and whether it then rises with the command."""
    if command.unit in {"", "1"}:
        return
    for integrated, unit in ((False, state.unit), (True, f"{state.unit}/s")):
        with suppress(ValueError):
            conversion(command.unit, unit)
            yield integrated, True


def _is_named_alike(command: FieldSpec, state: FieldSpec) -> bool:
    """Whether two fields are of one joint, or of one place in their messages."""
    mine, other = command.source or {}, state.source or {}
    joint = other.get("joint")
    if joint is not None:
        return bool(joint == mine.get("joint") or joint in command.name)
    path, others = (str(each.get("path", "")).split(".") for each in (mine, other))
    return len(path) > 1 and path[-2:] == others[-2:]


def _line(topic: str, pairs: Sequence[Document]) -> Document:
    """What to write of an action stream into the contract, or why nothing."""
    own = [pair for pair in pairs if pair["topic"] == topic]
    told = [pair["delay_ms"] for pair in own if not pair["doubt"]]
    if not told:
        return {"topic": topic, "delay_s": None, "doubt": "no command of it tells"}
    if max(told) - min(told) > 2000 * WIDEST_S:
        between = f"{min(told):.0f} and {max(told):.0f} ms"
        return {"topic": topic, "delay_s": None, "doubt": f"its commands differ: {between}"}
    return {"topic": topic, "delay_s": round(float(np.median(told)) / 1000, 4), "doubt": ""}


def _example(command: Track, state: Track, integrated: bool) -> dict[str, list[float | None]]:
    """Command, and state or its speed, where the command moves most; seconds of the bag."""
    times = command.times_s[np.isfinite(command.values)]
    values = command.values[np.isfinite(command.values)]
    if len(times) < 2:
        return {}
    cells = np.floor((times - times[0]) / _SHOWN_S).astype(np.int64)
    moved = np.bincount(cells[1:], np.abs(np.diff(values)))
    begin = float(times[0]) + _SHOWN_S * int(np.argmax(moved))
    shown = np.linspace(begin, begin + _SHOWN_S, _SHOWN)
    held = values[np.maximum(np.searchsorted(times, shown, side="right") - 1, 0)]
    finite = np.isfinite(state.values)
    state_times, answer = state.times_s[finite], state.values[finite]
    order = np.unique(state_times, return_index=True)[1]
    state_times, answer = state_times[order], answer[order]
    if integrated and len(answer) > 1:
        answer = np.gradient(answer, state_times)
    inside = (state_times >= begin) & (state_times <= begin + _SHOWN_S)
    step = max(1, int(inside.sum()) // _SHOWN)
    return {
        "command_s": _short(shown),
        "command": _short(held),
        "state_s": _short(state_times[inside][::step]),
        "state": _short(answer[inside][::step]),
    }


def _short(values: Any) -> list[float | None]:
    return [float(f"{each:.6g}") for each in values.tolist()]
