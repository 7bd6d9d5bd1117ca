"""What the demo leaves beside its pictures: the table's figures, the details, the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dql_core.files import MARKER
from dql_core.page import fill
from dql_ros.demo.figures import POLICY_COLOURS
from dql_ros.demo.judging import Foreseen
from dql_ros.demo.progress import FinishedStage
from dql_ros.demo.rollouts import Rollouts

PAGE_FILE, DETAILS_FILE = "index.html", "details.json"
PATHS_FILE, CURVES_FILE = "paths.png", "learning_curves.png"
FILM_FILE, POSTER_FILE = "robot.mp4", "robot.png"


def write_results(
    root: Path,
    rollouts: Sequence[Rollouts],
    foreseen: Mapping[str, Foreseen],
    stages: Sequence[FinishedStage],
    *,
    command: str,
    no_film: str,
) -> None:
    """Write ``summary.json``, ``details.json`` and ``index.html`` into ``root``."""
    _write_json(root / MARKER, summary(rollouts))
    _write_json(root / DETAILS_FILE, details(rollouts, foreseen, stages, command))
    page = fill(
        Path(__file__).with_name("page.html"),
        rollouts=rollouts,
        foreseen=foreseen,
        colours=POLICY_COLOURS,
        stages=stages,
        no_film=no_film,
        film=FILM_FILE,
        poster=POSTER_FILE,
        paths=PATHS_FILE,
        curves=CURVES_FILE,
        links=_LINKS,
        command=command,
    )
    (root / PAGE_FILE).write_text(page, encoding="utf-8")


def summary(rollouts: Sequence[Rollouts]) -> dict[str, Any]:
    """The figures of the table; ``ci95`` is the interval's ``[low, high]``."""
    policies = {
        one.key: {
            "success_rate": one.success_rate.to_json(),
            "return": one.mean_return.to_json(),
        }
        for one in rollouts
    }
    return {"policies": policies}


def details(
    rollouts: Sequence[Rollouts],
    foreseen: Mapping[str, Foreseen],
    stages: Sequence[FinishedStage],
    command: str,
) -> dict[str, Any]:
    """What else is worth knowing of a demo."""
    return {
        "command": command,
        "stages": [vars(stage) for stage in stages],
        "policies": {one.key: _episode_details(one) for one in rollouts},
        "foreseen": {key: each.to_json() for key, each in foreseen.items()},
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n")


def _episode_details(rollouts: Rollouts) -> dict[str, Any]:
    return {
        "episodes": len(rollouts.results),
        "outcomes": {
            name: rollouts.outcomes.count(name) for name in sorted(set(rollouts.outcomes))
        },
        "ways": {way or "none": count for way, count in rollouts.ways.items()},
        "returns": [round(result.return_, 4) for result in rollouts.results],
    }


_LINKS = (
    (MARKER, "the table's figures"),
    (DETAILS_FILE, "outcomes, ways and the return of every episode"),
    ("dataset/report.html", "what the converter made of the bags"),
    ("bags/", "the recorded demonstrations, one rosbag2 folder a session"),
    ("dataset/", "the Minari dataset"),
    ("training/", "run folders; tensorboard --logdir shows them"),
    ("bundles/", "the exported policies, ready for a policy node"),
    ("judge/judge.html", "what was foreseen of the policies, in full"),
    ("closed_loop/", "bags and datasets of the policies' own episodes"),
)
