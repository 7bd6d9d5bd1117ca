"""Tells whether processes reach other machines, or are reached by them.

Runs a command where there is no network but the loopback interface, and counts who missed it. As a
program: ``offline.py REPORT COMMAND...``, started in a network namespace of its own.
"""

import fcntl
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_SET_FLAGS = 0x8914  # SIOCSIFFLAGS of Linux
_UP, _LOOPBACK, _RUNNING = 0x1, 0x8, 0x40
_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp
_ENTER = ["unshare", "--user", "--map-root-user", "--net"]


def is_possible() -> bool:
    """Whether this user may have network namespaces."""
    return shutil.which("unshare") is not None and not subprocess.call(
        [*_ENTER, "true"], stderr=subprocess.DEVNULL
    )


def run_offline(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a command in ``folder``; also return how often it wanted to reach another machine.

    A resolver that itself is on this machine's loopback interface is no other machine.
    """
    with tempfile.NamedTemporaryFile("r") as report:
        done = subprocess.run(
            [*_ENTER, sys.executable, __file__, report.name, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done, int(json.load(report))


def listening(processes: Iterable[int]) -> list[IPv4Address | IPv6Address]:
    """Return the addresses at which the processes accept TCP connections."""
    mine = {link for pid in processes for link in _links(pid)}
    found: list[IPv4Address | IPv6Address] = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENS and f"socket:[{inode}]" in mine:
                found.append(_address(local.partition(":")[0]))
    return found


def _links(pid: int) -> Iterator[str]:
    """What the open files of a process are."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # It is closed by now.
            yield str(path.readlink())


def _address(digits: str) -> IPv4Address | IPv6Address:
    """Read an address as /proc/net writes it: words of four bytes, each in the host's order."""
    words = struct.unpack(f">{len(digits) // 8}I", bytes.fromhex(digits))
    address = ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _missed() -> int:
    """Connections and datagrams for which there was no way, of all processes here."""
    names, values = Path("/proc/net/snmp").read_text().splitlines()[:2]
    counters = dict(zip(names.split(), values.split(), strict=True))
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(counters["OutNoRoutes"]) + int(six.get("Ip6OutNoRoutes", 0))


def _main(report: str, *command: str) -> int:
    with socket.socket() as any_socket:
        flags = struct.pack("16sh14x", b"lo", _UP | _LOOPBACK | _RUNNING)
        fcntl.ioctl(any_socket, _SET_FLAGS, flags)
    before = _missed()
    code = subprocess.call(command)
    Path(report).write_text(str(_missed() - before))
    return code


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
