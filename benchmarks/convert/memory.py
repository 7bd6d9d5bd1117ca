"""How much memory a conversion needs as bags grow: one JSON line a bag.

    python -m benchmarks.convert.memory           # prints lines; needs 3 GB of disk for a while
    python -m benchmarks.convert.memory --keep    # and writes them to benchmarks/results

Bags of 100 MB and of 1 GB, once all joint states and once mostly camera images that the contract
does not name, are converted in fresh processes. Told is the peak of the resident memory, with and
without what the imports need; pages of the bag in the system's cache are in neither.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.convert.bags import STORAGES, Storage, write_bag, write_contract
from benchmarks.machine import Line, keep, machine, markdown_table, memory_mb, show, where
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert

SIZES_MB = (100, 1100)
IMAGES_HZ = {"joints": 0, "images": 10}
COMMAND = "python -m benchmarks.convert.memory --keep"


def main() -> None:
    """Write one bag after the other and convert each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes-mb", type=int, nargs="+", default=SIZES_MB)
    parser.add_argument("--storage", choices=STORAGES, nargs="+", default=["mcap", "db3"])
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--measure", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    lines = []
    for storage in arguments.storage:
        for content in IMAGES_HZ:
            sized = [run(storage, content, size) for size in arguments.sizes_mb]
            smallest = sized[0]["peak_mb"]
            for line in sized:
                ratio = round(line["peak_mb"] / smallest, 2)
                lines.append(show({**line, "times_the_smallest": ratio}))
    if arguments.keep:
        keep("convert_memory", lines, table(lines))


def run(storage: Storage, content: str, size_mb: int) -> Line:
    """Write a bag, convert it in a fresh process, and return its line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size_bytes = size_mb * 1_000_000
        images_hz = IMAGES_HZ[content]
        bag = write_bag(folder / "bag", storage, size_bytes=size_bytes, images_hz=images_hz)
        command = [sys.executable, "-m", "benchmarks.convert.memory", "--measure"]
        paths = [str(path) for path in (write_contract(folder), bag, folder / "out")]
        done = subprocess.run([*command, *paths], check=True, stdout=subprocess.PIPE, text=True)
        size = sum(file.stat().st_size for file in (folder / "bag").iterdir())
    told: Line = json.loads(done.stdout)
    return {
        "benchmark": "convert_memory",
        "storage": storage,
        "content": content,
        "bag_mb": round(size / 1e6),
        **told,
        **machine(),
    }


def measure(contract: Path, bag: Path, out: Path) -> None:
    """Convert a bag in this process and print what it needed."""
    source = Source(
        contract=load_contract(contract),
        bags=[bag],
        contract_name=contract.name,
        contract_text=contract.read_text(),
    )
    imports_mb = memory_mb("VmRSS")
    begun = time.perf_counter()
    report = convert(source, out)
    show(
        {
            "transitions": report["totals"]["transitions"],
            "seconds": round(time.perf_counter() - begun, 1),
            "imports_mb": imports_mb,
            "peak_mb": memory_mb("VmHWM"),
            "peak_above_imports_mb": memory_mb("VmHWM") - imports_mb,
        }
    )


def table(lines: list[Line]) -> str:
    """Return the page of the results."""
    headings = ("storage", "content", "bag", "transitions", "peak", "above the imports", "ratio")
    rows = [
        (
            line["storage"],
            line["content"],
            f"{line['bag_mb']:,} MB",
            f"{line['transitions']:,}",
            f"{line['peak_mb']} MiB",
            f"{line['peak_above_imports_mb']} MiB",
            line["times_the_smallest"],
        )
        for line in lines
    ]
    return (
        f"# Memory of a conversion as bags grow\n\n    {COMMAND}\n\n{where(lines)}\n"
        f"The lines as printed are in [convert_memory.jsonl](convert_memory.jsonl). `joints`: "
        f"JointState(7) at 500 Hz\nand Twist at 50 Hz; `images`: the same with 640 x 480 colour "
        f"images at 10 Hz, which the contract does not\nname. Episodes of 20 s. Peak resident "
        f"memory of the process that converts; the ratio is to the smallest\nbag of the kind."
        f"\n\n{markdown_table(headings, rows)}"
    )


if __name__ == "__main__":
    main()
