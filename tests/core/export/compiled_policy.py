"""A policy in C, compiled with sanitizers and run in a process of its own."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.export.c.folder import CPolicy
from dql_core.runtime.policy import Committed, Decision, Noise

WARNINGS = (
    *("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wdouble-promotion", "-Wshadow"),
    *("-Wundef", "-Wcast-qual", "-Wvla"),
)
SANITIZERS = (
    *("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *("-fsanitize=float-cast-overflow", "-fno-omit-frame-pointer"),
)
OK, OBSERVATION, NOISE, RESULT = range(4)
# Reads observations and noise as they lie in memory, and writes what was decided.
DRIVER = """
#include "policy.h"
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    float *observation = (float *)malloc(sizeof(float) * @_OBSERVATION_SIZE);
    $_noise *noise = ($_noise *)malloc(sizeof *noise);
    $_scratch *scratch = ($_scratch *)malloc(sizeof *scratch);
    $_decision *decision = ($_decision *)calloc(1, sizeof *decision);
    while (fread(observation, sizeof(float), @_OBSERVATION_SIZE, stdin) == @_OBSERVATION_SIZE &&
           fread(noise, sizeof *noise, 1, stdin) == 1) {
        const int status = (int)$_decide(observation, noise, scratch, decision);
        fwrite(&status, sizeof status, 1, stdout);
        fwrite(decision, sizeof *decision, 1, stdout);
        fflush(stdout);
    }
    free(observation);
    free(noise);
    free(scratch);
    free(decision);
    return 0;
}
"""


def require_gcc() -> None:
    """Skip the test where nothing can be compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the C is not compiled")


def compile_c(folder: Path, sources: Sequence[str], flags: Sequence[str], target: str) -> Path:
    """Compile, with every warning an error; fails the test with what the compiler says."""
    require_gcc()
    # What computes yields to the tests of nodes beside it, which wait for the clock.
    command = ["nice", "-n", "5", "gcc", *flags, *WARNINGS, "-o", target, *sources, "-lm"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode:
        pytest.fail(finished.stderr[-4000:])
    return folder / target


class CompiledPolicy:
    """Decides as `dql_core.runtime.policy.Graph` does."""

    def __init__(self, process: subprocess.Popen[bytes], shape: tuple[int, int]) -> None:
        self._process = process
        self._count, self._width = shape

    def __call__(
        self,
        observation: NDArray[np.float32],
        noise: Noise,
        committed: Committed | None = None,
    ) -> Decision:
        status, decision = self.decide(observation, noise)
        assert status == OK
        return decision

    def decide(self, observation: NDArray[np.float32], noise: Noise) -> tuple[int, Decision]:
        """Return the status and all that lies in the decision, whatever the status."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        for array in (observation, *noise):
            stdin.write(array.astype("<f4").tobytes())
        stdin.flush()
        numbers = self._width + self._count * (1 + self._width)
        content = stdout.read(4 + 4 * numbers)
        if len(content) < 4 + 4 * numbers:
            assert self._process.stderr is not None
            pytest.fail(self._process.stderr.read().decode()[-4000:])
        values = np.frombuffer(content, "<f4", offset=4)
        action, q_values, candidates = np.split(values, [self._width, self._width + self._count])
        rows = candidates.reshape(self._count, self._width)
        return struct.unpack("<i", content[:4])[0], Decision(action, q_values, rows)


@contextmanager
def compiled(policy: CPolicy, width: int, folder: Path, *flags: str) -> Iterator[CompiledPolicy]:
    """Compile a policy into ``folder``, and run it.

    Args:
        policy: In C.
        width: Of its actions, A.
        folder: For its files; made if it is not there.
        flags: For the compiler; by default C99 with sanitizers.
    """
    folder.mkdir(exist_ok=True)
    for name, text in policy.files.items():
        (folder / name).write_text(text)
    driver = DRIVER.replace("$", policy.prefix).replace("@", policy.prefix.upper())
    (folder / "driver.c").write_text(driver)
    flags = flags or ("-std=c99", "-pedantic", "-O1", *SANITIZERS)
    program = compile_c(folder, ["driver.c", "policy.c"], flags, "driver")
    pipe = subprocess.PIPE
    with subprocess.Popen([program], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield CompiledPolicy(process, (policy.choice.num_candidates, width))
        process.communicate()
        assert process.returncode == 0
