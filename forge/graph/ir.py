"""The op graph: immutable nodes, hash-consed, append-only.

A `Graph` is a list of `Node`s in an order where each comes after its operands. A `Value` is one output of a node.
Calling an op on values appends a node, or returns the node that already stands for the same call: common
subexpressions cannot exist. Nothing is ever changed or removed; a pass builds a new graph.

Leaves are of three kinds: `input` (fed at each step), `weight` (a GGUF tensor, or several stacked along the first
axis) and `state` (memory that outlives the step). A state value is used linearly: an op that writes it consumes it
and returns its next version, and `update` names the version that stands when the step ends.

A graph is built by one thread; once built it may be read by any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forge.errors import GraphError
from forge.graph.types import StateType, Sym, TensorType

if TYPE_CHECKING:
    from forge.graph.op import Op

LEAVES = ("input", "weight", "state")


@dataclass(frozen=True, eq=False)
class Node:
    """One call of an op, or a leaf. `number` is its place in the graph; `names` is empty for a call."""

    graph: Graph
    number: int
    op: Op | None
    kind: str
    names: tuple[str, ...]
    inputs: tuple[Value | None, ...]
    attrs: Mapping[str, Any]
    types: tuple[TensorType, ...]

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(Value(self, i) for i in range(len(self.types)))

    @property
    def label(self) -> str:
        """How messages name this node: `%7 = linear` or `weight blk.0.attn_q.weight`."""
        return f"%{self.number} = {self.op.name}" if self.op else f"{self.kind} {'+'.join(self.names)}"


@dataclass(frozen=True)
class Value:
    """Output `index` of `node`."""

    node: Node
    index: int = 0

    @property
    def type(self) -> TensorType:
        return self.node.types[self.index]

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.type.shape

    def trace(self, op: Op, operands: tuple[Value | None, ...], attrs: Mapping[str, Any]) -> Value | tuple[Value, ...]:
        made: Value | tuple[Value, ...] = self.node.graph.call(op, *operands, **attrs)
        return made

    def __repr__(self) -> str:
        suffix = f".{self.index}" if len(self.node.types) > 1 else ""
        return f"<{self.node.label}{suffix} : {self.type}>"


def types_of(operands: Sequence[Value | None]) -> tuple[TensorType | None, ...]:
    """The types of operands, None for one that is absent."""
    return tuple(None if v is None else v.type for v in operands)


@dataclass
class Graph:
    """An op graph under construction, or complete. See the module's docstring for the rules."""

    name: str = "graph"
    nodes: list[Node] = field(default_factory=list)
    outputs: dict[str, Value] = field(default_factory=dict)
    updates: dict[str, Value] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], Node] = field(default_factory=dict, repr=False)
    _leaves: dict[tuple[str, tuple[str, ...]], Node] = field(default_factory=dict, repr=False)

    def input(self, name: str, type: TensorType) -> Value:
        """A tensor fed at each step."""
        return self._leaf("input", (name,), type)

    def weight(self, name: str | tuple[str, ...], type: TensorType) -> Value:
        """A tensor of the model file; several names are stacked along the first axis."""
        return self._leaf("weight", (name,) if isinstance(name, str) else name, type)

    def state(self, name: str, type: StateType) -> Value:
        """Memory that outlives the step, in the version that stands when the step begins."""
        return self._leaf("state", (name,), type)

    def call(self, op: Op, *operands: Value | None, **attrs: Any) -> Any:
        """Append `op(*operands, **attrs)`: its type rule runs here. Returns a value, or a tuple of them."""
        operands, attrs = op.bind(operands, attrs)
        for value in operands:
            if value is not None and value.node.graph is not self:
                raise GraphError(f"{op.name}: operand {value!r} belongs to another graph, '{value.node.graph.name}'")
        key = (op.name, tuple(v and (v.node.number, v.index) for v in operands), tuple(sorted(attrs.items())))
        node = self._known.get(key)
        if node is None:
            types = op.infer(types_of(operands), attrs)
            node = self._append(op, "call", (), operands, attrs, types)
            self._known[key] = node
        return node.outputs[0] if len(node.types) == 1 else node.outputs

    def output(self, name: str, value: Value) -> None:
        """Name a result of the graph."""
        self.outputs[name] = value

    def update(self, state: str, value: Value) -> None:
        """`value` is the version of `state` that stands when the step ends."""
        self.updates[state] = value

    def leaves(self, kind: str) -> Iterator[Node]:
        return (n for n in self.nodes if n.kind == kind)

    def calls(self) -> Iterator[Node]:
        return (n for n in self.nodes if n.op is not None)

    @property
    def roots(self) -> list[Value]:
        return [*self.outputs.values(), *self.updates.values()]

    @property
    def symbols(self) -> dict[str, Sym]:
        """Every symbolic dimension of the graph by name."""
        found: dict[str, Sym] = {}
        for node in self.nodes:
            for type in node.types:
                for sym in type.symbols:
                    if found.setdefault(sym.name, sym) != sym:
                        raise GraphError(f"the dimension {sym.name} has two bounds: {found[sym.name].max}, {sym.max}")
        return found

    def users(self) -> dict[Node, list[Node]]:
        """For each node, the nodes that use one of its values."""
        out: dict[Node, list[Node]] = {n: [] for n in self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(v.node for v in node.inputs if v is not None):
                out[source].append(node)
        return out

    def _leaf(self, kind: str, names: tuple[str, ...], type: TensorType) -> Value:
        if isinstance(type, StateType) != (kind == "state"):
            raise GraphError(f"{kind} {'+'.join(names)} cannot have the type {type}")
        node = self._leaves.get((kind, names))
        if node is None:
            node = self._append(None, kind, names, (), {}, (type,))
            self._leaves[kind, names] = node
        elif node.types != (type,):
            raise GraphError(f"{node.label} is declared twice, as {node.types[0]} and as {type}")
        return node.outputs[0]

    def _append(self, op: Op | None, kind: str, names: Any, inputs: Any, attrs: Any, types: Any) -> Node:
        node = Node(self, len(self.nodes), op, kind, names, inputs, attrs, types)
        self.nodes.append(node)
        return node

    def __str__(self) -> str:
        from forge.graph.text import print_graph

        return print_graph(self)
