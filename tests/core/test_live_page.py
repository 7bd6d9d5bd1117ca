"""The live page: what it shows in a browser, and who may ask for it."""

import http.client
import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dql_core.errors import CheckpointError, OutputError
from dql_core.live_page import HOST, MAX_CHARTS, MAX_POINTS, Chart, Line, PageServer, Table, View
from tests.html_page import browse, needs_browser

EVIL = "<img src=x onerror=alert(1)>"
SAMPLE = View(
    title=f"runs/{EVIL}",
    state="120 of 300 updates",
    level="warn",
    remarks=["best_offline: update 100"],
    facts=[("updates", 120), ("speed", 51.25)],
    charts=[
        Chart(
            "value of checkpoints",
            "updates",
            [
                Line("seed-0", [1, 2, 3], [1.0, None, 2.0], [0.5, None, 1.5], [1.5, None, 2.5]),
                Line("seed-1", [1, 2, 3], [1.0, math.nan, 2.0]),
            ],
            marks=[(2, "best_offline")],
        ),
        Chart(
            "Q by action[0]", "action[0]", [Line("2 candidates", [0.5, -0.5], [1, 2])], dots=True
        ),
    ],
    tables=[Table("Guards", ("guard", "tripped"), [(EVIL, 3), ("none", None)])],
)


