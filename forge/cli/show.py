"""Show what is in a model file and what it takes to run: metadata, tensors, hyperparameters, memory."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from forge.cli import options
from forge.cli.run import error_json
from forge.cli.terminal import emit, emit_json, emit_table, megabytes
from forge.errors import ForgeError

if TYPE_CHECKING:
    from forge.compiled import CompiledModel
    from forge.gguf import GGUFFile

SUMMARY = "metadata, tensors and memory plan of a model file"
SHOWN_ITEMS, SHOWN_CHARS = 6, 100  # of a metadata array, and of a text


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    options.add_compile_flags(parser)
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Exits with 0 once the file could be read: that it cannot run here is part of what is shown."""
    from forge.gguf import GGUFFile

    with GGUFFile.open(options.model_path(args)) as gguf:
        found = describe(args, gguf)
        if args.json:
            emit_json(found)
        else:
            _print(found, args.tensors)
    return 0


def describe(args: argparse.Namespace, gguf: GGUFFile) -> dict[str, Any]:
    """All that is shown, as JSON values."""
    from forge.tokenizer import Tokenizer

    types: dict[str, dict[str, int]] = {}
    for tensor in sorted(gguf.tensors.values(), key=lambda t: str(t.type.dtype)):
        row = types.setdefault(str(tensor.type.dtype), {"tensors": 0, "parameters": 0, "bytes": 0})
        row["tensors"] += 1
        row["parameters"] += tensor.type.numel
        row["bytes"] += tensor.type.nbytes
    found = {
        "path": str(gguf.path),
        "metadata": {key: abbreviated(value) for key, value in gguf.metadata.items()},
        "parameters": sum(t["parameters"] for t in types.values()),
        "bytes": sum(t["bytes"] for t in types.values()),
        "types": types,
        "tensors": {t.name: str(t.type) for t in gguf.tensors.values()},
    }
    try:
        Tokenizer.from_gguf(gguf)  # as `forge run` does: a file that it refuses or warns of is so here too
        return found | _compiled(options.open_compiled(args, gguf))
    except ForgeError as error:
        if error.exit_code == 2:  # flags out of range are no news about the file
            raise
        return found | {"hyperparameters": None, "memory": None, "error": error_json(error)}


def _compiled(model: CompiledModel) -> dict[str, Any]:
    hyper = {"architecture": model.model.name, "vocab": model.model.vocab, "context": model.model.context}
    budget, limits = model.budget, model.limits
    memory = {
        "target": str(model.target),
        "context": model.context_length,
        **budget.parts,
        "total": budget.total,
        "free": budget.free,
        "page_size": limits.page_size,
        "num_pages": limits.num_pages,
        "full_contexts": limits.num_pages // limits.pages_per_seq,
        "max_seqs": limits.max_seqs,
        "max_tokens": limits.max_tokens,
    }
    return {"hyperparameters": hyper | asdict(model.config), "memory": memory, "error": None}


def abbreviated(value: Any) -> Any:
    """A metadata value short enough to show: of a long array its length and its first items."""
    if isinstance(value, str):
        return value if len(value) <= SHOWN_CHARS else f"{value[:SHOWN_CHARS]}... ({len(value):,} characters)"
    if isinstance(value, (bool, int, float)):
        return value
    first = value[:SHOWN_ITEMS]
    items = [abbreviated(v) for v in (first.tolist() if hasattr(first, "tolist") else first)]
    return items if len(value) <= SHOWN_ITEMS else {"length": len(value), "first": items}


def _print(found: dict[str, Any], every_tensor: bool) -> None:
    emit(found["path"])
    emit_table(("key", "value"), [(k, _shown(v)) for k, v in found["metadata"].items()], "\nMetadata")
    rows = [(n, f"{t['tensors']:,}", f"{t['parameters']:,}", megabytes(t["bytes"])) for n, t in found["types"].items()]
    count = sum(t["tensors"] for t in found["types"].values())
    rows.append(("all", f"{count:,}", f"{found['parameters']:,}", megabytes(found["bytes"])))
    emit_table(("type", ">tensors", ">parameters", ">size"), rows, "\nTensors")
    if every_tensor:
        emit_table(("tensor", "type"), list(found["tensors"].items()), "\nEvery tensor")
    if found["error"] is not None:
        emit(f"\nIt cannot run here: {found['error']['what']}")
        if found["error"]["remedy"]:
            emit(f"  try: {found['error']['remedy']}")
        return
    hyper = found["hyperparameters"]
    emit_table(("key", "value"), [(k, _shown(v)) for k, v in hyper.items()], "\nHyperparameters")
    _print_memory(found["memory"])


def _print_memory(memory: dict[str, Any]) -> None:
    from forge.compiled.budget import named

    rows = named(memory) | {"total": memory["total"], "free on the device": memory["free"]}
    title = f"\nMemory on {memory['target']} at a context of {memory['context']:,} tokens"
    emit_table(("part", ">size"), [(n, megabytes(size)) for n, size in rows.items()], title)
    emit(
        f"{memory['num_pages']:,} pages of {memory['page_size']} tokens hold {memory['full_contexts']} full contexts; "
        f"a step takes {memory['max_tokens']:,} tokens of {memory['max_seqs']} sequences"
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "first" in value:
        return f"{value['length']:,} items: {', '.join(map(str, value['first']))}, ..."
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
