import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli_process import CliProcess
from tests.ros.convert.held_conversion import HELD, Workplace, contents, wait_for
from tests.ros.convert.test_convert import Robot

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]) -> Workplace:
    return Workplace(tmp_path, Robot(blank), record)


def interrupted(place: Workplace, bags: list[str], *options: str) -> None:
    """Stop a conversion of three bags at the last, ``HELD``, by Ctrl-C."""
    arguments = ("convert", "contract.yaml", *bags, "--out", "out", *options)
    with CliProcess(*arguments, cwd=place.folder, environment=place.environment()) as process:
        place.holder()
        place.converted(2)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
    assert place.seen == [3, 4, HELD]
    place.release()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_resume_converts_only_what_is_not_done_and_makes_the_same_files(
    place: Workplace, workers: str
) -> None:
    bags = place.bags(3, 4, HELD)
    interrupted(place, bags, "--workers", workers)
    # Named differently, in another order, with another bag: each is known again.
    named = [f"./{bags[1]}", bags[2], str(place.folder / bags[0]), place.bag(5)]
    assert place.run(*named, "--out", "out", "--resume").returncode == 0
    assert place.seen == [3, 4, 5, HELD, HELD]
    assert place.left == {"out"}
    assert place.run(*named, "--out", "whole").returncode == 0
    assert contents(place.folder / "out") == contents(place.folder / "whole")


def test_resume_after_the_main_process_was_killed(place: Workplace) -> None:
    bags = place.bags(3, 4, HELD)
    with place.started(*bags, "--out", "out", "--workers", "2") as process:
        place.holder()
        place.converted(2)
        process.kill()
        process.wait()
        wait_for(lambda: not place.processes(), "the workers to end")
    place.release()
    # What one leaves that is killed while it puts the parts together.
    (place.folder / ".out.partial-1").mkdir()
    (place.folder / ".out.partial-1" / "half").touch()
    assert place.run(*bags, "--out", "out", "--resume").returncode == 0
    assert place.seen == [3, 4, HELD, HELD]
    assert place.left == {"out"}


def test_a_worker_that_outlives_its_main_process_does_not_meddle_with_the_next(
    place: Workplace,
) -> None:
    """As on a cluster that has not noticed yet: the worker is stopped so that it cannot either."""
    bags = place.bags(3, 4, HELD)
    with place.started(*bags, "--out", "out", "--workers", "2") as process:
        worker = place.holder()
        place.converted(2)
        os.kill(worker, signal.SIGSTOP)
        process.kill()
        process.wait()
        place.release()
        assert place.run(*bags, "--out", "out", "--resume").returncode == 0
        made = contents(place.folder / "out")
        os.kill(worker, signal.SIGCONT)
        wait_for(lambda: not place.processes(), "the worker to end")
    assert contents(place.folder / "out") == made
    assert place.left == {"out"}


def change_contract(place: Workplace) -> None:
    path = place.folder / "contract.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "rate_hz": 10.0}))


def change_function(place: Workplace) -> None:
    path = place.folder / "held_reward.py"
    path.write_text(path.read_text() + "# changed\n")


def change_bag(place: Workplace) -> None:
    for file in (place.folder / "bag_3").iterdir():
        os.utime(file, (1, 1))


@pytest.mark.parametrize(
    ("change", "again"),
    [(change_contract, [3, 4]), (change_function, [3, 4]), (change_bag, [3])],
)
def test_what_was_done_in_another_way_is_not_taken_over(
    place: Workplace, change: Callable[[Workplace], None], again: list[int]
) -> None:
    bags = place.bags(3, 4, HELD)
    interrupted(place, bags)
    (place.folder / "seen").unlink()
    change(place)
    assert place.run(*bags, "--out", "out", "--resume").returncode == 0
    expected = [*again, HELD]
    if change is change_contract:  # half the rate, half the length
        assert len(place.seen) == len(expected)
    else:
        assert place.seen == expected


def test_an_interrupted_conversion_is_begun_anew_without_resume(place: Workplace) -> None:
    bags = place.bags(3, 4, HELD)
    interrupted(place, bags)
    assert place.run(*bags, "--out", "out").returncode == 0
    assert place.seen == [3, 3, 4, 4, HELD, HELD]
    assert place.left == {"out"}


def test_a_mistake_in_the_next_command_does_not_cost_what_is_done(place: Workplace) -> None:
    bags = place.bags(3, 4, HELD)
    interrupted(place, bags)
    assert place.run(*bags, "nowhere", "--out", "out").returncode == 2
    assert place.run(*bags, "--out", "out", "--dry-run").returncode == 0
    (place.folder / "seen").unlink()
    assert place.run(*bags, "--out", "out", "--resume").returncode == 0
    assert place.seen == [HELD]


