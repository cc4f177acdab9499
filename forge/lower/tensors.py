"""An op called on tensors: run at once, or through PyTorch's dispatcher where something must see the call.

Under torch.compile, torch.export, FakeTensors, dispatch modes and torch.func's transforms, a call is that of the
operator `torch.ops.forge.<op>`, which those see. Elsewhere it is the eager run itself, which costs less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.autograd import forward_ad

from forge.errors import GraphError, UnsupportedError
from forge.graph.op import Op
from forge.lower import eager
from forge.lower.library import overloads
from forge.lower.values import type_of
from forge.quant.packed import Packed

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def run(op: Op, operands: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
    """Results of `op` on tensors. Raises UnsupportedError where a gradient would be wanted: ops have no backward."""
    seen = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0 or _transformed()
    grad = torch.is_grad_enabled()
    for operand in operands:
        if isinstance(operand, torch.Tensor):
            seen = seen or type(operand) not in _PLAIN
            if (grad and operand.requires_grad) or _has_tangent(operand):
                raise UnsupportedError(
                    f"{op.name} has no backward, and an operand requires a gradient",
                    remedy="call it under torch.no_grad(), or on x.detach()",
                )
        elif operand is not None and not isinstance(operand, Packed):
            name = next(n for n, o in zip(op.operands, operands, strict=True) if o is operand)
            raise GraphError(
                f"{op.name}: {name} is of the type {type(operand).__name__}, no tensor",
                remedy="torch.as_tensor of arrays and numbers",
            )
    if op.view:
        types = tuple([type_of(operand) for operand in operands])
        if torch.compiler.is_compiling():  # which cannot trace the message of `infer`, but that of the rule itself
            op.types(*types, **attrs)
        else:
            op.infer(types, attrs)
        return op.reference(*operands, **attrs)
    if not seen:
        return eager.run(op, operands, attrs)
    return dispatched(op, operands, attrs)


def _has_tangent(operand: torch.Tensor) -> bool:
    """Whether a derivative is being computed forwards, along this operand: it would be lost, as if it were zero."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(operand).tangent is not None  # type: ignore[no-untyped-call]


def _transformed() -> bool:
    """Whether this is within torch.func's vmap, grad or another transform."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def dispatched(op: Op, operands: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
    """The call of the op's operator."""
    for operand in operands:
        if isinstance(operand, Packed):
            raise UnsupportedError(
                f"{op.name} on a quantized operand cannot be traced: its PyTorch operator takes plain tensors",
                remedy="call it outside torch.compile, or on dequantized weights",
            )
    results = getattr(overloads, op.key)(*operands, **attrs)
    if not op.writes:
        return results
    written = operands[op.operands.index(op.writes)]
    fresh = () if results is None else results if isinstance(results, tuple) else (results,)
    return (written, *fresh) if fresh else written
