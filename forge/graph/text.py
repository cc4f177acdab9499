"""A graph as text, and back. `parse_graph(print_graph(g))` prints the same: goldens and bug reports use this form.

graph tiny (T<=512, S<=8)
%0 = input "tokens" : i32[T]
%1 = weight "token_embd.weight" : q6_K[8192,512]
%2 = state "kv.0" : state f16[2,64,4,16,64]
%3 = embed(%0, %1, out="f32") : f32[T,512]
%4 = add_rms_norm(%3, %9, %10, eps=1e-05, out="f16") : f32[T,512], f16[T,512]
output "logits" = %4.1
update "kv.0" = %5
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from forge.errors import FileFormatError, GraphError
from forge.graph.ir import LEAVES, Graph, Value
from forge.graph.op import Op
from forge.graph.types import StateType, Sym, TensorType, dtype


def print_graph(graph: Graph) -> str:
    """The graph's text, one node a line."""
    bounds = ", ".join(f"{s.name}<={s.max}" for s in graph.symbols.values())
    lines = [f"graph {graph.name} ({bounds})"]
    for node in graph.nodes:
        types = ", ".join(map(str, node.types))
        if node.op is None:
            what = f"{node.kind} " + " ".join(_quote(n) for n in node.names)
        else:
            parts = ["_" if v is None else _reference(v) for v in node.inputs]
            parts += [f"{k}={_attr(v)}" for k, v in node.attrs.items()]
            what = f"{node.op.name}({', '.join(parts)})"
        lines.append(f"%{node.number} = {what} : {types}")
    lines += [f"output {_quote(n)} = {_reference(v)}" for n, v in graph.outputs.items()]
    lines += [f"update {_quote(n)} = {_reference(v)}" for n, v in graph.updates.items()]
    return "\n".join(lines) + "\n"


def _reference(value: Value) -> str:
    return f"%{value.node.number}" + (f".{value.index}" if len(value.node.types) > 1 else "")


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _attr(value: Any) -> str:
    return _quote(value) if isinstance(value, str) else repr(value)


_NODE = re.compile(r"%(\d+) = (.+) : ([^:]+)$")
_ROOT = re.compile(r'(output|update) "((?:[^"\\]|\\.)*)" = (%\S+)$')
_TYPE = re.compile(r"(state )?(\w+)\[([^\]]*)\]")
_HEADER = re.compile(r"graph (\S+) \((.*)\)$")


def parse_graph(text: str, ops: Mapping[str, Op]) -> Graph:
    """The graph that `text` describes; `ops` gives the ops by name. Raises FileFormatError that names the line."""
    lines = text.strip().splitlines()
    header = _HEADER.match(lines[0]) if lines else None
    if header is None:
        raise FileFormatError("the text of a graph begins with `graph name (symbols)`", where="line 1")
    bounds = (item.split("<=") for item in header[2].split(", ") if item)
    parser = _Parser(Graph(header[1]), ops, {name: Sym(name, int(bound)) for name, bound in bounds})
    for number, line in enumerate(lines[1:], 2):
        try:
            parser.line(line.strip())
        except (GraphError, KeyError, ValueError, SyntaxError) as error:
            raise FileFormatError(f"{line.strip()!r}: {error}", where=f"line {number}") from error
    return parser.graph


class _Parser:
    """Reads line after line into `graph`; `values` maps the text's references to the values they became."""

    def __init__(self, graph: Graph, ops: Mapping[str, Op], symbols: Mapping[str, Sym]) -> None:
        self.graph, self.ops, self.symbols = graph, ops, symbols
        self.values: dict[str, Value] = {}

    def line(self, line: str) -> None:
        if not line:
            return
        if root := _ROOT.match(line):
            name = ast.literal_eval(f'"{root[2]}"')
            (self.graph.output if root[1] == "output" else self.graph.update)(name, self.values[root[3]])
            return
        node = _NODE.match(line)
        if node is None:
            raise ValueError("neither a node nor an output")
        types = tuple(self.type(m) for m in _TYPE.finditer(node[3]))
        kind = node[2].split(" ", 1)[0]
        made = self.leaf(kind, node[2], types[0]) if kind in LEAVES else self.call(node[2])
        results = made if isinstance(made, tuple) else (made,)
        if tuple(v.type for v in results) != types:
            raise ValueError(f"the op gives {', '.join(str(v.type) for v in results)}")
        for index, value in enumerate(results):
            self.values[f"%{node[1]}" + (f".{index}" if len(results) > 1 else "")] = value

    def type(self, match: re.Match[str]) -> TensorType:
        shape = tuple(self.symbols[d] if d in self.symbols else int(d) for d in match[3].split(",") if d)
        return (StateType if match[1] else TensorType)(shape, dtype(match[2]))

    def leaf(self, kind: str, text: str, type: TensorType) -> Value:
        names = ast.literal_eval("(" + ", ".join(re.findall(r'"(?:[^"\\]|\\.)*"', text)) + ",)")
        if kind == "weight":
            return self.graph.weight(names, type)
        return self.graph.input(names[0], type) if kind == "input" else self.graph.state(names[0], type)  # type: ignore[arg-type]

    def call(self, text: str) -> Any:
        name, arguments = text[:-1].split("(", 1)
        if name not in self.ops:
            raise ValueError(f"no op is called {name}")
        tree = ast.parse(re.sub(r"%(\d+)(?:\.(\d+))?", r"v_\1_\2", f"f({arguments})"), mode="eval").body
        assert isinstance(tree, ast.Call)
        operands = [None if _name(a) == "_" else self.values[_operand(_name(a))] for a in tree.args]
        attrs = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
        return self.graph.call(self.ops[name], *operands, **attrs)


def _name(node: ast.expr) -> str:
    if not isinstance(node, ast.Name):
        raise ValueError("an operand is %number, %number.index or _")
    return node.id


def _operand(name: str) -> str:
    _, number, index = name.split("_")
    return f"%{number}" + (f".{index}" if index else "")
