"""What a model's rows are about: the model, the file's types, and what it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forge.compiled import CompiledModel
    from forge.gguf import GGUFFile


def about(model: CompiledModel, gguf: GGUFFile) -> dict[str, Any]:
    """What was measured, and on what."""
    import torch

    from forge.bench.limit import multiplied

    parameters = sum(t.type.numel for t in gguf.tensors.values())
    act, kept = multiplied(model), str(next(model.graph.states("pages")).types[0].dtype)
    before = model.graph_after("quantize_activations")
    quantized = {f" {node.types[0].dtype}" for node in before.calls() if node.types[0].dtype.activation}
    on_cpu = model.target.kind == "cpu"
    how = f"{torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name(model.device)
    return {
        "model": f"{gguf.architecture} {billions(parameters)} {_file_type(gguf)}",
        "path": str(gguf.path),
        "bytes": sum(t.type.nbytes for t in gguf.tensors.values()),
        "parameters": parameters,
        "backend": f"{model.target} {act}{''.join(quantized)}{'' if kept == act else f' kv {kept}'}, {how}",
        "kv": kept,
        "target": str(model.target),
        "torch": torch.__version__,
    }


def gibibytes(count: int) -> str:
    """A number of bytes, as llama-bench gives it."""
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.2f} MiB"


def billions(count: int) -> str:
    """A number of parameters, as llama-bench gives it."""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def _file_type(gguf: GGUFFile) -> str:
    """The mix of types as GGUF names it, or the type of most bytes where the file does not say."""
    from gguf.constants import LlamaFileType

    named = gguf.get("general.file_type", int, None)
    if named in [t.value for t in LlamaFileType]:
        return LlamaFileType(named).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    sizes: dict[str, int] = {}
    for tensor in gguf.tensors.values():
        sizes[str(tensor.type.dtype)] = sizes.get(str(tensor.type.dtype), 0) + tensor.type.nbytes
    return max(sizes, key=lambda name: sizes[name], default="")
