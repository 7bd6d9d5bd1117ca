"""A page that a browser on this machine sees change: curves and tables, asked for every second.

It is served on the loopback interface alone, reads nothing from the network, and obeys nobody: all
that can be asked for is the page and what it shows. The browser's part is ``live_page.html``.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dql_core.errors import DqlError, OutputError, one_line, system_error_text
from dql_core.page import fill

HOST = "127.0.0.1"
# Names under which a browser may ask for it; a page of somebody else's cannot take these.
_OWN_NAMES = (HOST, "localhost")
_TEMPLATE = Path(__file__).with_name("live_page.html")
_REQUEST_TIMEOUT_S = 10.0
# More points than this are no more to see, nor more charts.
MAX_POINTS, MAX_CHARTS = 400, 100
# The page asks once a second.
_KEPT_S = 0.5
Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True)
class Line:
    """Points of a chart, in their order.

    Attributes:
        name: What they are; empty where the chart's title says it.
        x: Where they are along, shape (n,).
        y: How high, shape (n,).
        low: Lower ends of their intervals, shape (n,); empty if there are none.
        high: Upper ends, likewise.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()

    def thinned(self) -> Line:
        """Return it with every n-th point, and the last one, if there are too many to see."""
        stride = math.ceil(len(self.x) / MAX_POINTS)
        if stride < 2:
            return self
        kept = [*range(0, len(self.x) - 1, stride), len(self.x) - 1]
        columns = ([each[index] for index in kept] if each else () for each in self._columns)
        return Line(self.name, *columns)

    @property
    def _columns(self) -> tuple[Sequence[Any], ...]:
        return self.x, self.y, self.low, self.high


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes:
        title: What is shown.
        along: What is shown along, such as ``updates``.
        lines: The lines.
        dots: Whether points are not joined.
        marks: Places along that are told of: where, and what.
    """

    title: str
    along: str
    lines: Sequence[Line]
    dots: bool = False
    marks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: Its title.
        header: Names of the columns.
        rows: Their cells.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


@dataclass(frozen=True)
class View:
    """All that the page shows at a time.

    Attributes:
        title: What is watched.
        state: How that goes, in a few words.
        level: How bad that is.
        remarks: What else is to be known, a sentence each.
        facts: Numbers and words, each with its name.
        charts: The charts.
        tables: The tables.
    """

    title: str
    state: str
    level: Level = "ok"
    remarks: Sequence[str] = ()
    facts: Sequence[tuple[str, str | float | None]] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()

    def to_json(self) -> bytes:
        """Return it as JSON; what is not finite becomes null, and too many charts are left out."""
        content = asdict(self)
        if (left := len(self.charts) - MAX_CHARTS) > 0:
            content["charts"] = content["charts"][:MAX_CHARTS]
            content["remarks"] = [*self.remarks, f"{left:,} more charts are not shown."]
        return json.dumps(_finite(content), allow_nan=False).encode("ascii")


class PageServer:
    """Serves the page while its block lasts.

    Attributes:
        url: Where it is.
    """

    def __init__(self, view: Callable[[], View], port: int = 0) -> None:
        """Take the port.

        Args:
            view: Asked for what is shown, by one thread at a time; a `DqlError` is shown as such.
            port: On the loopback interface; 0 for any that is free.

        Raises:
            OutputError: If it is taken.
        """
        self._lock = threading.Lock()
        self._view = view
        self._last = -math.inf, b""
        nonce = secrets.token_urlsafe(16)
        self._page = fill(_TEMPLATE, nonce=nonce).encode()
        self._headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
                f"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        try:
            self._server = _Server((HOST, port), self._handler())
        except (OSError, OverflowError) as cause:
            reason = system_error_text(cause) if isinstance(cause, OSError) else str(cause)
            raise OutputError(
                f"--port {port}: {reason}; give another one, or 0 for any that is free"
            ) from cause
        self.url = f"http://{HOST}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), daemon=True
        )

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[str, bytes] | None:
        if path == "/":
            return "text/html; charset=utf-8", self._page
        if path == "/view.json":
            return "application/json", self._shown()
        return None

    def _shown(self) -> bytes:
        """Return the view, the same for all who ask within a short time."""
        with self._lock:
            shown_s, shown = self._last
            if time.monotonic() - shown_s > _KEPT_S:
                shown = self._look()
                self._last = time.monotonic(), shown
            return shown

    def _look(self) -> bytes:
        try:
            return self._view().to_json()
        except DqlError as error:
            return View("", one_line(error), "error").to_json()
        except Exception as error:  # noqa: BLE001  # the page is the place where it is seen
            reason = f"{type(error).__name__}: {one_line(error)}"
            return View("", f"this cannot be shown: {reason}", "error").to_json()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer, headers = self._answer, self._headers

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_TIMEOUT_S
            server_version, sys_version = "dql", ""

            def do_GET(self) -> None:
                """Answer, unless it was asked for by a name that is not this machine's."""
                if _host_of(self.headers.get("Host", "")) not in _OWN_NAMES:
                    self.send_error(HTTPStatus.FORBIDDEN)
                elif (found := answer(self.path)) is None:
                    self.send_error(HTTPStatus.NOT_FOUND)
                else:
                    kind, content = found
                    self.send_response(HTTPStatus.OK)
                    for name, value in {**headers, "Content-Type": kind}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Print nothing: each second has a request."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A page that was closed meanwhile is nobody's mistake.
    handle_error = staticmethod(lambda *_: None)  # type: ignore[assignment]


def _host_of(header: str) -> str | None:
    """Return the name in a Host header, without the port, which is left out if it is 80."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
