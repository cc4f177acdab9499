"""Fusion by `equals`: each fused op states the expression it replaces.

A match may not create a cycle: no operand of the fused call may depend on a node that the call replaces. Nor may it
hide a value that something else reads, unless the op says that its kernels do without that value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from forge.graph.ir import Graph, Node, Value
from forge.graph.op import Op
from forge.graph.passes.options import Options
from forge.graph.patterns import Match, Rule, matches, rules_of
from forge.graph.rewrite import Group, as_tuple, expand, rebuild

Wanted = Callable[[Match], bool]


def fuse_equals(graph: Graph, options: Options) -> Graph:
    """The graph with every fused op wherever it can be: what would run if its kernels served all sizes.

    Fused calls that the graph has already are expanded before, so that they may become parts of larger ones.
    """
    fused = [op for op in options.ops.values() if op.equals is not None]
    return fuse_all(expand(graph, lambda node: node.op in fused), fused)


def fuse_all(graph: Graph, fused: Iterable[Op], wanted: Wanted = lambda found: True) -> Graph:
    """Apply the rules of these ops, those that replace most first, to the matches that are `wanted`."""
    for rule in sorted((rule for op in fused for rule in rules_of(op)), key=lambda r: -r.size):
        graph = fuse(graph, rule, wanted)
    return graph


def fuse(graph: Graph, rule: Rule, wanted: Wanted = lambda found: True) -> Graph:
    """Apply `rule` wherever it matches, computes nothing twice and stays free of cycles; matches do not overlap.

    Of an op that `repeats`, only the results are replaced: what is within may be part of several matches.
    """
    calls: dict[Op, list[Node]] = {}
    for node in graph.calls():
        calls.setdefault(node.op, []).append(node)  # type: ignore[arg-type]
    readers = _readers(graph)
    taken: dict[Node, Match] = {}
    anchor = rule.roots[0].op
    assert anchor is not None
    for node in calls.get(anchor, []):
        for found in matches(rule, node, lambda op: calls.get(op, [])):
            inside = {v.node for v in found.results} if rule.op.repeats else set(found.nodes.values())
            if inside & taken.keys() or _hides(found, inside, readers) or not wanted(found):
                continue
            if not _cyclic(inside, found, taken):
                taken |= dict.fromkeys(inside, found)
                break
    groups = [_fused(found) for found in dict.fromkeys(taken.values())]
    return rebuild(graph, groups) if groups else graph


def _readers(graph: Graph) -> dict[Value, list[Node | None]]:
    """Which nodes read each value; None stands for the graph's own results."""
    found: dict[Value, list[Node | None]] = {}
    for node in graph.calls():
        for value in node.inputs:
            if value is not None:
                found.setdefault(value, []).append(node)
    for value in graph.roots:
        found.setdefault(value, []).append(None)
    return found


def _hides(found: Match, inside: set[Node], readers: Mapping[Value, list[Node | None]]) -> bool:
    """Whether a value within the match, which is none of its results, is read by something outside."""
    shown = set(found.results)
    hidden: Iterable[Value] = (v for n in inside for v in n.outputs if v not in shown)
    return any(reader not in inside for value in hidden for reader in readers.get(value, []))


def _fused(found: Match) -> Group:
    """The group in which a match becomes one call of the rule's op."""

    def build(new: Graph, operands: tuple[Value | None, ...]) -> tuple[Value, ...]:
        return as_tuple(new.call(found.rule.op, *operands, **found.attrs))

    return Group(found.results, found.operands, build)


def _cyclic(inside: set[Node], found: Match, taken: Mapping[Node, Match]) -> bool:
    """Whether an operand of the fused call depends on a node that the call replaces.

    `taken` are the nodes of matches already accepted: each depends on all that its fused call will depend on.
    """
    floor = min(n.number for n in inside)
    numbers = [[n.number for n in other.nodes.values()] for other in dict.fromkeys(taken.values())]
    for reached in sorted(numbers, key=max, reverse=True):
        if max(reached) < floor:
            break  # it and the rest lie wholly before every node that could lead back
        floor = min(floor, *reached)
    stack = [v.node for v in found.values.values()]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in inside:
            return True
        if node not in seen and node.number >= floor:
            seen.add(node)
            sources = taken[node].values.values() if node in taken else node.inputs
            stack.extend(v.node for v in sources if v is not None)
    return False
