import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dql_core.errors import SimulationError
from dql_ros.demo.figures import LearningCurve, draw_learning_curves, draw_paths
from dql_ros.demo.progress import FinishedStage
from dql_ros.demo.results import summary, write_results
from dql_ros.demo.rollouts import Rollouts, outcome_of, require_same_episodes
from tests.ros.demo.demo_data import recorded_episode, rollouts, three_policies

STAGES = [FinishedStage("record", "4 demonstrations <fast>", 3.2)]


class Page(HTMLParser):
    """What a page shows and refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open_tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value for key, value in attrs if key in {"src", "href"} and value]
        if tag not in {"meta", "img"}:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag


@pytest.fixture
def policies() -> list[Rollouts]:
    return three_policies()


@pytest.mark.parametrize("outcome", ["success", "collision", "timeout"])
def test_an_outcome_is_told_from_the_recording_alone(outcome: str) -> None:
    assert outcome_of(recorded_episode(outcome, 0.2)) == outcome  # type: ignore[arg-type]


def test_ways_are_told_from_the_recorded_joint_angles(policies: list[Rollouts]) -> None:
    assert policies[0].ways == {"inner": 1, "outer": 2, None: 1}


def test_the_summary_has_the_figures_of_the_table_and_nothing_else(
    policies: list[Rollouts],
) -> None:
    document = summary(policies)
    assert set(document) == {"policies"}
    assert list(document["policies"]) == ["demonstrator", "diffusion_bc", "diffusion_ql"]
    rate = document["policies"]["diffusion_ql"]["success_rate"]
    assert rate["mean"] == 0.75
    assert rate["ci95"][0] < 0.75 < rate["ci95"][1]
    returns = [result.return_ for result in policies[2].results]
    assert document["policies"]["diffusion_ql"]["return"]["mean"] == pytest.approx(
        np.mean(returns)
    )
    assert set(document["policies"]["diffusion_bc"]) == {"success_rate", "return"}


def test_a_recording_with_other_episodes_than_were_driven_is_refused() -> None:
    full = rollouts("diffusion_ql", ["success", "collision", "success"])
    require_same_episodes(full.results, full.episodes, "all")
    with pytest.raises(SimulationError, match=r"lossy has 2 .* ran 3.* episode 1"):
        require_same_episodes(full.results, full.episodes[::2], "lossy")


def test_the_paths_are_drawn_in_the_outcomes_colours(
    policies: list[Rollouts], tmp_path: Path
) -> None:
    draw_paths(policies, tmp_path / "paths.png")
    picture = np.asarray(Image.open(tmp_path / "paths.png").convert("RGB")).astype(int)
    height, width, _ = picture.shape
    assert width > 1.5 * height
    greens = (picture[..., 1] > picture[..., 0] + 60) & (picture[..., 1] > picture[..., 2] + 30)
    for left in range(3):  # every panel has a success
        assert greens[:, left * width // 3 : (left + 1) * width // 3].any()


def test_learning_curves_are_drawn_of_what_an_agent_has(
    policies: list[Rollouts], tmp_path: Path
) -> None:
    point = {"step": 10, "success_rate": 0.5, "success_rate_ci95": [0.3, 0.7]}
    point |= {"mean_return": 1.0, "mean_return_ci95": [None, None]}
    curves = [
        LearningCurve("diffusion_bc", "Diffusion-BC", [point], [{"step": 5, "imitation": 0.4}]),
        LearningCurve(
            "diffusion_ql", "Diffusion-QL", [], [{"step": 5, "imitation": 0.4, "q_data": 1.0}]
        ),
    ]
    draw_learning_curves(curves, policies[0], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > picture.height


def test_the_page_shows_the_results_by_relative_links(
    policies: list[Rollouts], tmp_path: Path
) -> None:
    write_results(tmp_path, policies, {}, STAGES, command="dql demo --out <x>", no_film="")
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert page.open_tags == []
    assert {"paths.png", "learning_curves.png", "robot.mp4", "summary.json"} <= set(
        page.references
    )
    assert not [href for href in page.references if re.match(r"/|\w+:", href)]
    assert "4 demonstrations &lt;fast&gt;" in text
    assert "dql demo --out &lt;x&gt;" in text
    details = json.loads((tmp_path / "details.json").read_text())
    assert details["policies"]["demonstrator"]["outcomes"] == {
        "collision": 1,
        "success": 2,
        "timeout": 1,
    }


def test_without_a_film_the_page_says_why(policies: list[Rollouts], tmp_path: Path) -> None:
    write_results(tmp_path, policies, {}, STAGES, command="dql demo", no_film="no EGL device")
    text = (tmp_path / "index.html").read_text()
    assert "There is no video: no EGL device" in text
    assert "<video" not in text