def test_two_conversions_to_one_folder_do_not_meet(place: Workplace) -> None:
    bags = place.bags(3, HELD)
    with place.started(*bags, "--out", "out") as process:
        place.holder()
        second = place.run(*bags, "--out", "out")
        assert second.returncode == 2
        assert (
            "out: another dql convert is writing this folder: wait until it finishes"
            in second.stderr
        )
        place.release()
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert place.left == {"out"}


def test_an_error_keeps_what_is_done_and_says_so(place: Workplace) -> None:
    bags = [*place.bags(3, 4), place.bag(5)]
    damaged = place.folder / "bag_5" / "bag_5_0.mcap"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:1000] + bytes(100) + whole[1100:])  # in the compressed messages
    failed = place.run(*bags, "--out", "out")
    assert failed.returncode == 2
    assert failed.stderr.endswith("; 2 of 3 bags are done, continue with --resume\n")
    assert place.left == {".out.parts"}
    (place.folder / "seen").write_text("")
    # What was read whole is the same with --salvage.
    again = place.run(*bags, "--out", "out", "--resume", "--salvage", "--keep-going")
    assert again.returncode == 0
    assert place.seen == []
    assert place.left == {"out"}


def test_a_conversion_without_an_episode_leaves_nothing_to_resume(place: Workplace) -> None:
    path = place.folder / "contract.yaml"
    document = yaml.safe_load(path.read_text())
    document["episode"]["min_length"] = 50
    path.write_text(yaml.safe_dump(document))
    failed = place.run(*place.bags(3, 4), "--out", "out")
    assert failed.returncode == 2
    assert "shorter than min_length 50" in failed.stderr
    assert "--resume" not in failed.stderr
    assert place.left == set()


@pytest.mark.parametrize("name", ["identity.json", "result.json"])
def test_a_result_that_cannot_be_read_is_converted_again(place: Workplace, name: str) -> None:
    bags = place.bags(3, 4, HELD)
    interrupted(place, bags)
    (place.folder / "seen").unlink()
    for part, content in zip(
        place.folder.glob(f".out.parts/*/{name}"), (b"[" * 10**5, b"\xff"), strict=True
    ):
        part.write_bytes(content)
    assert place.run(*bags, "--out", "out", "--resume").returncode == 0
    assert place.seen == [3, 4, HELD]


def test_an_array_that_announces_more_than_its_file_is_told(place: Workplace) -> None:
    bags = place.bags(3, 4, HELD)
    interrupted(place, bags)
    for path in place.folder.glob(".out.parts/*/episodes.npy"):
        content = path.read_bytes()
        shape = content[content.index(b"(") : content.index(b")") + 1]
        path.write_bytes(content.replace(shape, b"(9999999999,)".ljust(len(shape)), 1))
    done = place.run(*bags, "--out", "out", "--resume")
    assert done.returncode == 2
    assert "is larger than its file; convert again without --resume" in done.stderr


@pytest.mark.parametrize("prepared", ["link", "foreign"])
def test_results_that_somebody_else_made_are_not_used(place: Workplace, prepared: str) -> None:
    parts, elsewhere = place.folder / ".out.parts", place.folder / "held_elsewhere"
    elsewhere.mkdir()
    if prepared == "link":
        parts.symlink_to(elsewhere)
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        parts.mkdir()
        os.chown(parts, 12345, 12345)
    done = place.run(place.bag(3), "--out", "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert (
        ".out.parts: this folder for partial results belongs to another user or is a link" in line
    )
    assert os.listdir(elsewhere) == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(place: Workplace) -> None:
    dear = place.folder / "held_dear"
    dear.write_text("dear")
    (place.folder / ".out.parts").mkdir()
    (place.folder / ".out.parts" / "lock").symlink_to(dear)
    done = place.run(place.bag(3), "--out", "out")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "out: cannot be written: " in done.stderr
    assert dear.read_text() == "dear"


def test_sigterm_ends_a_conversion_as_ctrl_c_does(place: Workplace) -> None:
    bags = place.bags(3, HELD)
    with place.started(*bags, "--out", "out") as process:
        place.holder()
        place.converted(1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "dql: interrupted; out was not made; 1 of 2 bags are done, continue with --resume"
    ]
    assert place.left == {".out.parts"}
