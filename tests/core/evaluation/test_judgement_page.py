"""The page of a judgement: all of it, nothing from elsewhere, and marks where the numbers are."""

import json
import math
import re
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.evaluation.offline.charts import Scale, curve, interval_marks, scale_of_intervals
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import Candidate, judge
from dql_core.evaluation.offline.page import MOST_DETAILED, MOST_FIELDS, render, short_names
from dql_core.runtime.policy import Decision
from dql_core.spec import FieldSpec, PolicySpec
from tests.html_page import Page, assert_loads_nothing, look, needs_browser

SPEC = PolicySpec(
    "slider",
    20.0,
    (FieldSpec("place", "m"), FieldSpec("goal", "m")),
    (FieldSpec("speed", "m/s", -1.0, 1.0),),
)
QUICK = FittingSettings(members=3, width=8, warm_up=100, updates=200)
EVIL = "<script>alert('x')</script>\" onload='y"


class Constant:
    """Samples 3 candidates around one action, and chooses the one in the middle."""

    def __init__(self, action: float) -> None:
        self._candidates = np.array([[action - 0.1], [action], [action + 0.1]], dtype="f4")

    def decide_for_each(
        self, observations: NDArray[np.float32], rngs: list[np.random.Generator]
    ) -> Decision:
        candidates = np.tile(self._candidates, (len(observations), 1, 1))
        return Decision(
            action=candidates[:, 1],
            q_values=np.zeros(candidates.shape[:2], "f4"),
            candidates=candidates,
        )


