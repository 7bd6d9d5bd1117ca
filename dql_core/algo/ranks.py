"""Several processes that train one run together, each with its share of every batch.

``torchrun`` starts them. All draw the same batches and the same noise and keep the same weights;
what is a mean over a batch is made of the means over the shares. The first, the leader, alone
writes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dql_core.errors import ConfigError, DqlError, one_line

Values = TypeVar("Values")
# While the leader measures a checkpoint the others wait; that it has died they see at once.
LONGEST_WAIT = timedelta(days=7)
# What torchrun tells each process.
RANK, SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0, which is the leader's.
        size: How many there are; with one, nothing is exchanged.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Return this process's place among those that `joined` brought together."""
        if not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def require_divisible(self, batch_size: int) -> None:
        """Refuse batches of which not every process would get as much.

        Raises:
            ConfigError: If there are such.
        """
        if batch_size % self.size:
            raise ConfigError(
                f"run.batch_size={batch_size}: {self.size} processes cannot share it evenly; make "
                f"it a multiple of {self.size}, or start another number of them"
            )

    def share(self, values: Values, rows: int, **dims: int) -> Values:
        """Return this process's part of a dataclass of tensors: every `size`-th row of a batch.

        Args:
            values: Those tensors.
            rows: How many rows the batch has, B.
            dims: Which dimension of each, by its field, has the rows, or S for each of them as
                B * S; a field that is not named stays whole.
        """
        if self.size == 1:
            return values
        parts = {name: self._own(getattr(values, name), rows, dim) for name, dim in dims.items()}
        return dataclasses.replace(values, **parts)  # type: ignore[type-var]

    def _own(self, tensor: Tensor, rows: int, dim: int) -> Tensor:
        # Neighbours would not do: a mean flow's first rows are of another kind than its others.
        by_row = torch.unflatten(tensor, dim, (rows, -1))
        index = torch.arange(self.rank, rows, self.size, device=tensor.device)
        return torch.flatten(torch.index_select(by_row, dim, index), dim, dim + 1)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over all processes of a tensor without gradients, of any shape."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        with _exchange():
            dist.all_reduce(total)
        return total / self.size

    def mean_of_each(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the same of several, in one exchange."""
        if self.size == 1:
            return list(values)
        flat = self.mean(torch.cat([value.reshape(-1) for value in values]))
        parts = torch.split(flat, [value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def mean_fields(self, values: Values) -> Values:
        """Return the same of a dataclass of tensors, of which some may be None."""
        if self.size == 1:
            return values
        given = {name: each for name, each in vars(values).items() if each is not None}
        means = self.mean_of_each(list(given.values()))
        return dataclasses.replace(values, **dict(zip(given, means, strict=True)))  # type: ignore[type-var]

    def all_go_on(self, wanted: bool) -> bool:
        """Tell from the leader whether there is another update, and as a follower learn it."""
        if self.size == 1:
            return wanted
        flag = torch.tensor(int(wanted))
        with _exchange():
            dist.broadcast(flag, src=0)
        return bool(flag)

    def require_same(self, value: int | str, what: str) -> None:
        """Refuse to go on where a number, or a text of any length, differs among the processes.

        Raises:
            DqlError: If it does.
        """
        if self.size == 1:
            return
        number = value if isinstance(value, int) else _number_of(value)
        ends = torch.tensor([number, -number])
        with _exchange():
            dist.all_reduce(ends, dist.ReduceOp.MAX)
        if int(ends[0]) != -int(ends[1]):
            told = f" ({-int(ends[1])} to {int(ends[0])})" if isinstance(value, int) else ""
            raise DqlError(
                f"the {self.size} processes differ in {what}{told}: start all with one command "
                f"line, on one file system"
            )


def _number_of(text: str) -> int:
    """Return a number of 60 bits that no other text is likely to have."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


def is_follower() -> bool:
    """Whether torchrun started this process, and not as the leader."""
    return SIZE in os.environ and os.environ.get(RANK, "0") != "0"


def starts_several() -> bool:
    """Whether torchrun started this process and others."""
    return os.environ.get(SIZE, "1") != "1" and RANK in os.environ


def own_device(device: str) -> str:
    """Return the device of this process: of several on one machine, each has a GPU of its own."""
    return f"cuda:{os.environ[LOCAL_RANK]}" if device == "cuda" and starts_several() else device


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started; alone, do nothing.

    Args:
        device: Where the networks are.

    Raises:
        DqlError: If they do not find each other.
    """
    if not starts_several():
        yield Ranks()
        return
    # The exchange of flags is on the CPU, whatever the networks are on.
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    # While it waits for the others no handler of Python's would run.
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        dist.init_process_group(backend, timeout=LONGEST_WAIT)
    except (RuntimeError, ValueError) as cause:
        raise DqlError(
            f"torchrun's processes do not find each other: {one_line(cause)}"
        ) from cause
    finally:
        signal.signal(signal.SIGTERM, handler)
    try:
        yield Ranks.current()
    finally:
        dist.destroy_process_group()


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as cause:
        raise DqlError(
            f"another process of this training has ended ({one_line(cause)}): see what it said, "
            f"and go on with --resume"
        ) from cause
