import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dql_core.errors import BagError
from dql_ros.contract import load_contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from tests.ros.convert.held_conversion import BROKEN, HELD, KILLED, Workplace, contents, wait_for
from tests.ros.convert.test_convert import ARM, Robot, without

pytestmark = pytest.mark.slow

LENGTHS = (4, 6, 3, 5, 12)


@pytest.fixture
def place(tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]) -> Workplace:
    return Workplace(tmp_path, Robot(blank), record)


def test_any_number_of_workers_makes_the_same_files(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    robot = Robot(blank)
    bags = [
        record(tmp_path / f"bag{length}", robot.run({"terminated": length}, seed=length))
        for length in LENGTHS
    ]
    source = Source(load_contract(ARM), bags, contract_text=ARM.read_text())
    made = []
    for workers in (None, 1, 2, 3):
        convert(source, tmp_path / f"out{workers}", ConvertOptions(workers=workers))
        made.append(contents(tmp_path / f"out{workers}"))
    assert {"report.json", "report.html", "data/metadata.json"} < set(made[0])
    assert made.count(made[0]) == len(made)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_progress_of_several_workers_goes_by_bytes_to_the_end(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    robot = Robot(blank)
    bags = [record(tmp_path / f"b{seed}", robot.run({"truncated": 4}, seed)) for seed in range(3)]
    told: list[tuple[int, int]] = []
    convert(
        Source(load_contract(ARM), bags),
        tmp_path / "out",
        ConvertOptions(workers=2),
        lambda *step: told.append(step),
    )
    total = sum(file.stat().st_size for bag in bags for file in bag.glob("*.mcap"))
    assert told == sorted(told)
    assert told[-1] == (total, total)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_error_is_of_the_first_bag_that_fails_whatever_the_number_of_workers(
    tmp_path: Path,
    blank: Callable[[str], Any],
    record: Callable[..., Path],
    workers: int,
) -> None:
    robot = Robot(blank)
    spoiled = [
        record(tmp_path / "late", _spoiled(robot.run({"terminated": 300}), 290)),
        record(tmp_path / "early", _spoiled(robot.run({"terminated": 5}), 1)),
        record(tmp_path / "good", robot.run({"terminated": 5})),
    ]
    with pytest.raises(BagError, match=r"late.*: /reward: 'data' is nan") as raised:
        convert(
            Source(load_contract(ARM), spoiled), tmp_path / "out", ConvertOptions(workers=workers)
        )
    assert "early" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def _spoiled(messages: list[Any], index: int) -> list[Any]:
    [message for message in messages if message[0] == "/reward"][index][3].data = float("nan")
    return messages


def test_a_bag_that_lacks_a_topic_is_told_of_before_any_is_converted(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    messages = Robot(blank).run({"terminated": 5})
    good = record(tmp_path / "good", messages)
    bad = record(tmp_path / "bad", without(messages, "/reward"))
    with pytest.raises(BagError, match=r"bad: no topic /reward.*, or record it$"):
        convert(
            Source(load_contract(ARM), [good, bad]), tmp_path / "out", ConvertOptions(workers=2)
        )
    assert sorted(os.listdir(tmp_path)) == ["bad", "good"]


def test_a_killed_worker_is_one_clear_error_and_the_rest_is_kept(place: Workplace) -> None:
    bags = place.bags(3, 4, KILLED)
    run = place.run(*bags, "--out", "out", "--workers", "2")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line == (
        f"dql: bag_{KILLED}: the worker process that converted it was killed by SIGKILL; if for "
        f"lack of memory, use fewer --workers; 2 of 3 bags are done, continue with --resume"
    )
    assert place.left == {".out.parts"}
    assert place.processes() == []


def test_keep_going_replaces_a_killed_worker(place: Workplace) -> None:
    bags = place.bags(KILLED, 3, 4, 5)
    run = place.run(*bags, "--out", "out", "--workers", "2", "--keep-going", "--json")
    assert run.returncode == 3
    assert run.stderr.startswith(f"dql: left out: bag_{KILLED}: the worker process")
    assert '"episodes": 3,' in run.stdout
    assert place.left == {"out"}


def test_a_failure_of_ours_in_a_worker_keeps_its_name_and_its_traceback(place: Workplace) -> None:
    bags = place.bags(BROKEN, 3)
    run = place.run(*bags, "--out", "out", "--workers", "2", "--debug")
    assert run.returncode == 1
    assert f"RuntimeError: bag_{BROKEN}: MemoryError: no more" in run.stderr
    # The terminal's width breaks long paths anywhere.
    assert "held_reward.py" in re.sub(r"[\s│]", "", run.stderr)
    assert place.processes() == []


def test_workers_find_a_module_in_the_working_directory(place: Workplace) -> None:
    bags = place.bags(3, 4)
    assert place.run(*bags, "--out", "one").returncode == 0
    assert place.run(*bags, "--out", "two", "--workers", "2").returncode == 0
    assert contents(place.folder / "one") == contents(place.folder / "two")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("whole_group", [False, True])
def test_ctrl_c_leaves_no_process_and_nothing_half_written(
    place: Workplace, workers: str, whole_group: bool
) -> None:
    bags = place.bags(3, 4, HELD, 5)
    with place.started(*bags, "--out", "out", "--workers", workers) as process:
        place.holder()
        done = 2 if workers == "1" else 3
        place.converted(done)
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert out == ""
        # The last worker's bag may lie there before the main process has heard of it.
        told = (
            "dql: interrupted; out was not made; {} of 4 bags are done, continue with --resume\n"
        )
        assert err in {told.format(done), told.format(done - (workers == "2"))}
        assert place.processes() == []
    assert place.left == {".out.parts"}
    assert len(list(place.folder.glob(".out.parts/*/"))) == done


def test_ctrl_c_before_any_bag_is_done_leaves_nothing(place: Workplace) -> None:
    bags = place.bags(HELD)
    with place.started(*bags, "--out", "new/folder/out") as process:
        place.holder()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert err == "dql: interrupted; new/folder/out was not made\n"
    assert place.left == set()


def test_a_worker_leaves_ctrl_c_to_the_main_process(place: Workplace) -> None:
    bags = place.bags(HELD, 3)
    with place.started(*bags, "--out", "out", "--workers", "2") as process:
        first_worker = place.holder()
        status = Path(f"/proc/{first_worker}/status").read_text()
        (blocked,) = (line.split()[1] for line in status.splitlines() if "SigBlk" in line)
        assert int(blocked, 16) & 1 << (signal.SIGINT - 1)
        place.release()
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")


def test_ctrl_c_while_the_workers_start_is_not_told_of_by_them(place: Workplace) -> None:
    bags = place.bags(HELD, 3)
    with place.started(*bags, "--out", "out", "--workers", "2") as process:
        # The main process, Python's own that watches over shared resources, and a worker.
        wait_for(lambda: len(place.processes()) >= 3, "a worker to be started")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, "dql: interrupted; out was not made\n")
        assert place.processes() == []
    assert place.left == set()


def test_workers_do_not_outlive_a_main_process_that_is_killed(place: Workplace) -> None:
    bags = place.bags(3, HELD, 4)
    with place.started(*bags, "--out", "out", "--workers", "2") as process:
        place.holder()
        process.kill()
        process.wait()
        wait_for(lambda: not place.processes(), "the workers to end")
