"""What `forge.compile` gives: a model or a graph, compiled for a target; its budget, and where weights come from."""

from __future__ import annotations

from forge.compiled.budget import Budget
from forge.compiled.config import read_model
from forge.compiled.graph import CompiledGraph
from forge.compiled.model import CompiledModel
from forge.compiled.source import GGUFSource

__all__ = ["Budget", "CompiledGraph", "CompiledModel", "GGUFSource", "read_model"]
