"""A compiled or captured update is the plain one: tensor by tensor, over several updates."""

import getpass
import logging
import os
import platform
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dql_core.algo import execution as execution_module
from dql_core.algo.agent import Agent, measured
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.execution import (
    WORTH_COMPILING,
    CapturedUpdate,
    Execution,
    compiler_missing,
    multiplies_bfloat16,
)
from dql_core.config import RunConfig
from tests.core.algo.naive import make_agent, make_batch, make_config

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CRITICS: list[dict[str, Any]] = [{}, {"num_critics": 3, "lower_bound": 1.0}, {"kind": "expectile"}]
LIMITED = {"max_imitation_ratio": 1.1}
needs_compiler = pytest.mark.skipif(
    compiler_missing() is not None, reason=f"nothing can be compiled: {compiler_missing()}"
)


def make(
    critic: dict[str, Any] | None = None, policy: dict[str, Any] | None = None, **run: Any
) -> DiffusionQL:
    """Return an agent that is compiled in half a minute."""
    config = make_config(
        run=run,
        diffusion={"num_diffusion_steps": 2},
        policy={"depth": 1, "ema_every": 2, **(policy or {})},
        critic={"depth": 1, **(critic or {})},
    )
    return make_agent(config)


def require_close(ours: Agent, reference: Agent, atol: float, rtol: float) -> None:
    for name, module in reference.modules.items():
        mine = ours.modules[name].state_dict()
        for key, value in module.state_dict().items():
            where = f"{name}.{key}"
            torch.testing.assert_close(mine[key], value, atol=atol, rtol=rtol, msg=where)
    for name, optimizer in reference.optimizers.items():
        state = ours.optimizers[name].state_dict()
        for key, value in optimizer.state_dict().items():
            where = f"{name}.{key}"
            torch.testing.assert_close(state[key], value, atol=atol, rtol=rtol, msg=where)


@pytest.fixture(name="code")
def _code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder in which torch would look for compiled code."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"torchinductor_{getpass.getuser()}"


@needs_compiler
def test_the_folder_of_compiled_code_is_this_users_own(code: Path) -> None:
    for _ in range(2):
        assert Execution(RunConfig(execution="compiled"), CPU).compiles
        assert code.lstat().st_uid == os.getuid()
        assert not code.lstat().st_mode & stat.S_IWOTH


@needs_compiler
@pytest.mark.parametrize("kind", ["link", "writable by all", "of another user"])
def test_code_that_others_may_have_put_there_is_not_run(
    code: Path, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        code.symlink_to("elsewhere")
    else:
        code.mkdir()
        code.chmod(0o777 if kind == "writable by all" else 0o755)
    if kind == "of another user":
        if os.getuid() != 0:
            pytest.skip("only root can make another user's folder")
        os.chown(code, 65534, 65534)
    assert not Execution(RunConfig(execution="compiled"), CPU).compiles
    assert f"others may write to {code}, where torch looks for compiled code" in caplog.text


@pytest.mark.parametrize("critic", CRITICS, ids=str)
@pytest.mark.parametrize("policy", [{}, LIMITED], ids=str)
def test_an_update_on_fixed_memory_is_the_plain_one_to_the_bit(
    critic: dict[str, Any], policy: dict[str, Any]
) -> None:
    captured, plain = make(critic, policy), make(critic, policy)
    captured._learn = CapturedUpdate(captured._learn_from, capture=False)  # type: ignore[assignment]
    history = []
    for seed in range(6):
        batch = make_batch(seed)
        losses, expected = captured.update(batch), plain.update(batch)
        history.append((losses, expected))
    # A result keeps its values while later updates use the same memory again.
    for losses, expected in history:
        mine = measured(losses)
        for name, value in measured(expected).items():
            assert torch.equal(mine[name], value), name
    require_close(captured, plain, atol=0, rtol=0)


@needs_compiler
# Torch's compiler imports what torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("critic", "policy"), [({}, {}), ({**CRITICS[1], **CRITICS[2]}, LIMITED)], ids=str
)
def test_a_compiled_update_is_the_plain_one(
    critic: dict[str, Any], policy: dict[str, Any]
) -> None:
    compiled = make(critic, policy, execution="compiled")
    plain = make(critic, policy, execution="eager")
    assert compiled.execution.compiles
    for agent in (compiled, plain):
        agent.critics.bound_targets(-0.5, 0.5)
    for seed in range(4):
        batch = make_batch(seed)
        losses, expected = compiled.update(batch), plain.update(batch)
        torch.testing.assert_close(measured(losses), measured(expected), atol=1e-5, rtol=1e-4)
        assert losses.targets_clipped > 0
    require_close(compiled, plain, atol=2e-5, rtol=1e-4)


def test_what_is_short_is_not_compiled_unless_that_is_wanted() -> None:
    short, long = RunConfig(steps=WORTH_COMPILING - 1), RunConfig(steps=WORTH_COMPILING)
    assert not Execution(short, CPU).compiles
    assert Execution(long, CPU).compiles == (compiler_missing() is None)
    assert not Execution(RunConfig(steps=10**6, execution="eager"), CPU).compiles


def test_without_a_compiler_it_runs_all_the_same_and_says_why_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.WARNING):
        agent = make(execution="compiled")
    assert not agent.execution.compiles
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "no C++ compiler 'no-such-compiler'" in caplog.text
    agent.update(make_batch())


def test_a_long_run_that_asked_for_nothing_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not Execution(RunConfig(steps=WORTH_COMPILING), CPU).compiles
    assert not caplog.records


def test_whole_updates_are_captured_on_cuda_only() -> None:
    run = RunConfig(execution="compiled")
    assert Execution(run, torch.device("cuda")).captures
    assert not Execution(run, torch.device("cuda")).compiles
    assert not Execution(run, CPU).captures
    assert not Execution(RunConfig(execution="eager"), torch.device("cuda")).captures


def test_reduced_precision_is_of_the_matrix_products_inside_its_context_only() -> None:
    layer, inputs = nn.Linear(4, 4), torch.randn(2, 4)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        execution = Execution(RunConfig.model_validate({"precision": precision}), CPU)
        with execution.precision():
            assert layer(inputs).dtype == dtype
        assert layer(inputs).dtype == torch.float32


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="Linux names them"
)
def test_whether_the_processor_multiplies_bfloat16_is_what_the_system_says() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert multiplies_bfloat16() == bool({"avx512_bf16", "amx_tile"} & flags)


@pytest.mark.parametrize("can", [True, False])
def test_reduced_precision_that_is_slower_here_is_said(
    can: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(execution_module, "multiplies_bfloat16", lambda: can)
    Execution(RunConfig(precision="float32"), CPU)
    Execution(RunConfig(precision="bfloat16"), torch.device("cuda"))
    assert not caplog.records
    Execution(RunConfig(precision="bfloat16"), CPU)
    said = [record.getMessage() for record in caplog.records]
    assert ["no instructions for bfloat16" in text for text in said] == ([] if can else [True])