def get(
    server: PageServer, path: str, host: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    address = urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(method, path, headers={"Host": host or address})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@needs_browser
def test_what_is_watched_is_drawn_in_the_browser(tmp_path: Path) -> None:
    with PageServer(lambda: SAMPLE) as server:
        page, console = browse(tmp_path, server.url)
    assert console == []
    drawn, _, _ = page.partition("<script")
    assert "runs/&lt;img src=x" in drawn
    assert "<img" not in drawn
    assert '<span id="state" role="status" class="warn">120 of 300 updates' in drawn
    assert drawn.count("<svg") == 2
    assert drawn.count('class="band"') == 0  # nothing joins what a gap parts
    assert drawn.count("<polyline") == 2  # the intervals
    assert drawn.count("<circle") == 2 + 2 + 2
    assert drawn.count('class="mark"') == 1
    assert "seed-0 2</span>" in drawn
    assert ">51.25</b>" in drawn
    assert "<td>3</td>" in drawn
    assert "does not answer" not in drawn


@needs_browser
def test_a_line_is_joined_and_its_interval_is_a_band(tmp_path: Path) -> None:
    line = Line("", [0, 1, 2], [1.0, 3.0, 2.0], [0.0, 2.0, 1.0], [2.0, 4.0, 3.0])
    view = View("run", "well", charts=[Chart("return", "updates", [line])])
    with PageServer(lambda: view) as server:
        page, console = browse(tmp_path, server.url)
    assert console == []
    assert page.count("<polyline") == page.count("<polygon") == 1
    # From 0 to 4 over the height: 1 is at a quarter.
    assert 'points="44,88.5 182,33.5 320,61"' in page


def test_a_fault_of_ours_is_shown_too() -> None:
    def broken() -> View:
        raise ZeroDivisionError("in our code")

    with PageServer(broken) as server:
        shown = json.loads(get(server, "/view.json")[2])
    assert shown["level"] == "error"
    assert shown["state"] == "this cannot be shown: ZeroDivisionError: in our code"


@needs_browser
def test_a_mistake_is_shown_and_not_a_dead_page(tmp_path: Path) -> None:
    def broken() -> View:
        raise CheckpointError("metrics.jsonl: line 3: damaged")

    with PageServer(broken) as server:
        page, _ = browse(tmp_path, server.url)
    assert 'class="error">metrics.jsonl: line 3: damaged' in page


def test_numbers_without_end_are_no_json() -> None:
    shown = json.loads(View("a", "b", facts=[("x", math.inf), ("y", 2.0)]).to_json())
    assert shown["facts"] == [["x", None], ["y", 2.0]]


@pytest.mark.parametrize("count", [1, MAX_POINTS, MAX_POINTS + 1, 10 * MAX_POINTS + 3])
def test_a_long_line_is_thinned_and_keeps_its_ends(count: int) -> None:
    x = list(range(count))
    thinned = Line("a", x, [float(each) for each in x], high=[each + 1.0 for each in x]).thinned()
    assert len(thinned.x) <= MAX_POINTS + 1
    assert (thinned.x[0], thinned.x[-1]) == (0, count - 1)
    assert list(thinned.y) == list(thinned.x)
    assert [high - 1 for high in thinned.high if high is not None] == list(thinned.x)
    assert thinned.low == ()


def test_only_this_machine_may_ask_and_only_for_the_page() -> None:
    asked = 0

    def view() -> View:
        nonlocal asked
        asked += 1
        return SAMPLE

    with PageServer(view) as server:
        port = urlsplit(server.url).port
        status, headers, page = get(server, "/")
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        policy = headers["Content-Security-Policy"]
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert f'<script nonce="{nonce}">'.encode() in page
        assert "default-src 'none'" in policy
        for own in (f"localhost:{port}", HOST, "LOCALHOST"):  # port 80 is left out
            assert get(server, "/", own)[0] == 200
        # A page of another site that has its name lead here, and the like.
        for host in (f"evil.example:{port}", "evil.example", f"{HOST}.evil.example:{port}", ""):
            assert get(server, "/view.json", host or " ")[0] in (400, 403)
        assert get(server, "/../etc/passwd")[0] == 404
        assert get(server, "/view.json?", None)[0] == 404
        assert get(server, "/view.json", method="POST")[0] == 501
        assert asked == 0
        get(server, "/view.json")
        assert json.loads(get(server, "/view.json")[2])["state"] == SAMPLE.state
        assert asked == 1  # at once asked, once looked
    with pytest.raises(ConnectionRefusedError):
        get(server, "/")


def test_of_very_many_charts_some_are_left_out_and_told_of() -> None:
    charts = [Chart(str(number), "s", [Line("", [0], [0])]) for number in range(MAX_CHARTS + 7)]
    shown = json.loads(View("a", "b", charts=charts).to_json())
    assert len(shown["charts"]) == MAX_CHARTS
    assert shown["remarks"] == ["7 more charts are not shown."]


def test_it_listens_on_the_loopback_interface_alone(
    own_sockets: Callable[[], set[str]],
) -> None:
    before = own_sockets()
    with PageServer(lambda: SAMPLE) as server:
        assert own_sockets() - before == {urlsplit(server.url).netloc}


@pytest.fixture
def own_sockets() -> Callable[[], set[str]]:
    """Addresses at which this process listens."""

    def addresses() -> set[str]:
        own = {
            str(path.stat().st_ino)
            for path in Path("/proc/self/fd").iterdir()
            if path.exists() and path.readlink().name.startswith("socket:")
        }
        found = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[index] for index in (1, 3, 9))
            if state == "0A" and inode in own:
                address, _, port = local.partition(":")
                host = socket.inet_ntoa(bytes.fromhex(address)[::-1])
                found.add(f"{host}:{int(port, 16)}")
        return found

    return addresses


def test_one_who_keeps_a_connection_open_keeps_nobody_else() -> None:
    with PageServer(lambda: SAMPLE) as server:
        address = urlsplit(server.url)
        assert address.port is not None
        with socket.create_connection((HOST, address.port)) as silent:
            silent.sendall(b"GET / HT")
            assert get(server, "/view.json")[0] == 200


def test_a_port_that_is_taken_is_told() -> None:
    with PageServer(lambda: SAMPLE) as server:
        port = urlsplit(server.url).port
        assert port is not None
        with pytest.raises(OutputError, match=f"--port {port}: Address already in use.*; give"):
            PageServer(lambda: SAMPLE, port)
