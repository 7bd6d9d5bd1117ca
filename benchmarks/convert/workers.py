"""How much faster several workers convert many bags: a JSON line for each length and number.

    python -m benchmarks.convert.workers           # prints lines
    python -m benchmarks.convert.workers --keep    # and writes them to benchmarks/results

A hundred bags with JointState(7) at 500 Hz and Twist at 50 Hz are converted by ``dql convert
--workers N``: the whole command, with its start, once for short bags and once for longer ones. The
numbers of workers take turns; the ratio is the median over the turns. The datasets are compared
byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.convert.bags import message_count, write_bag, write_contract
from benchmarks.machine import Line, keep, machine, markdown_table, show, where

BAGS, SECONDS, ROUNDS, WORKERS = 100, (20, 100), 3, (1, 2)
COMMAND = "python -m benchmarks.convert.workers --keep"


def main() -> None:
    """Write the bags and let the numbers of workers take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--bags", type=int, default=BAGS)
    parser.add_argument("--seconds", type=int, nargs="+", default=SECONDS, help="of each bag")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    lines = [line for seconds in arguments.seconds for line in measured(arguments, seconds)]
    if arguments.keep:
        keep("convert_workers", lines, table(lines))


def measured(arguments: argparse.Namespace, seconds: int) -> list[Line]:
    """Convert bags of a length again and again; return a line for each number of workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contract = write_contract(folder)
        bags = [
            write_bag(folder / f"bag_{index:02}", "mcap", seconds=seconds, seed=index)
            for index in range(arguments.bags)
        ]
        times: dict[int, list[float]] = {workers: [] for workers in arguments.workers}
        digests = set()
        for turn in range(arguments.rounds):
            for workers, taken in times.items():
                out = folder / f"out-{turn}-{workers}"
                taken.append(convert(contract, bags, out, workers))
                digests.add(digest(out / "data"))
    size = {"bags": arguments.bags, "bag_s": seconds}
    messages = arguments.bags * message_count(seconds)
    return [show(line) for line in told(times, messages, len(digests) == 1, size)]


def convert(contract: Path, bags: list[Path], out: Path, workers: int) -> float:
    """Run the command; return its seconds."""
    command = [sys.executable, "-m", "dql_ros.cli.main", "convert", str(contract)]
    options = ["--out", str(out), "--workers", str(workers)]
    begun = time.perf_counter()
    subprocess.run([*command, *map(str, bags), *options], check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - begun


def digest(folder: Path) -> str:
    """Return the SHA-256 of a folder's files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def told(
    times: dict[int, list[float]], messages: int, same: bool, size: dict[str, int]
) -> list[Line]:
    """Return a line for each number of workers."""
    first = next(iter(times.values()))
    lines = []
    for workers, taken in times.items():
        ratios = [one / other for one, other in zip(first, taken, strict=True)]
        lines.append(
            {
                "benchmark": "convert_workers",
                "workers": workers,
                **size,
                "messages": messages,
                "seconds": round(statistics.median(taken), 2),
                "messages_per_s": round(messages / statistics.median(taken)),
                "times_the_first": round(statistics.median(ratios), 2),
                "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
                "same_dataset": same,
                **machine(),
            }
        )
    return lines


def table(lines: list[Line]) -> str:
    """Return the page of the results."""
    headings = ("bags", "messages", "workers", "median", "messages/s", "times as fast")
    rows = [
        (
            f"{line['bags']} of {line['bag_s']} s",
            f"{line['messages']:,}",
            line["workers"],
            f"{line['seconds']} s",
            f"{line['messages_per_s']:,}",
            f"{line['times_the_first']} {line['ratio_range']}",
        )
        for line in lines
    ]
    same = all(line["same_dataset"] for line in lines)
    told_same = "the same to the byte" if same else "**not** the same"
    return (
        f"# Many bags by several workers\n\n    {COMMAND}\n\n{where(lines)}\n"
        "The lines as printed are in [convert_workers.jsonl](convert_workers.jsonl).\n"
        "JointState(7) at 500 Hz and Twist at 50 Hz, MCAP. The whole command\n"
        "`dql convert --workers N` is timed, in turns; the ratio is the median over the turns,\n"
        "in brackets its range. The datasets are "
        f"{told_same}.\n\n{markdown_table(headings, rows)}"
    )


if __name__ == "__main__":
    main()
