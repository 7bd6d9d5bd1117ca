"""How long a decision takes in C, beside the same one in ONNX Runtime; JSON lines.

    python -m benchmarks.c_policy           # prints lines; some minutes, most of them compiling
    python -m benchmarks.c_policy --keep    # and writes them to benchmarks/results

Sizes are the paper's: 3 x 256 Mish, N = 5; observation 17 and action 6 wide, random weights. Both
are given the same observations and noise, on one thread, in turns, so that whatever else the
machine does falls on both. The longest of all decisions is the machine's as much as the code's:
neither has a loop here whose length depends on what goes in.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from benchmarks.selection import export_untrained
from dql_core.export.c.folder import CPolicy, write_c
from dql_core.export.latency import speed_ratio, time_interleaved
from dql_core.runtime.manifest import GRAPH_FILE, Manifest, read_bundle
from dql_core.runtime.onnx_backend import OnnxGraph
from dql_core.runtime.policy import Choice, Noise, draw_noise

ROUNDS, CALLS, INPUTS = 30, 20, 16
FLAGS = ("-O2", "-O3 -march=native")
Input = tuple[NDArray[np.float32], Noise]
CHOICES = (Choice(50, "softmax"), Choice(1, "softmax"))
PERCENTILES = {"p50_us": 50, "p99_us": 99, "max_us": 100}
COMMAND = "python -m benchmarks.c_policy --keep"


def main() -> None:
    """Export, compile and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        lines = [
            show(line)
            for kind in ("diffusion", "mean_flow")
            for line in measured(export_untrained(Path(name) / kind, 5, kind), Path(name), kind)
        ]
    if arguments.keep:
        keep("c_policy", lines, table(lines))


def measured(bundle: Path, folder: Path, kind: str) -> Iterator[Line]:
    """Yield a line for each number of candidates and each way to compute."""
    manifest, contents = read_bundle(bundle)
    graph = OnnxGraph(contents[GRAPH_FILE])
    for choice in CHOICES:
        policy = write_c(manifest, contents, choice, "policy")
        inputs = list(drawn(manifest, choice))
        functions: dict[str, Callable[[], object]] = {"ONNX Runtime": in_turn(graph, inputs)}
        for flags in FLAGS:
            place = folder / f"{kind}-{choice.num_candidates}-{len(functions)}"
            library = compiled(policy, place, flags)
            functions[f"gcc {flags}"] = in_c(library, policy, manifest, inputs)
        times = time_interleaved(functions, rounds=ROUNDS, calls=CALLS)
        for name, found in times.items():
            _, ratio, _ = speed_ratio(times["ONNX Runtime"], found)
            values = np.percentile(found, list(PERCENTILES.values()))
            yield {
                "benchmark": "c_policy",
                "policy": kind,
                "num_candidates": choice.num_candidates,
                "computed_by": name,
                **dict(zip(PERCENTILES, map(round, values.tolist()), strict=True)),
                "times_as_fast": round(ratio, 2),
                "decisions": found.size,
                "weights_kib": round(policy.weight_bytes / 1024),
                "memory_kib": round(policy.memory_bytes / 1024, 1),
                **machine(),
            }


def drawn(manifest: Manifest, choice: Choice) -> Iterator[Input]:
    """Yield observations, shape (O,), and the noise of a decision."""
    rng = np.random.default_rng(0)
    spec, selection = manifest.policy_spec, choice.selection
    shape = manifest.sampler.num_noises, choice.num_candidates, len(spec.action)
    for _ in range(INPUTS):
        observation = rng.standard_normal(len(spec.observation), dtype=np.float32)
        yield observation, draw_noise(rng, shape, selection)


def in_turn(graph: OnnxGraph, inputs: list[Input]) -> Callable[[], object]:
    """Return a function that decides on the next input."""
    following = itertools.cycle(inputs)
    return lambda: graph(*next(following))


def compiled(policy: CPolicy, folder: Path, flags: str) -> ctypes.CDLL:
    """Compile a policy as a library of its own."""
    folder.mkdir()
    for name, text in policy.files.items():
        (folder / name).write_text(text)
    command = f"gcc -std=c99 {flags} -shared -fPIC -o policy.so policy.c -lm"
    subprocess.run(command.split(), cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "policy.so"))


def in_c(
    library: ctypes.CDLL,
    policy: CPolicy,
    manifest: Manifest,
    inputs: list[Input],
) -> Callable[[], object]:
    """Return a function that decides on the next input."""
    count, width = policy.choice.num_candidates, len(manifest.policy_spec.action)
    scratch = np.zeros(policy.memory_bytes // 4 + 1, np.float32)
    decision = np.zeros(width + count + count * width, np.float32)
    calls = []
    kept = []
    for observation, noise in inputs:
        both = np.concatenate([each.ravel() for each in noise])
        kept.append((observation, both))
        arrays = (observation, both, scratch, decision)
        pointers = [each.ctypes.data_as(ctypes.c_void_p) for each in arrays]
        calls.append(partial(library.policy_decide, *pointers))
    following = itertools.cycle(calls)

    def decide() -> object:
        assert len(kept) == len(calls)  # the arrays must live as long as their pointers
        return next(following)()

    if decide() != 0:
        raise RuntimeError("the policy refuses its inputs")
    return decide


def table(lines: list[Line]) -> str:
    """Return the page of results."""
    rows = [
        (
            line["policy"],
            line["num_candidates"],
            line["computed_by"],
            *(f"{line[name] / 1e3:.3f}" for name in PERCENTILES),
            f"{line['times_as_fast']:.2f}",
            f"{line['weights_kib']:,} KiB",
            f"{line['memory_kib']:,} KiB",
        )
        for line in lines
    ]
    headings = (
        *("policy", "K", "computed by", "median, ms", "p99, ms", "longest, ms"),
        *("times as fast as ONNX Runtime", "weights", "memory"),
    )
    return (
        f"# A decision in C\n\n    {COMMAND}\n\n{where(lines)} One thread, 3 x 256 Mish, N = 5, "
        f"observation 17 and action 6 wide,\nrandom weights; {lines[0]['decisions']} decisions "
        f"each, in turns, without the drawing of noise. The ratio is the median over the turns.\n"
        f"Memory is what the C is lent: noise, scratch and decision.\n\n"
        f"{markdown_table(headings, rows)}"
    )


if __name__ == "__main__":
    main()