def episodes() -> LoadedDataset:
    """Forty slides of 12 steps to a goal, which end there."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(40):
        actions = rng.uniform(-1, 1, (12, 1)).astype("f4")
        places = np.concatenate([[0.0], np.cumsum(actions[:, 0] / 20)])
        goal = np.full(13, rng.uniform(-1, 1))
        observations = np.stack([places, goal], axis=1).astype("f4")
        rewards = -np.abs(places - goal)[1:]
        made.append(Episode(observations, actions, rewards, True, False))
    return LoadedDataset(SPEC, tuple(made), "data/slides")


def candidate(step: int, action: float) -> Candidate:
    facts = {"path": f"runs/a/{step}", "run": "runs/a", "agent": "diffusion_ql", "step": step}
    return Candidate(f"runs/a/checkpoints/{step}", Constant(action), SPEC, 3, None, facts)


@pytest.fixture(scope="module", name="made")
def _made() -> dict[str, Any]:
    found = judge(
        [candidate(100, 0.3), candidate(2000, 0.0)], episodes(), 0.9, settings=QUICK
    ).to_json()
    return found


@pytest.fixture(name="document")
def _document(made: dict[str, Any]) -> dict[str, Any]:
    return deepcopy(made)


def without_value(document: dict[str, Any], policy: int) -> None:
    document["policies"][policy]["worth"].update(
        verdict="no verdict", probability=None, value=None, difference=None
    )


def test_the_page_is_a_function_of_the_json_alone(document: dict[str, Any]) -> None:
    assert render(json.loads(json.dumps(document, allow_nan=False))) == render(document)


def test_the_page_begins_with_the_verdict_and_says_all(document: dict[str, Any]) -> None:
    text = render(document)
    page = Page(text)
    told = " ".join(page.texts)
    for expected in ("slider", "data/slides", "40 recorded episodes", "diffusion_ql", "speed"):
        assert expected in told
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "Policies",
        "Checkpoints of a run",
        "How they act",
        "Each policy",
        "What it rests on",
    ]
    assert "Take" in told.partition("Policies")[0].partition("Judgement")[2]
    for policy in document["policies"]:
        for objection in policy["objections"]:
            assert objection in told
        for guard in policy["agreement"]["guards"]:
            assert guard.replace("_", " ") in told
    assert_loads_nothing(text, page)


def test_each_moment_has_a_series_of_each_field(document: dict[str, Any]) -> None:
    text = render(document)
    moments = sum(len(each["agreement"]["moments"]) for each in document["policies"])
    assert moments == 2 * 10
    assert text.count("<path class=before ") == moments
    # Chosen actions, two observations, and once a policy how its value was fitted.
    assert text.count("<path class=ours ") == moments * 3 + 2
    assert text.count("<line class=now ") == moments * 3


def test_a_moment_is_where_the_distance_is_largest(document: dict[str, Any]) -> None:
    recorded = np.concatenate([each.actions for each in episodes().episodes])[:, 0]
    for policy, action in zip(document["policies"], (0.3, 0.0), strict=True):
        distances = np.abs(recorded - action) / recorded.std()
        first = policy["agreement"]["moments"][0]
        assert first["distance"] == pytest.approx(distances.max(), rel=1e-5)
        assert 12 * first["episode"] + first["step"] == distances.argmax()


def test_the_worst_third_of_an_observation_is_found(document: dict[str, Any]) -> None:
    found = episodes()
    goals = np.concatenate([each.observations[:-1, 1] for each in found.episodes])
    distances = np.abs(np.concatenate([each.actions for each in found.episodes])[:, 0] - 0.3)
    distances /= distances.mean() / document["policies"][0]["agreement"]["chosen"]
    situations = document["policies"][0]["agreement"]["situations"]
    assert situations == sorted(situations, key=lambda each: -each["chosen"])
    (of_goal,) = [each for each in situations if each["name"] == "goal"]
    edges = np.quantile(goals, [0, 1 / 3, 2 / 3, 1])
    means = [distances[(goals >= low) & (goals <= high)].mean() for low, high in pairwise(edges)]
    worst = int(np.argmax(means))
    assert [of_goal["low"], of_goal["high"]] == pytest.approx(edges[worst : worst + 2], rel=1e-5)
    assert of_goal["chosen"] == pytest.approx(means[worst], rel=0.02)


def test_names_cannot_become_markup(document: dict[str, Any]) -> None:
    document["spec"]["robot"] = document["dataset"]["source"] = EVIL
    document["remarks"] = [EVIL]
    policy = document["policies"][0]
    policy.update(name=EVIL, agent=EVIL, objections=[EVIL], run=f"{EVIL}/run")
    document["policies"][1]["run"] = policy["run"]
    document["take"] = {"name": EVIL, "verdict": "better", "objections": [EVIL]}
    document["spec"]["observation"][0]["unit"] = EVIL
    for moment in policy["agreement"]["moments"]:
        moment["recorded"][EVIL] = moment["recorded"].pop("speed")
        moment["chosen"][EVIL] = moment["chosen"].pop("speed")
    policy["agreement"]["fields"][0].update(name=EVIL, unit=EVIL)
    policy["agreement"]["situations"][0].update(name=EVIL, unit=EVIL)
    policy["agreement"]["guards"][EVIL] = 0.0
    document["policies"][1]["agreement"]["guards"][EVIL] = 0.0
    text = render(document)
    page = Page(text)
    assert "<script" not in text
    assert "onload" not in page.attributes
    assert EVIL in " ".join(page.texts)


def test_without_a_verdict_nothing_is_taken_and_no_value_is_drawn(
    document: dict[str, Any],
) -> None:
    for index in range(2):
        without_value(document, index)
    document["take"] = None
    text = render(document)
    assert "Take none: no policy has a verdict." in text
    assert text.count(">?</text>") == 2
    assert text.count("<circle class=dot ") == 1  # of the data


def test_a_fit_that_is_no_number_has_a_page(document: dict[str, Any]) -> None:
    document["behaviour"]["value"] = {"mean": None, "ci95": [None, None]}
    document["behaviour"].update(fitted=None, error=None, tail=None)
    for index, policy in enumerate(document["policies"]):
        without_value(document, index)
        policy["worth"].update(drift=None, trace=[None, None])
    document["take"] = None
    assert "<circle" not in render(document)


def test_what_a_page_cannot_take_is_left_to_the_json(document: dict[str, Any]) -> None:
    (policy, _) = document["policies"]
    document["take"] = None
    document["policies"] = [
        {**policy, "name": f"runs/{index}", "run": f"runs/{index}"}
        for index in range(MOST_DETAILED + 3)
    ]
    more = [{**document["spec"]["observation"][0], "name": f"more{i}"} for i in range(MOST_FIELDS)]
    document["spec"]["observation"] += more
    for moment in policy["agreement"]["moments"]:
        moment["observation"] |= {each["name"]: [0.0] for each in more}
    text = render(document)
    assert "The other 3 are in judge.json." in text
    assert "the other 2 are in judge.json" in text
    assert "Checkpoints of a run" not in text  # no run has two
    assert len(text) < 4_000_000


def test_short_names_leave_out_what_all_have_in_common() -> None:
    assert short_names(["/a/runs/x/checkpoints/step-1", "/a/runs/y/bundle"]) == [
        "x/step-1",
        "y/bundle",
    ]


def test_marks_are_where_the_numbers_are() -> None:
    scale = Scale(-10.0, 10.0, 200.0)
    line, dot = interval_marks(scale, (-5.0, 0.0, 5.0), 7.0).split("<circle")
    assert "x1=50.0 x2=150.0 y1=7.0 y2=7.0" in line
    assert "cx=100.0 cy=7.0" in dot
    upright = interval_marks(scale, (-5.0, 5.0, 10.0), 7.0, across=True)
    assert "x1=7.0 x2=7.0 y1=150.0 y2=0.0" in upright
    assert "cx=7.0 cy=50.0" in upright
    assert "polygon" not in line + dot + upright


@pytest.mark.parametrize(
    ("interval", "tips"),
    [((None, 0.0, 5.0), ["0.0,7.0"]), ((-99.0, 0.0, None), ["0.0,7.0", "200.0,7.0"])],
)
def test_an_interval_that_goes_on_has_an_arrow(
    interval: tuple[float | None, float, float | None], tips: list[str]
) -> None:
    marks = interval_marks(Scale(-10.0, 10.0, 200.0), interval, 7.0)
    assert re.findall(r"points='(\S+)", marks) == tips


def test_one_wide_interval_does_not_flatten_the_others() -> None:
    scale = scale_of_intervals([(-1.0, 0.0, 1.0), (None, 1.0, 1e9), None], 100.0)
    assert scale.high - scale.low < 10
    assert scale.low < -1.0


def test_ticks_are_round_and_inside() -> None:
    assert Scale(-3.0, 42.0, 1.0).ticks() == [0, 10, 20, 30, 40]
    assert Scale(0.011, 0.013, 1.0).ticks() == pytest.approx([0.011, 0.0115, 0.012, 0.0125, 0.013])
    for low, high in ((-1e-7, 1e-7), (1e6, 3e6), (-17.0, -16.0)):
        ticks = Scale(low, high, 1.0).ticks()
        assert 2 <= len(ticks) <= 6
        assert low <= ticks[0] < ticks[-1] <= high


def test_a_curve_is_interrupted_where_nothing_is_known() -> None:
    values = [0.0, 1.0, None, 0.5, 0.0]
    path = curve(enumerate(values), Scale(0.0, 4.0, 4.0), Scale(0.0, 1.0, 10.0), "ours")
    assert path == "<path class=ours d='M0.0 10.0L1.0 0.0M3.0 5.0L4.0 10.0' />"
    assert curve([(0.0, None)], Scale(0.0, 4.0, 4.0), Scale(0.0, 1.0, 10.0), "ours") == ""


@needs_browser
def test_the_page_opens_offline_on_wide_and_narrow_screens(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    name = "runs/" + "a_very_long_name_without_a_break_" * 6
    document["policies"][0]["name"] = name
    document["take"] = {"name": name, "verdict": "better", "objections": []}
    page = render(document)
    asked = ("table", "td.lane svg", "svg.curve", "details[open] .moment")
    seen, console = look(tmp_path, (1280, page), (390, page), asked=asked)
    assert console == []
    for view in seen:
        assert view["overflow"] <= 0
        assert view["requests"] == []
        assert view["mode"] == "CSS1Compat"
        assert view["visible"]["td.lane svg"] == 3
        assert view["visible"]["svg.curve"] == 1
        assert view["visible"]["table"] >= 4
        assert view["visible"]["details[open] .moment"] == 10  # of the one to take


def test_numbers_of_the_document_are_finite(document: dict[str, Any]) -> None:
    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [each for part in value.values() for each in numbers(part)]
        if isinstance(value, list):
            return [each for part in value for each in numbers(part)]
        return [value] if isinstance(value, float) else []

    assert all(map(math.isfinite, numbers(document)))
