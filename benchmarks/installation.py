"""How large an installation is, with each extra; JSON lines.

    python -m benchmarks.installation           # prints lines
    python -m benchmarks.installation --keep    # and writes them to benchmarks/results

Builds the wheel, gathers it with those of all it requires in a folder, and installs these into
an empty environment, within constraints.txt. Of both the sizes are told: what crosses the network,
and what the environment has on disk beside Python itself. Which build of torch it was is told by
its version: the one with CUDA is larger by gigabytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.machine import Line, keep, machine, markdown_table, show, where

ROOT = Path(__file__).parents[1]
COMMAND = "python -m benchmarks.installation --keep"
EXTRAS = ("", "ros", "convert", "sim", "train", "all")


def main() -> None:
    """Measure every extra, in the order of the table."""
    parser = argparse.ArgumentParser(description="Measure the sizes of installations.")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--extras", nargs="*", default=EXTRAS, help="those to measure")
    arguments = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        wheel = ["wheel", "--no-deps", "--wheel-dir", folder, str(ROOT)]
        subprocess.run([*pip, *wheel], check=True)
        (built,) = Path(folder).glob("dql_ros-*.whl")
        for extra in arguments.extras:
            lines.append(show({**measure(built, extra), **machine()}))
    if arguments.keep:
        keep("installation", lines, table(lines))


def measure(wheel: Path, extra: str) -> Line:
    """Download and install the wheel with an extra; return the sizes in MB (10^6 bytes)."""
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    with tempfile.TemporaryDirectory() as folder:
        files, environment = Path(folder, "files"), Path(folder, "environment")
        venv.create(environment, with_pip=False)
        bare = _bytes(environment)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        within = ["--constraint", str(ROOT / "constraints.txt"), wanted]
        subprocess.run([*pip, "wheel", "--wheel-dir", str(files), *within], check=True)
        of = [*pip, "--python", str(environment / "bin/python"), "install", "--no-index"]
        local = ["--find-links", str(files), "--no-compile", *within]
        subprocess.run([*of, *local], check=True)
        found = sorted(environment.glob("lib/*/site-packages/*.dist-info"))
        return {
            "extra": extra,
            "packages": len(found),
            "download_mb": round(_bytes(files) / 1e6, 1),
            "installed_mb": round((_bytes(environment) - bare) / 1e6, 1),
            "torch": _version(found, "torch"),
        }


def _package(extra: str) -> str:
    return f"dql_ros[{extra}]" if extra else "dql_ros"


def _bytes(folder: Path) -> int:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in paths)


def _version(installed: list[Path], name: str) -> str:
    """Return the version of an installed distribution; empty if it is not there."""
    names = (path.name.removesuffix(".dist-info").split("-") for path in installed)
    return next((version for found, version in names if found == name), "")


def table(lines: list[Line]) -> str:
    """Return the page of the results."""
    rows = [
        (
            f"`pip install 'dql_ros[{line['extra']}]'`"
            if line["extra"]
            else "`pip install dql_ros`",
            line["packages"],
            f"{line['download_mb']:,.0f} MB",
            f"{line['installed_mb']:,.0f} MB",
        )
        for line in lines
    ]
    torch = next((line["torch"] for line in lines if line["torch"]), "none")
    return (
        f"# Sizes of installations\n\n    {COMMAND}\n\n{where(lines)}\n"
        f"Within constraints.txt, torch {torch}; without the byte code that Python writes when a "
        f"module is first\nimported. Each is what that command alone brings, itself included.\n\n"
        f"{markdown_table(('pip install', 'packages', 'download', 'on disk'), rows)}"
    )


if __name__ == "__main__":
    main()
