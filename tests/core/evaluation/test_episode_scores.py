"""What is wrong with an episode is found in it, and the page shows the curves of all of them."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, write_dataset
from dql_core.errors import ConfigError, DatasetError
from dql_core.evaluation.episodes import page
from dql_core.evaluation.episodes.measures import MEASURES, Measure, disagreement, jerk
from dql_core.evaluation.episodes.page import render
from dql_core.evaluation.episodes.scoring import score_episodes
from dql_core.spec import FieldSpec, PolicySpec
from tests.html_page import Page, assert_loads_nothing, look, needs_browser

SPEC = PolicySpec(
    "roundabout",
    20.0,
    (FieldSpec("x", "m"), FieldSpec("y", "m")),
    (FieldSpec("speed", "m/s", -1.0, 1.0),),
)
EVIL = "<script>alert('x')</script>\" onload='y"
BAD = 7
Change = Callable[[NDArray[np.float32], NDArray[np.float32]], None]


def circle(rng: np.random.Generator, length: int = 40) -> Episode:
    """Go round, from anywhere, at a speed that depends on the place."""
    angles = rng.uniform(0, 6) + 0.15 * np.arange(length + 1)
    radius = rng.normal(1.0, 0.01, length + 1)
    rows = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1).astype("f4")
    speed = 0.5 * np.cos(2 * angles[:-1]) + rng.normal(0, 0.01, length)
    return Episode(rows, speed[:, None].astype("f4"), -np.abs(speed), True, False)


def shake(observations: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
    actions[::2] += 0.3
    actions[1::2] -= 0.3


def stand(observations: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
    observations[5:] = observations[5]


def push(observations: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
    actions[:] = 1.0


def glitch(observations: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
    observations[20, 0] = 500.0


def reverse(observations: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
    actions *= -1


def dataset(folder: Path, change: Change | None = None, count: int = 20) -> Path:
    rng = np.random.default_rng(0)
    episodes = [circle(rng) for _ in range(count)]
    if change is not None:
        bad = episodes[BAD]
        change(bad.observations, bad.actions)
    write_dataset(folder, episodes, SPEC)
    return folder


@pytest.mark.parametrize(
    ("change", "measure"),
    [
        (shake, "jerk"),
        (stand, "standstill"),
        (push, "at_bounds"),
        (glitch, "outliers"),
        (reverse, "disagreement"),
    ],
)
def test_an_episode_that_was_spoilt_is_the_first_by_its_measure(
    tmp_path: Path, change: Change, measure: Measure
) -> None:
    source = str(dataset(tmp_path / "set", change))
    scores = score_episodes(source, by=measure)
    first, second, *_ = scores.ranking
    assert first.facts.number == BAD
    assert first.places[measure] == 1.0
    worst, next_worst = first.values[measure], second.values[measure]
    assert worst is not None
    assert next_worst is not None
    assert worst > 1.5 * next_worst
    plain = score_episodes(str(dataset(tmp_path / "plain")))
    (own,) = (each for each in plain.ranking if each.facts.number == BAD)
    assert own.places[measure] < 1.0


def test_the_score_is_the_mean_of_the_shares_that_look_better(tmp_path: Path) -> None:
    scores = score_episodes(str(dataset(tmp_path / "set", shake, count=12)))
    assert len({each.facts.number for each in scores.ranking}) == 12
    for measure in MEASURES:
        values = {each.facts.number: each.values[measure] for each in scores.ranking}
        for each in scores.ranking:
            own = values[each.facts.number]
            smaller = sum(one < own for one in values.values())  # type: ignore[operator]
            assert each.places[measure] == pytest.approx(smaller / 11)
    for each in scores.ranking:
        assert each.score == pytest.approx(np.mean([each.places[name] for name in MEASURES]))
    order = [each.score for each in scores.ranking]
    assert order == sorted(order, reverse=True)
    assert json.loads(json.dumps(scores.to_json(), allow_nan=False))["episodes"][0]["jerk"] > 0


def test_jerk_is_in_units_of_the_mean_second_difference() -> None:
    rng = np.random.default_rng(1)
    episodes = [circle(rng), circle(rng, 10), circle(rng, 2)]
    seconds = [np.abs(np.diff(each.actions[:, 0].astype(float), n=2)) for each in episodes[:2]]
    expected = [each.mean() / np.concatenate(seconds).mean() for each in seconds]
    found = jerk(episodes)
    np.testing.assert_allclose(found[:2], expected)
    assert np.isnan(found[2])  # too short for one


def test_disagreement_is_with_the_nearest_of_what_others_did_nearby() -> None:
    """Against a search through all pairs."""
    rng = np.random.default_rng(2)
    episodes = [circle(rng, 12) for _ in range(4)]
    found, asked, compared = disagreement(episodes, SPEC, seed=0)
    assert (asked, compared) == (48, 48)
    rows = np.concatenate([each.observations[:-1] for each in episodes]).astype(float)
    normal = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    actions = np.concatenate([each.actions[:, 0] for each in episodes]).astype(float)
    owners = np.repeat(range(4), 12)
    distances = []
    for index in range(48):
        apart = np.linalg.norm(normal - normal[index], axis=1)
        apart[owners == owners[index]] = np.inf
        nearest = np.argsort(apart)[:10]
        distances.append(np.abs(actions[nearest] - actions[index]).min() / actions.std())
    np.testing.assert_allclose(found, np.reshape(distances, (4, 12)).mean(axis=1), rtol=1e-3)


def test_two_ways_of_doing_a_thing_do_not_disagree() -> None:
    rng = np.random.default_rng(3)
    one = [circle(rng) for _ in range(6)]
    other = [replace(each, actions=-each.actions) for each in one]
    both, _, _ = disagreement([*one, *other], SPEC, seed=0)
    alone, _, _ = disagreement([*one, other[0]], SPEC, seed=0)
    assert both[6:].max() < 0.5 * alone[6]


def test_what_little_it_rests_on_is_said(tmp_path: Path) -> None:
    scores = score_episodes(str(dataset(tmp_path / "one", count=1)))
    (only,) = scores.ranking
    assert only.values["disagreement"] is None
    assert only.score == 0.0
    assert "1 episode: places among so few say little" in scores.remarks
    assert "There is no other episode to compare with" in render(scores)
    few = score_episodes(str(dataset(tmp_path / "set")))
    assert f"Of 800 steps {few.asked} were asked, and compared with {few.compared}" in render(few)


def test_values_that_are_no_numbers_are_refused_with_a_remedy(tmp_path: Path) -> None:
    source = dataset(tmp_path / "set")
    with h5py.File(source / "data/main_data.hdf5", "r+") as file:
        file["episode_3/observations"][2, 0] = np.nan
        file["episode_4/rewards"][0] = np.inf
    with pytest.raises(DatasetError, match=r"dql dataset drop .*/set --episode 3-4 --out DIR"):
        score_episodes(str(source))


def test_the_page_holds_every_curve_and_loads_nothing(tmp_path: Path) -> None:
    scores = score_episodes(str(dataset(tmp_path / "set", glitch)))
    text = render(scores)
    assert_loads_nothing(text, Page(text))
    assert text.count("<div class='column episode'>") == 20
    assert len(re.findall(r"<svg [^>]*aria-label='x of episode \d+'", text)) == 20
    assert text.count("<path class=ours") == 20 * 4  # reward, speed, x, y
    numbers = re.findall(r"<b>episode (\d+)</b>", text)
    assert [int(number) for number in numbers] == [each.facts.number for each in scores.ranking]


def test_curves_are_where_the_numbers_are(tmp_path: Path) -> None:
    scores = score_episodes(str(dataset(tmp_path / "set")))
    text = render(scores)
    (drawn,) = re.findall(r"aria-label='x of episode 5'><path class=ours d='M([^']*)'", text)
    points = np.array([point.split() for point in drawn.split("L")], dtype=float)
    values = scores.episodes[5].episode.observations[:, 0]
    assert len(points) == len(values) == 41
    np.testing.assert_allclose(points[:, 0], np.linspace(0, 150, 41), atol=0.05)
    assert abs(np.corrcoef(-points[:, 1], values)[0, 1]) > 0.999


def test_returns_that_are_no_number_are_refused(tmp_path: Path) -> None:
    source = dataset(tmp_path / "set")
    with h5py.File(source / "data/main_data.hdf5", "r+") as file:
        length = len(file["episode_1/rewards"])
        del file["episode_1/rewards"]
        file["episode_1/rewards"] = np.full(length, 1e308)
    with pytest.raises(DatasetError, match=r"or add up to none: .* --episode 1 --out DIR"):
        score_episodes(str(source))


def test_intervention_and_labels_are_shown(tmp_path: Path) -> None:
    source = dataset(tmp_path / "set")
    with h5py.File(source / "data/main_data.hdf5", "r+") as file:
        file["episode_2/infos/intervention"] = np.arange(41) > 30
        file["episode_2/infos/success"] = True
    text = render(score_episodes(str(source)))
    assert len(re.findall("aria-label='intervention of episode 2'", text)) == 1
    assert "<td>25%</td>" in text
    assert "success, terminated" in text


def test_a_page_of_many_episodes_says_whose_curves_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_CURVES", 3 * 4)
    monkeypatch.setattr(page, "MOST_FIELDS", 3)
    scores = score_episodes(str(dataset(tmp_path / "set")))
    text = render(scores)
    assert text.count("<div class='column episode'>") == 4
    assert "Shown are 4 of 20 episodes" in text
    assert "Not shown: y." in text
    chosen = render(scores, "3,17-19")
    assert sorted(map(int, re.findall(r"<b>episode (\d+)</b>", chosen))) == [3, 17, 18, 19]
    with pytest.raises(DatasetError, match="has no episode 20"):
        render(scores, "20")
    with pytest.raises(ConfigError, match="such as 0-4,7"):
        render(scores, "all")


def test_a_long_curve_keeps_its_extremes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = [circle(rng, 3_000) for _ in range(3)]
    episodes[0].actions[1_234] = 0.97
    write_dataset(tmp_path / "set", episodes, SPEC)
    text = render(score_episodes(str(tmp_path / "set")))
    drawn = re.findall(r"aria-label='speed of episode 0'><path class=ours d='([^']*)'", text)[0]
    points = [tuple(map(float, point.split())) for point in drawn[1:].split("L")]
    assert len(points) <= 120
    x, y = min(points, key=lambda point: point[1])
    assert x == pytest.approx(150 * 1_234 / 2_999, abs=0.06)
    assert y == 0.0


def test_names_are_only_text(tmp_path: Path) -> None:
    evil = replace(SPEC, robot=EVIL, action=(replace(SPEC.action[0], name=EVIL, unit=EVIL),))
    rng = np.random.default_rng(0)
    write_dataset(tmp_path / "set", [circle(rng) for _ in range(3)], evil)
    text = render(score_episodes(str(tmp_path / "set")))
    assert "<script" not in text
    assert_loads_nothing(text, Page(text))


@needs_browser
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    text = render(score_episodes(str(dataset(tmp_path / "set"))))
    ticked = text.replace(
        "<input type=checkbox id=only />", "<input type=checkbox id=only checked />"
    )
    two = ticked.replace("class=head><input type=", "class=head><input checked type=", 2)
    asked = (".episode", "svg", ".names .cell")
    seen, console = look(tmp_path, (1300, text), (500, text), (1300, two), asked=asked)
    assert console == []
    for frame, episodes in zip(seen, (20, 20, 2), strict=True):
        assert frame["requests"] == []
        assert frame["overflow"] == 0
        assert frame["mode"] == "CSS1Compat"
        assert frame["visible"] == {
            ".episode": episodes,
            "svg": 4 * episodes,
            ".names .cell": 4,
        }
