"""The body of a generated function: single assignments, each expression once, unused ones dropped."""

from __future__ import annotations

import re

_TEMPORARY = re.compile(r"\bt\d+\b")
_LENGTH = 100


def _closed(code: str) -> bool:
    """Whether `code` binds tighter than any operator: no operator stands outside its brackets."""
    depth = 0
    for character in code:
        depth += (character in "([") - (character in ")]")
        if depth == 0 and character in " ~-":
            return False
    return True


def _bare(code: str) -> str:
    """`code` without brackets around all of it."""
    while code.startswith("("):
        depth, end = 0, 0
        for end, character in enumerate(code):  # noqa: B007
            depth += (character == "(") - (character == ")")
            if depth == 0:
                break
        if end < len(code) - 1:
            break
        code = code[1:-1]
    return code


class Lines:
    """An append-only list of `t7 = expression`; equal expressions share one name (they have no side effects)."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def let(self, code: str) -> str:
        """A name, or literal, that stands for `code`."""
        if re.fullmatch(r"[\w.]+", code):
            return code
        return self._names.setdefault(code, f"t{len(self._names)}")

    def source(self, name: str, inputs: list[str], results: list[str]) -> str:
        """The function's text; a temporary used once moves into its use, if the line stays short."""
        lines = {target: code for code, target in self._names.items()}
        uses: dict[str, int] = {}
        for target, code in [("", ", ".join(results)), *reversed(lines.items())]:
            if target and target not in uses:
                continue
            for used in _TEMPORARY.findall(code):
                uses[used] = uses.get(used, 0) + 1
        body: list[str] = []
        inlined: dict[str, str] = {}

        def substitute(code: str) -> str:
            return _TEMPORARY.sub(lambda m: inlined.get(m.group(), m.group()), code)

        for target, code in lines.items():
            if target not in uses:
                continue
            code = substitute(code)
            if uses[target] == 1 and len(code) < _LENGTH:
                inlined[target] = code if _closed(code) else f"({code})"
            else:
                body.append(f"    {target} = {_bare(code)}")
        returned = ", ".join(_bare(substitute(result)) for result in results)
        return "\n".join([f"def {name}({', '.join(inputs)}):", *body, f"    return ({returned},)", ""])
