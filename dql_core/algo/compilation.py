"""A whole update as one compiled function: losses, gradients, optimisers and averages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class CompiledUpdate:
    """A function that torch compiles at its first call, for the shapes of that call.

    Torch looks up at every call whether what it compiled still holds. Nothing but the values of
    the tensors changes between two updates, so after the first call only the shapes are compared.
    """

    def __init__(self, update: Callable[..., Any]) -> None:
        # With a wrapper in C++ the few hundred kernels of an update do not wait for Python.
        self._compiled = torch.compile(
            update, fullgraph=True, dynamic=False, options={"cpp_wrapper": True}
        )
        self._shapes: list[torch.Size] | None = None

    def __call__(self, *inputs: Any) -> Any:
        """Run the update; ``inputs`` are dataclasses of tensors."""
        shapes = [value.shape for each in inputs for value in vars(each).values()]
        if shapes == self._shapes:
            with torch.compiler.set_stance(skip_guard_eval_unsafe=True):
                return self._compiled(*inputs)
        # Lets gradients be taken inside the compiled function.
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            result = self._compiled(*inputs)
        self._shapes = shapes
        return result
