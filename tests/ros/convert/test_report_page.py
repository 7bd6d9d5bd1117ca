import json
from typing import Any

import pytest

from dql_ros.convert.bag_result import BagResult
from dql_ros.convert.report.page import render
from tests.html_page import Page, assert_loads_nothing
from tests.ros.convert.report_sample import arm, eventful, part, report

FAILED = BagResult(bag="bags/broken", error="bags/broken: holds no message; record it again")


def rendered(*parts: BagResult, **changes: Any) -> tuple[str, Page]:
    text = render({**report(parts), **changes})
    return text, Page(text)


def test_the_page_is_a_function_of_the_json_alone() -> None:
    made = report([part("bags/a"), eventful(), FAILED])
    assert render(json.loads(json.dumps(made))) == render(made)


def test_everything_that_happened_is_on_the_page() -> None:
    text, page = rendered(part("bags/a"), eventful(), FAILED)
    told = " ".join(page.texts)
    for expected in (
        "Conversion of arm",
        "bags/broken: holds no message; record it again",
        "no /joint_states for too long",
        "joint_states.position.shoulder",
        "shoulder_velocity",
        "sensor_msgs/msg/JointState",
        "a chunk is cut off",
        "/map",
        "metadata.yaml names other files",
        "Ticks dropped at a number that was not finite: 4.",
        "no command on /commands",
        "recorded -7 to 1",
        "ab" * 32,
        arm().hash(),
        "A two-joint arm with a latched target",
        "rosbags",
    ):
        assert expected in told
    assert page.tags.count("h1") == 1
    for title in ("Remarks", "Episodes", "Bags", "Observation", "Reward", "Inputs", "Contract"):
        assert f"<h2>{title}</h2>" in text


def test_nothing_is_loaded_and_no_script_runs() -> None:
    text, page = rendered(part("bags/a"), eventful(), FAILED)
    assert_loads_nothing(text, page)


def test_names_cannot_become_markup() -> None:
    evil = "bags/<script>alert('x')</script>\" onload='y"
    one = part("bags/a").episodes[0].model_copy(update={"ending": evil})
    text, page = rendered(
        part(evil, episodes=(one,), notes=(evil,)),
        BagResult(bag=f"{evil}2", error=evil),
        contract_text=evil,
        robot=evil,
        remarks=[evil],
    )
    assert "script" not in page.tags
    assert "onload" not in page.attributes
    assert evil in "".join(page.texts)
    assert "<script" not in text


@pytest.mark.parametrize(("count", "is_open"), [(200, True), (201, False)])
def test_many_episodes_are_folded(count: int, is_open: bool) -> None:
    text, _ = rendered(part("bags/a", lengths=(1,) * count), part("bags/b"), part("bags/c"))
    total = count + 4
    assert (f"<details open><summary>{total} episodes" in text) == (total <= 200)
    text, _ = rendered(part("bags/a", lengths=(1,) * count))
    assert (f"<details open><summary>{count} episodes" in text) == is_open


def test_more_rows_than_a_browser_likes_are_left_to_the_json() -> None:
    made = report([part("bags/a")])
    made["episodes"] = made["episodes"][:1] * 5003
    made["bags"] = [{**made["bags"][0], "bag": f"bags/{index}"} for index in range(202)]
    text = render(made)
    assert "The other 3 are in report.json." in text
    assert "The other 2 are in report.json." in text
    assert len(text) < 4_000_000


def test_more_gaps_than_are_listed_are_counted() -> None:
    one = part("bags/a")
    topics = (one.topics[0].model_copy(update={"gaps": 31}), one.topics[1])
    text, _ = rendered(part("bags/a", topics=topics))
    assert "and 30 more" in text


def test_histograms_have_a_bar_a_filled_bin_and_a_line_a_bound() -> None:
    made = report([part("bags/a")])
    text = render(made)
    fields = (*made["observation"], *made["action"], *made["reward"])
    filled = sum(count > 0 for row in fields for count in row["histogram"]["counts"])
    episodes = 2 + 2  # two lengths and two returns
    assert text.count("<rect class=bar ") == filled + episodes
    bounds = sum(row[key] is not None for row in fields for key in ("low", "high"))
    assert text.count("<line class=bound ") == bounds == 4


def test_returns_are_shown_where_the_contract_names_a_reward() -> None:
    parts = [part("bags/a"), part("bags/b")]
    valued, imitated = report(parts), report(parts, arm(reward=None))
    assert imitated["totals"]["mean_return"] is None
    for made, has_returns in ((valued, True), (imitated, False)):
        texts = Page(render(made)).texts
        for words in ("mean return", "return", "Reward"):
            assert (words in texts) == has_returns
    rewardless = [
        each.model_copy(
            update={
                "episodes": tuple(
                    row.model_copy(update={"episode_return": 0.0}) for row in each.episodes
                )
            }
        )
        for each in parts
    ]
    failing = report(rewardless)
    assert failing["totals"]["mean_return"] == 0.0
    assert "mean return" in Page(render(failing)).texts


def test_a_conversion_without_an_episode_has_a_page() -> None:
    _, page = rendered(FAILED)
    assert "There is none." in page.texts
    assert "rect" not in page.tags


def test_what_is_not_known_is_a_dash_and_an_empty_table_is_left_out() -> None:
    one = part("bags/a")
    bare = one.topics[0].model_copy(
        update={"stamps": None, "limit_s": None, "missing_estimate": None, "rate_hz": None}
    )
    text, page = rendered(part("bags/a", topics=(bare,), episodes=one.episodes[:1]))
    (row,) = (line for line in text.splitlines() if line.startswith("<tr><td>/joint_states<br>"))
    assert row.startswith(
        "<tr><td>/joint_states<br><span class=soft>observation</span><br>"
        "<span class=soft>sensor_msgs/msg/JointState</span></td><td>60</td><td>\N{EN DASH}</td>"
    )
    # The rate, the limit with gaps and missing, the stamps.
    assert row.count("<td>\N{EN DASH}</td>") == 1 + 3 + 3
    assert "<th rowspan=2>topic</th>" in text
    assert "<th colspan=3>jitter ms</th>" in text
    assert "Bags that could not be converted" not in page.texts


@pytest.mark.parametrize("text", ["{{ 6 * 7 }}", "{% include '/etc/hostname' %}", "{# gone #}"])
def test_a_name_is_never_taken_for_a_template(text: str) -> None:
    html, page = rendered(part(text), robot=text, contract_text=text, remarks=[text])
    assert f"Conversion of {text}" in page.texts
    assert page.texts.count(text) >= 3
    assert "42" not in html.partition("<h1>")[2].partition("</h1>")[0]
