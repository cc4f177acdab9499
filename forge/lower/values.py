"""Tensors and their types: what a torch tensor is to the graph, and memory for a value of a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forge.errors import UnsupportedError
from forge.graph.ir import Node
from forge.graph.types import DTYPES, TensorType
from forge.quant import format_of
from forge.quant.packed import Packed
from forge.torch_types import torch_type, type_name

if TYPE_CHECKING:
    import torch


def type_of(operand: Any) -> TensorType | None:
    """The graph type of a tensor, a `Packed` tensor, or None."""
    if operand is None:
        return None
    if isinstance(operand, Packed):
        return operand.type
    name = type_name(operand.dtype)
    if name is None:
        raise UnsupportedError(f"tensors of type {operand.dtype} have no place in a graph")
    return TensorType(tuple(operand.shape), DTYPES[name])


def torch_dtype(type: TensorType) -> torch.dtype:
    """The torch type that holds elements of an unquantized type."""
    return torch_type(type.dtype.name)


def activation_planes(type: TensorType) -> dict[str, TensorType]:
    """The planes of quantized activations; of any other type there are none."""
    return format_of(type.dtype).plane_types(type.concrete()) if type.dtype.activation else {}


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
