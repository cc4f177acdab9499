"""Reading the text of a graph, as `str(graph)` writes it: the form of goldens and of bug reports.

    graph example (T<=64)
    %0 = input "x" : f32[T,512]
    %1 = weight "blk.0.attn_qkv.weight"[0:512] : q4_K[512,512]
    %2 = constant "scales" (0.5, 2.0) : f32[2]
    %3 = state "kv.0" : state f16[2,64,4,16,64]
    %4 = linear(%0, %1, _, out="f16") : f16[T,512]
    output "y" = %4

`_` is an operand that is absent, and `%7.1` the second result of a call that has several.
A graph's name that is no identifier stands between quotes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from forge.errors import FileFormatError, GraphError
from forge.graph.ir import Graph, Value
from forge.graph.leaves import KINDS, Leaf, Part, parts_of
from forge.graph.op import Op
from forge.graph.types import STATE_KINDS, StateType, Sym, TensorType, dtype

_STRING = r'"(?:[^"\\]|\\.)*"'
_PART = re.compile(rf"({_STRING})(?:\[((?:\:, )*)(\d+):(\d*)\])?")
_NODE = re.compile(r"%(\d+) = (.+) : ([^:]+)$")
_ROOT = re.compile(r'(output|update) "((?:[^"\\]|\\.)*)" = (%\S+)$')
_TYPE = re.compile(rf"(state )?(?:({'|'.join(STATE_KINDS)}) )?(\w+)\[([^\]]*)\]")
_HEADER = re.compile(rf"graph ({_STRING}|[^\s\"]+) \((.*)\)$")
_REFERENCE = re.compile(rf"({_STRING}|'(?:[^'\\]|\\.)*')|%(\d+)(?:\.(\d+))?")


def parse_graph(text: str, ops: Mapping[str, Op]) -> Graph:
    """The graph that `text` describes; `ops` gives the ops by name. Raises FileFormatError that names the line."""
    lines = text.strip().splitlines()
    header = _HEADER.match(lines[0]) if lines else None
    if header is None:
        raise FileFormatError("the text of a graph begins with `graph name (symbols)`", where="line 1")
    try:
        bounds = [item.split("<=") for item in header[2].split(", ") if item]
        name = ast.literal_eval(header[1]) if header[1].startswith('"') else header[1]
        parser = _Parser(Graph(name), ops, {name: Sym(name, int(bound)) for name, bound in bounds})
    except (GraphError, ValueError, SyntaxError) as error:
        raise FileFormatError(f"{lines[0]!r}: {error}", where="line 1") from error
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
        made = self.leaf(kind, node[2], types[0]) if kind in KINDS else self.call(node[2])
        results = made if isinstance(made, tuple) else (made,)
        if tuple(v.type for v in results) != types:
            raise ValueError(f"the op gives {', '.join(str(v.type) for v in results)}")
        for index, value in enumerate(results):
            self.values[f"%{node[1]}" + (f".{index}" if len(results) > 1 else "")] = value

    def type(self, match: re.Match[str]) -> TensorType:
        shape = tuple(self.symbols[d] if d in self.symbols else int(d) for d in match[4].split(",") if d)
        if match[1]:
            return StateType(shape, dtype(match[3]), match[2] or "pages")
        return TensorType(shape, dtype(match[3]))

    def leaf(self, kind: str, text: str, type: TensorType) -> Value:
        first = re.match(rf"{kind} ({_STRING})", text)
        if first is None:
            raise ValueError(f"{kind} needs a name between quotes")
        name = ast.literal_eval(first[1])
        if kind == "weight":
            parts = parts_of([_part(m) for m in _PART.finditer(text)])
            axis = re.search(r" axis=(\d+)$", text)
            return self.graph.weight(parts, type, axis=int(axis[1]) if axis else 0)
        if kind == "constant":
            inside = text[first.end() :].strip().removeprefix("(").removesuffix(")")
            number = float if type.dtype.floating else int
            return self.graph.constant(name, type, [number(v) for v in inside.split(",") if v.strip()])
        return self.graph.leaf(Leaf(kind, name), type)

    def call(self, text: str) -> Any:
        name, arguments = text[:-1].split("(", 1)
        if name not in self.ops:
            raise ValueError(f"no op is called {name}")
        tree = ast.parse(_REFERENCE.sub(_named, f"f({arguments})"), mode="eval").body
        assert isinstance(tree, ast.Call)
        operands = [None if _name(a) == "_" else self.values[_operand(_name(a))] for a in tree.args]
        attrs = {str(k.arg): _literal(k.value) for k in tree.keywords}
        return self.graph.call(self.ops[name], *operands, **attrs)


def _part(match: re.Match[str]) -> Part:
    name, axes, start, stop = match.groups()
    return Part(ast.literal_eval(name), len(axes or "") // 3, int(start or 0), int(stop) if stop else None)


def _literal(node: ast.expr) -> Any:
    """An attribute's value: a Python literal, a float that has none, or a tuple of such."""
    if isinstance(node, ast.Tuple):
        return tuple(_literal(element) for element in node.elts)
    text = ast.unparse(node)
    return float(text) if text in ("inf", "-inf", "nan") else ast.literal_eval(node)


def _named(match: re.Match[str]) -> str:
    """A reference as a name that Python can parse; a string as it is."""
    return match[1] or f"v_{match[2]}_{match[3] or ''}"


def _name(node: ast.expr) -> str:
    if not isinstance(node, ast.Name):
        raise ValueError("an operand is %number, %number.index or _")
    return node.id


def _operand(name: str) -> str:
    _, number, index = name.split("_")
    return f"%{number}" + (f".{index}" if index else "")
