"""Tensors and their types: what a torch tensor is to the graph, and memory for a value of a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forge.errors import UnsupportedError
from forge.graph.ir import Node
from forge.graph.types import DTYPES, TensorType
from forge.kernels.fills import TORCH
from forge.quant.packed import Packed

if TYPE_CHECKING:
    import torch

FORGE = {torch_name: name for name, torch_name in TORCH.items()}


def type_of(operand: Any) -> TensorType | None:
    """The graph type of a tensor, a `Packed` tensor, or None."""
    if operand is None:
        return None
    if isinstance(operand, Packed):
        return operand.type
    name = str(operand.dtype).removeprefix("torch.")
    if name not in FORGE:
        raise UnsupportedError(f"tensors of type {operand.dtype} have no place in a graph")
    return TensorType(tuple(operand.shape), DTYPES[FORGE[name]])


def torch_dtype(type: TensorType) -> torch.dtype:
    """The torch type that holds elements of an unquantized type."""
    import torch

    found: torch.dtype = getattr(torch, TORCH[type.dtype.name])
    return found


def activation_planes(type: TensorType) -> dict[str, TensorType]:
    """The planes of quantized activations [T,D]: int8 codes four a word, and an f32 scale and sum a group of 32.

    The plane h, of "a16" alone, holds the second codes. Of any other type there are none.
    """
    if not type.dtype.activation:
        return {}
    *rows, width = type.concrete()
    words, groups = TensorType((*rows, width // 4), DTYPES["i32"]), TensorType((*rows, width // 32), DTYPES["f32"])
    return {"q": words} | ({"h": words} if type.dtype.name == "a16" else {}) | {"d": groups, "s": groups}


def constant_tensor(leaf: Node, device: Any) -> torch.Tensor:
    """The numbers of a constant, on a device."""
    import torch

    assert leaf.leaf is not None and leaf.kind == "constant"
    type = leaf.types[0]
    return torch.tensor(leaf.leaf.values, dtype=torch_dtype(type)).view(type.concrete()).to(device)


def empty(type: TensorType, device: Any) -> Any:
    """Uninitialized memory for a value: a tensor, or a `Packed` for quantized activations."""
    import torch

    if planes := activation_planes(type):
        return Packed(type, {name: empty(plane, device) for name, plane in planes.items()})
    return torch.empty(type.concrete(), dtype=torch_dtype(type), device=device)
