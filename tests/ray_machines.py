"""Two machines with a cable between them and no other way, a Ray cluster of theirs, and a command.

They are network namespaces; the command runs on the first one. As a program, started in a network
namespace of its own: ``ray_machines.py COMMAND...``; it kills the second machine at the first line
of its standard input, and ends as the command does.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FIRST, SECOND, PORT = "10.77.0.1", "10.77.0.2", 6379
ADDRESS = f"{FIRST}:{PORT}"
TIMEOUT_S = 90.0
# All that is started within ends with the first process.
_ENTER = (
    *("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc"),
    "--kill-child",
)
APART = [*_ENTER, sys.executable, __file__]
START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1")
SMALL = ("--object-store-memory=80000000", "--disable-usage-stats")
Before = Sequence[str]


def is_permitted() -> bool:
    """Whether this user may have such machines, and has what lays the cable."""
    cable = ("ip", "link", "add", "one", "type", "veth", "peer", "name", "two")
    return all(map(shutil.which, ("unshare", "nsenter", "ip"))) and not subprocess.call(
        [*_ENTER, *cable], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def main() -> int:
    """Lay the cable, begin the cluster, run the command; return its exit code."""
    other = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    until(lambda: network_of(other.pid) != network_of(os.getpid()), "the second namespace")
    there = ("nsenter", f"--net=/proc/{other.pid}/ns/net")
    ip((), "link", "add", "one", "type", "veth", "peer", "name", "two", "netns", str(other.pid))
    plug((), "one", FIRST)
    plug(there, "two", SECOND)
    join((), FIRST, "--head", f"--port={PORT}", "--include-dashboard=false")
    until(lambda: machines() == [FIRST], "the first machine")
    join(there, SECOND, f"--address={ADDRESS}")
    until(lambda: machines() == [FIRST, SECOND], "the second machine")
    threading.Thread(target=kill_when_told, args=(other.pid,), daemon=True).start()
    return subprocess.call(sys.argv[1:], env=surroundings(FIRST), stdin=subprocess.DEVNULL)


def plug(before: Before, cable: str, address: str) -> None:
    """Give a machine its end of the cable."""
    ip(before, "link", "set", "lo", "up")
    ip(before, "address", "add", f"{address}/24", "dev", cable)
    ip(before, "link", "set", cable, "up")


def ip(before: Before, *words: str) -> None:
    subprocess.run([*before, "ip", *words], check=True)


def join(before: Before, address: str, *options: str) -> None:
    """Let a machine take part in the cluster."""
    own = surroundings(address)
    Path(own["RAY_TMPDIR"]).mkdir()
    command = [*before, *START, *SMALL, f"--node-ip-address={address}", *options]
    subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def surroundings(address: str) -> dict[str, str]:
    return {**os.environ, "RAY_TMPDIR": os.path.join(os.environ["RAY_TMPDIR"], address)}


def machines() -> list[str]:
    """Those that take part."""
    code = (
        f"import ray; ray.init({ADDRESS!r}, log_to_driver=False, logging_level=50); "
        "found = sorted(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']); "
        "open(1, 'w').write(' '.join(found))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=surroundings(FIRST)
    )
    return done.stdout.split()


def kill_when_told(other: int) -> None:
    """Let the second machine die, as where its power fails."""
    if not sys.stdin.readline():
        return
    for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        if pid != other and network_of(pid) == network_of(other):
            os.kill(pid, signal.SIGKILL)


def network_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return f"none: {pid} has ended"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
