"""Faults 13: a chat template that escapes, takes too much or fails is a TokenizerError, whatever it does it with.

The bound, by kind: a render takes a second of the processor and 128 MB at most (more for large conversations only), in
methods, filters, globals, operators, blocks and the compiler alike, and none of it in this process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tokenizer.test_chat import CHATML, HI, render, tokenizer

from forge.errors import TokenizerError, UsageError
from forge.tokenizer.renderer import Renderer

pytestmark = pytest.mark.null

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
BLOCKS = "".join(
    f"{{% block b{i} %}}{{{{ self.b{i + 1}() }}}}{{{{ self.b{i + 1}() }}}}{{% endblock %}}" for i in range(40)
)
DOUBLE = "{% set ns = namespace(s='x' * 64) %}{% for i in range(60) %}{% set ns.s = ns.s OP ns.s %}{% endfor %}"
NESTED = "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
RUNS_ON = {
    "a loop in a loop": LOOPS,
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "blocks": BLOCKS + "{% block b40 %}{% endblock %}",
    "repeated squaring": "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "a power": "{{ 9 ** 99999999 }}",
    "a filter's power": "{{ 5 | round(100000000, 'ceil') }}",
    "a global": "{{ lipsum(n=10000000) }}",
    "a sum of lists": "{{ ([[1, 2]] * 1000000) | sum(start=[]) | length }}",
    "the compiler": "{{ 1 }}" * 200_000,
}
TAKES_MEMORY = {
    "a method": "{{ 'a'.center(2000000000) }}",
    "a filter": "{{ 'a' | center(2000000000) }}",
    "a format": "{{ '%2000000000d' % 5 }}{{ '{:>2000000000}'.format(5) }}",
    "a number": "{{ (5).to_bytes(2000000000, 'big') | length }}",
    "replacing": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "joining": "{{ (['a'] * 100000) | join('b' * 100000) }}",
    "tabs": "{{ ('\t' * 100000).expandtabs(100000) }}",
    "an operator": "{{ 'x' * 10000000000 }}",
    "a list": "{{ [0] * 10000000000 }}",
    "adding": DOUBLE.replace("OP", "+"),
    "concatenating": DOUBLE.replace("OP", "~"),
    "nested lists": NESTED + "{{ ns.s }}",
    "nested JSON": NESTED + "{{ ns.s | tojson }}",
    "what it prints": "{% for i in range(99999) %}{{ 'a' * 100000 }}{% endfor %}",
}
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ (messages | attr('__class__')).__name__ }}",
    "{{ raise_exception.__globals__['os'].system('true') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ self._TemplateReference__context.parent }}{{ self.__init__() }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='system') }}",
]
FAILS = [
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ messages[0].content.x.y }}",
    "{{ 1 / 0 }}",
    "{{ 'a' + 1 }}",
    "{{ 5 | dictsort }}",
    "{% include 'other' %}",
    "{% for %}",
    "{{ unclosed",
    "{% if x %}" * 200 + "{% endif %}" * 200,
    "{{ " + "(" * 5000 + ")" * 5000 + " }}",
]


@pytest.mark.parametrize("template", ESCAPES + FAILS)
def test_a_template_that_escapes_or_fails_is_an_error(template):
    with pytest.raises(TokenizerError, match="the chat template failed"):
        render(template)
    assert HI == [{"role": "user", "content": " hi "}]


@pytest.mark.parametrize("template", (RUNS_ON | TAKES_MEMORY).values(), ids=(RUNS_ON | TAKES_MEMORY).keys())
def test_a_template_that_takes_too_much_is_an_error(template):
    """Of either kind: which bound is met first is the machine's affair."""
    tok = tokenizer(template)
    taken = time.process_time()
    with pytest.raises(TokenizerError, match=r"the chat template failed: (it ran for too long|\w+: )"):
        tok.apply_chat_template(HI)
    assert time.process_time() - taken < 1, "this process has spent nothing on it"


def test_after_a_template_was_ended_the_next_render_works():
    renderer = Renderer()
    for source in (LOOPS, TAKES_MEMORY["a method"]):
        with pytest.raises(TokenizerError):
            renderer.render(source, {})
        assert renderer.render("{{ a }}", {"a": 5}) == "5"


def test_a_compiled_template_is_kept():
    """A turn of a chat renders; it does not compile again."""
    tok = tokenizer(CHATML * 60)
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        tok.apply_chat_template(HI)
        times.append(time.perf_counter() - begun)
    assert min(times[1:]) < times[0] / 4


def test_a_large_conversation_has_the_room_it_needs():
    chat = [{"role": "user", "content": "wörd 🙂 " * 1000}] * 1000
    assert len(render(CHATML, chat)) > 6_000_000


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_the_process_ends_with_the_tokenizer():
    before = children()
    tok = tokenizer("{{ messages | length }}")
    assert tok.apply_chat_template(HI) == "1"
    assert len(children() - before) == 1
    del tok
    assert not children() - before


def test_a_fork_renders_by_itself():
    tok = tokenizer("{{ messages | length }}")
    assert tok.apply_chat_template(HI) == "1"
    pid = os.fork()
    if not pid:
        os._exit(0 if tok.apply_chat_template(HI) == "1" else 1)
    assert os.waitpid(pid, 0)[1] == 0 and tok.apply_chat_template(HI) == "1"


def test_what_is_no_data_is_refused():
    with pytest.raises(UsageError, match="no data"):
        render("{{ given }}", given=lambda: 5)
