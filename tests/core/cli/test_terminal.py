"""Nothing in a file's texts reaches the terminal but as a text."""

import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from rich.console import Group
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from dql_core.cli.console import facts_table, fields_table, new_folder, plain_table
from dql_core.cli.terminal import (
    ConsoleLines,
    NameText,
    PlainFormatter,
    TaskText,
    Terminal,
    print_json,
    print_line,
    print_message,
)
from dql_core.errors import visible
from dql_core.spec import FieldSpec, PolicySpec

# Clears the screen, sets its title, overwrites the line, turns the direction, is markup, a link.
NASTY = "a\x1b[2J\x1b]0;t\x07\r\n\x85\u2028\u202eb\udcff[red]x[/] [link=http://y]z[/link] :boom:"
SHOWN = r"a\x1b[2J\x1b]0;t\x07\r\n\x85\u2028\u202eb\udcff[red]x[/] [link=http://y]z[/link] :boom:"


def table() -> Table:
    made = plain_table(NASTY, "other")
    made.title = NASTY
    made.add_row(NASTY, "b")
    return made


SPEC = PolicySpec(NASTY, 1.0, (FieldSpec(NASTY, NASTY),), (FieldSpec("a", "", -1.0, 1.0),))

PRINTED: dict[str, Callable[[Terminal], None]] = {
    "a string": lambda terminal: terminal.print(NASTY, soft_wrap=True),
    "strings": lambda terminal: terminal.print("x", NASTY, soft_wrap=True),
    "a message": lambda terminal: print_message(terminal, logging.ERROR, NASTY),
    "a table": lambda terminal: terminal.print(table()),
    "facts": lambda terminal: terminal.print(facts_table(NASTY, {NASTY: NASTY})),
    "fields": lambda terminal: terminal.print(fields_table(SPEC)),
}


def printed(what: Callable[[Terminal], None], *, colours: bool = False) -> str:
    forced = {"FORCE_COLOR": "1", "TERM": "xterm"} if colours else {}
    with patch.dict(os.environ, forced):
        terminal = Terminal()
    terminal.file, terminal.width = io.StringIO(), 400
    what(terminal)
    text: str = terminal.file.getvalue()
    return text


@pytest.mark.parametrize("name", PRINTED)
def test_what_is_printed_is_a_text(name: str) -> None:
    text = printed(PRINTED[name])
    assert SHOWN in text
    assert all(each.isprintable() or each == "\n" for each in text)
    coloured = printed(PRINTED[name], colours=True)
    for code in ("\x1b[2J", "\x1b]", "\r", "\x07", "\u202e", "http://y\x1b"):
        assert code not in coloured


def test_texts_of_ours_keep_their_colours_and_lines() -> None:
    text = printed(lambda terminal: terminal.print(Text("a\nb", "red")), colours=True)
    assert text == "\x1b[31ma\x1b[0m\n\x1b[31mb\x1b[0m\n"
    assert printed(lambda terminal: terminal.print(Text("a\x1b[2J\nb"))) == "a\\x1b[2J\nb\n"


LONG = "/left_arm/velocity_controller/commands"


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (40, [LONG]),
        (38, [LONG]),
        (30, ["/left_arm/velocity_controller/", "commands"]),
        (20, ["/left_arm/", "velocity_controller/", "commands"]),
        (14, ["/left_arm/", "velocity_", "controller/", "commands"]),
        (5, ["/left", "_arm/", "veloc", "ity_", "contr", "oller", "/comm", "ands"]),
    ],
)
def test_a_name_without_room_is_broken_after_a_part_of_it(width: int, lines: list[str]) -> None:
    terminal = Terminal()
    terminal.file, terminal.width = io.StringIO(), width
    for text in (NameText(LONG), NameText(f"{LONG}\n{LONG}", "bold")):
        terminal.print(Group(text))
    assert terminal.file.getvalue().splitlines() == 3 * lines


def test_a_table_breaks_names_where_they_have_parts_and_no_number() -> None:
    name = "joint_states.position.right_gripper_joint"
    action = FieldSpec("speed", "rad/s", -3.14159, 3.14159)
    spec = PolicySpec("arm", 10.0, (FieldSpec(name, "rad/s"),), (action,))
    columns = {name: np.full(1, -0.00012351) for name in ("min", "mean", "std", "max")}
    terminal = Terminal()
    terminal.file, terminal.width = io.StringIO(), 80
    terminal.print(fields_table(spec, columns, columns))
    lines = terminal.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.rstrip().endswith(4 * "  -0.0001235") for line in lines) == 2
    names = [line[:14].split() for line in lines]
    first = names.index(["observation"])
    assert names[first + 1 : first + 6] == [
        ["0", "joint_"],
        ["states."],
        ["position."],
        ["right_"],
        ["gripper_"],
    ]


def test_a_bars_description_is_a_text() -> None:
    def show(terminal: Terminal) -> None:
        with Progress(TaskText("bold"), console=terminal) as bar:
            bar.add_task(NASTY, total=1)

    assert SHOWN in printed(show)
    assert "\x1b[2J" not in printed(show, colours=True)


def test_lines_and_documents(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(NASTY)
    print_line(NASTY, err=True)
    print_json({NASTY: 1})
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == SHOWN
    assert err == f"{SHOWN}\n"
    assert out.isascii()
    assert "\x1b" not in out


def test_what_is_logged_is_a_text() -> None:
    stream = io.StringIO()
    plain = logging.StreamHandler(stream)
    plain.setFormatter(PlainFormatter("%(message)s"))
    terminal = Terminal()
    terminal.file, terminal.width = io.StringIO(), 400
    logger = logging.Logger("test")
    for handler in (plain, ConsoleLines(terminal)):
        logger.addHandler(handler)
    try:
        raise ValueError(NASTY)
    except ValueError:
        logger.exception("%s", NASTY)
    assert stream.getvalue().startswith(f"{SHOWN}\nTraceback")
    assert "\x1b" not in stream.getvalue() + terminal.file.getvalue()
    assert terminal.file.getvalue() == f"{SHOWN}\n"


def test_what_can_be_shown_stays() -> None:
    assert visible("Grüße, 機器人 ± µ") == "Grüße, 機器人 ± µ"


def test_a_new_folder_is_never_within_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_folder("arm").parent == Path("runs/arm")
    run = tmp_path / "runs" / "arm"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    beside = new_folder("arm")
    assert beside.parent == Path("runs")
    assert beside.name.startswith("arm-")
