"""A whole update as one CUDA graph: the device repeats it without being told each operation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

# Optimisers and libraries allocate in their first steps, which a graph must not record.
WARM_UP_CALLS = 3


class CapturedUpdate(Generic[Result]):
    """A function of dataclasses of tensors that always works on the same memory.

    Its first calls run it operation by operation; then it is captured and only replayed. Without
    ``capture`` every call runs it so, on the same fixed memory: that path is the same on any
    device.
    """

    def __init__(self, update: Callable[..., Result], *, capture: bool = True) -> None:
        """Prepare.

        Args:
            update: Takes dataclasses of tensors, returns one; reads and writes nothing on the
                host, and keeps what it changes in place.
            capture: Whether to capture.
        """
        self._update = update
        self._capture = capture
        self._inputs: tuple[Any, ...] = ()
        self._result: Result | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self, *inputs: Any) -> Result:
        """Run or replay the update.

        Args:
            inputs: Of the same shapes in every call.

        Returns:
            The result in memory of its own, which the next call leaves alone.
        """
        if not self._inputs:
            self._inputs = tuple(_map_tensors(torch.clone, each) for each in inputs)
        for fixed, new in zip(self._inputs, inputs, strict=True):
            _copy_into(fixed, new)
        self._calls += 1
        if self._graph is not None:
            self._graph.replay()
        elif self._capture and self._calls > WARM_UP_CALLS:
            self._record()
        elif self._capture:
            self._result = self._on_side_stream()
        else:
            self._result = self._update(*self._inputs)
        result: Result = _map_tensors(torch.clone, self._result)
        return result

    def _record(self) -> None:
        """Capture the update, which does not run it, then run it once."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = self._update(*self._inputs)
        self._graph = graph
        graph.replay()

    def _on_side_stream(self) -> Result:
        """Run the update where capturing allows it to have run before."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._update(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return result


def _map_tensors(function: Callable[[Tensor], Tensor], values: Any) -> Any:
    fields = {
        field.name: function(getattr(values, field.name)) for field in dataclasses.fields(values)
    }
    return dataclasses.replace(values, **fields)


def _copy_into(fixed: Any, new: Any) -> None:
    for field in dataclasses.fields(fixed):
        getattr(fixed, field.name).copy_(getattr(new, field.name), non_blocking=True)
