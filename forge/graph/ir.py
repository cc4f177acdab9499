"""The op graph: immutable nodes, hash-consed, append-only.

A `Graph` is a list of `Node`s in an order where each comes after its operands. A `Value` is one output of a node.
Calling an op on values appends a node, or returns the node that already stands for the same call: common
subexpressions cannot exist. Nothing is ever changed or removed; a pass builds a new graph.

Leaves are of four kinds: `input` (fed at each step), `weight` (parts of a model file's tensors, stacked), `constant`
(a small table of numbers that belongs to the graph) and `state` (memory that outlives the step). A state value is
used linearly: an op that writes it consumes it and returns its next version, and `update` names the version that
stands when the step ends.

A graph is built by one thread; once built it may be read by any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from forge.errors import GraphError
from forge.graph.equals import Traceable
from forge.graph.leaves import Leaf, Part, numbers_of, parts_of, quoted
from forge.graph.op import Op
from forge.graph.parameters import exact
from forge.graph.types import StateType, Sym, TensorType


@dataclass(frozen=True, eq=False)
class Node:
    """One call of `op`, or a `leaf`; the other is None. `number` is its place in the graph."""

    graph: Graph
    number: int
    op: Op | None
    leaf: Leaf | None
    inputs: tuple[Value | None, ...]
    attrs: Mapping[str, Any]
    types: tuple[TensorType, ...]

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(Value(self, i) for i in range(len(self.types)))

    @property
    def kind(self) -> str:
        """What kind of leaf it is, or "call"."""
        return self.leaf.kind if self.leaf else "call"

    @property
    def name(self) -> str:
        """A leaf's name."""
        assert self.leaf is not None, f"{self.label} is no leaf"
        return self.leaf.name

    @property
    def parts(self) -> tuple[Part, ...]:
        """What a weight is made of."""
        assert self.leaf is not None and self.leaf.kind == "weight", f"{self.label} is no weight"
        return self.leaf.parts

    @property
    def label(self) -> str:
        """How messages name this node: `%7 = linear` or `weight blk.0.attn_q.weight`."""
        return f"%{self.number} = {self.op.name}" if self.op else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Value(Traceable):
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

    @property
    def reference(self) -> str:
        """How the graph's text names this value: `%7`, or `%7.1` where the node has several."""
        return f"%{self.node.number}" + (f".{self.index}" if len(self.node.types) > 1 else "")

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
    _calls: dict[tuple[Any, ...], Node] = field(default_factory=dict, repr=False)
    _leaves: dict[tuple[Any, ...], Node] = field(default_factory=dict, repr=False)

    def input(self, name: str, type: TensorType) -> Value:
        """A tensor fed at each step."""
        return self.leaf(Leaf("input", name), type)

    def weight(self, parts: str | Part | Sequence[str | Part], type: TensorType, *, axis: int = 0) -> Value:
        """A tensor of the model file by name, or parts of several, stacked along `axis`; `type` is the whole's."""
        found = parts_of(parts)
        if isinstance(axis, bool) or axis not in range(max(type.rank, 1)):
            raise GraphError(f"a weight of {type} cannot be stacked along the axis {axis!r}")
        return self.leaf(Leaf("weight", "+".join(map(str, found)), parts=found, axis=axis), type)

    def constant(self, name: str, type: TensorType, values: Sequence[int | float]) -> Value:
        """A small table: the numbers of a tensor of `type`, row after row.

        Raises GraphError if there are more or fewer numbers than elements, or if one cannot be an element.
        """
        if type.dtype.quantized or type.numel != len(values):
            raise GraphError(f"constant {name} of {type} cannot hold {len(values)} numbers")
        return self.leaf(Leaf("constant", name, values=numbers_of(name, type.dtype, values)), type)

    def state(self, name: str, type: StateType) -> Value:
        """Memory that outlives the step, in the version that stands when the step begins."""
        return self.leaf(Leaf("state", name), type)

    def leaf(self, leaf: Leaf, type: TensorType) -> Value:
        """The node of a leaf, made on first use. Raises GraphError if it stands here with another type or content."""
        if isinstance(type, StateType) != (leaf.kind == "state"):
            raise GraphError(f"{leaf.kind} {leaf.name} cannot have the type {type}")
        key = (leaf.kind, leaf.name, leaf.axis)
        node = self._leaves.get(key)
        if node is None:
            node = self._leaves[key] = self._append(None, leaf, (), {}, (type,))
        elif node.types != (type,):
            raise GraphError(f"{node.label} is declared twice, as {node.types[0]} and as {type}")
        elif repr(node.leaf) != repr(leaf):  # by repr, as a NaN is not equal to itself
            raise GraphError(f"{node.label} is declared twice, with different contents")
        return node.outputs[0]

    def call(self, op: Op, *operands: Value | None, **attrs: Any) -> Any:
        """Append `op(*operands, **attrs)`: its type rule runs here. Returns a value, or a tuple of them."""
        operands, attrs = op.bind(operands, attrs)
        for value in operands:
            if value is not None and not isinstance(value, Value):
                raise GraphError(f"{op.name}: an operand is {value!r:.80}, no value of a graph")
            if value is not None and value.node.graph is not self:
                raise GraphError(f"{op.name}: operand {value!r} belongs to another graph, '{value.node.graph.name}'")
        key = (op, tuple(v and (v.node.number, v.index) for v in operands), exact(op.name, attrs))
        node = self._calls.get(key)
        if node is None:
            types = op.infer(types_of(operands), attrs)
            node = self._calls[key] = self._append(op, None, operands, attrs, types)
        return node.outputs[0] if len(node.types) == 1 else node.outputs

    def output(self, name: str, value: Value) -> None:
        """Name a result of the graph."""
        if not isinstance(value, Value):
            raise GraphError(f"output {name} is {value!r:.80}, no value of a graph")
        if self.outputs.setdefault(name, value) != value:
            raise GraphError(f"output {name} is named twice, as {self.outputs[name]!r} and as {value!r}")

    def update(self, state: str, value: Value) -> None:
        """`value` is the version of `state` that stands when the step ends."""
        if not isinstance(value, Value):
            raise GraphError(f"update of {state} is {value!r:.80}, no value of a graph")
        self.updates[state] = value

    def leaves(self, kind: str) -> Iterator[Node]:
        return (n for n in self.nodes if n.kind == kind)

    def states(self, kind: str) -> Iterator[Node]:
        """The leaves that are state of one kind: "pages" or "sequence"."""
        return (n for n in self.leaves("state") if isinstance(n.types[0], StateType) and n.types[0].kind == kind)

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

    def retyped(self, types: Mapping[TensorType, TensorType]) -> Graph:
        """The same graph, node for node, with these types replaced wherever they stand; no type rule is asked.

        For a type whose change changes no other: of memory that the calls of a graph hand on as it is.
        """
        new = Graph(self.name)
        for node in self.nodes:
            inputs = tuple(v and Value(new.nodes[v.node.number], v.index) for v in node.inputs)
            new._append(node.op, node.leaf, inputs, node.attrs, tuple(types.get(t, t) for t in node.types))
        new._calls = {key: new.nodes[node.number] for key, node in self._calls.items()}
        new._leaves = {key: new.nodes[node.number] for key, node in self._leaves.items()}
        new.outputs = {name: Value(new.nodes[v.node.number], v.index) for name, v in self.outputs.items()}
        new.updates = {name: Value(new.nodes[v.node.number], v.index) for name, v in self.updates.items()}
        return new

    def users(self) -> dict[Node, list[Node]]:
        """For each node, the nodes that use one of its values."""
        out: dict[Node, list[Node]] = {n: [] for n in self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(v.node for v in node.inputs if v is not None):
                out[source].append(node)
        return out

    def _append(self, op: Op | None, leaf: Leaf | None, inputs: Any, attrs: Any, types: Any) -> Node:
        node = Node(self, len(self.nodes), op, leaf, inputs, attrs, types)
        self.nodes.append(node)
        return node

    def __str__(self) -> str:
        """The graph's text, one node a line; `forge.graph.text` reads it."""
        bounds = ", ".join(f"{s.name}<={s.max}" for s in self.symbols.values())
        name = self.name if self.name.isidentifier() else quoted(self.name)
        lines = [f"graph {name} ({bounds})"]
        for node in self.nodes:
            lines.append(f"%{node.number} = {_text_of(node)} : {', '.join(map(str, node.types))}")
        lines += [f"output {quoted(n)} = {v.reference}" for n, v in self.outputs.items()]
        lines += [f"update {quoted(n)} = {v.reference}" for n, v in self.updates.items()]
        return "\n".join(lines) + "\n"


def _text_of(node: Node) -> str:
    if node.leaf is not None:
        return str(node.leaf)
    assert node.op is not None
    arguments = ["_" if v is None else v.reference for v in node.inputs]
    arguments += [f"{k}={quoted(v) if isinstance(v, str) else repr(v)}" for k, v in node.attrs.items()]
    return f"{node.op.name}({', '.join(arguments)})"
