"""Faults 4: messages in the shape that OpenAI's clients send are read, or refused; none is pasted as Python's text.

The kind's bound, for templates of every sort below: content as text, in text parts, None or absent; arguments of tool
calls as JSON or objects; roles that the template lacks; keywords that it does not read.
"""

from __future__ import annotations

import json

import pytest
from tokenizer.test_chat import CHATML, LLAMA2, render, tokenizer

from forge.errors import UsageError

pytestmark = pytest.mark.null

PARTS_ONLY = """{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{% if part.type == 'text' %}
{{ part.text }}{% endif %}{% endfor %}{% endfor %}"""
EITHER = """{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}
{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{% endfor %}"""
NO_SYSTEM = """{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}
{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"""
SILENT = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
PASTED = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TEMPLATES = {"pasted": PASTED, "parts": PARTS_ONLY, "either": EITHER, "no system": NO_SYSTEM, "silent": SILENT}

CALLS = """{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for call in m.tool_calls or [] %}
{"name": "{{ call.function.name }}", "arguments": ARGUMENTS}{% endfor %}{% endfor %}"""
OBJECTS = CALLS.replace("ARGUMENTS", "{{ call.function.arguments | tojson }}")
TEXTS = CALLS.replace("ARGUMENTS", "{{ call.function.arguments }}")
ADDED = CALLS.replace("ARGUMENTS", "{{ '' + call.function.arguments }}")
BOTH = CALLS.replace(
    "ARGUMENTS",
    "{% set a = call.function.arguments %}{% if a is string %}{{ a }}{% else %}{{ a | tojson }}{% endif %}",
)
ITEMS = CALLS.replace(
    "ARGUMENTS", "{% for k, v in call.function.arguments.items() %}<{{ k }}>{{ v | tojson }}{% endfor %}"
)
IF_NONE = """{% for m in messages %}{% if m.role == 'assistant' and m.content is none %}{% for call in m.tool_calls %}
{{ call.function.name }}({{ call.function.arguments }}){% endfor %}{% elif m.role == 'assistant' %}{{ m.content }}
{% else %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"""


def user(content):
    return {"role": "user", "content": content}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize("template", [*TEMPLATES.values(), CHATML, LLAMA2])
def test_text_parts_are_their_text(template):
    plain = render(template, [user("one\ntwo é"), {"role": "assistant", "content": "three"}])
    assert "one\ntwo é" in plain and "type" not in plain
    for given in (parts("one", "two é"), tuple(parts("one\ntwo é")), ["one", "two é"], [{"text": "one\ntwo é"}]):
        answer = {"role": "assistant", "content": [{"type": "output_text", "text": "three"}], "refusal": None}
        assert render(template, [user(given), answer]) == plain


@pytest.mark.parametrize("template", TEMPLATES.values())
@pytest.mark.parametrize("content", [{"content": None}, {}, {"content": []}, {"content": ""}])
def test_content_that_is_none_is_no_text(template, content):
    rendered = render(template, [user("a"), {"role": "assistant", **content}, user("b")])
    assert rendered == "<user>a<assistant><user>b"


@pytest.mark.parametrize(
    "content",
    [
        5,
        {"type": "text", "text": "a"},
        b"a",
        [5],
        [{"type": "image_url", "image_url": {"url": "u"}}],
        [{"type": "text"}],
        [{"type": "text", "text": 5}],
        [{"type": 5, "text": "a"}],
        [{"type": ["text"], "text": "a"}],
        [None],
        [[]],
    ],
)
def test_what_is_no_text_is_refused_by_its_place(content):
    with pytest.raises(UsageError, match=r"messages\[1\]\.content") as caught:
        render(PASTED, [user("a"), user(content)])
    assert "text" in caught.value.remedy


ARGUMENTS = {"city": "Zürich", "deep": {"a": [1, None, "x'y\"z"]}}


@pytest.mark.parametrize("template", [OBJECTS, TEXTS, ADDED, BOTH, ITEMS, IF_NONE])
def test_arguments_are_written_once_whatever_they_come_as(template):
    def conversation(arguments, content=None):
        call = {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": arguments}}
        answer = {"role": "assistant", "content": content, "tool_calls": [call], "function_call": None}
        return [user("a"), answer, {"role": "tool", "tool_call_id": "call00001", "content": parts("20 C")}]

    text = json.dumps(ARGUMENTS, ensure_ascii=False)
    rendered = render(template, conversation(text))
    assert rendered == render(template, conversation(ARGUMENTS)) and "weather" in rendered and "None" not in rendered
    assert rendered.endswith("<tool>20 C") and '\\"city' not in rendered
    if template is ITEMS:
        assert '<city>"Zürich"<deep>{"a": [1, null, "x\'y\\"z"]}' in rendered
    else:
        assert text in rendered
    if template is not IF_NONE:
        assert render(template, conversation(text, "")) == rendered
    for empty in (None, "", " ", "{}", {}):
        found = render(template, conversation(empty))
        assert template is ITEMS or "{}" in found


@pytest.mark.parametrize(
    ("calls", "where"),
    [
        (5, "tool_calls is a int"),
        ([5], r"tool_calls\[0\] is a int"),
        ([{"function": {"arguments": "{}"}}], r"tool_calls\[0\]\.function"),
        ([{"function": None}], r"tool_calls\[0\]\.function"),
        ([{"function": {"name": "f", "arguments": "{"}}], r"arguments is no JSON"),
        ([{"function": {"name": "f", "arguments": "[" * 9999}}], r"arguments is no JSON"),
        ([{"function": {"name": "f", "arguments": "[1]"}}], r"arguments is a list"),
        ([{"function": {"name": "f", "arguments": 5}}], r"arguments is a int"),
    ],
)
def test_a_tool_call_that_is_none_is_refused_by_its_place(calls, where):
    with pytest.raises(UsageError, match=rf"(?s)messages\[1\].*{where}"):
        render(OBJECTS, [user("a"), {"role": "assistant", "tool_calls": calls}])
    with pytest.raises(UsageError, match="function_call"):
        render(OBJECTS, [user("a"), {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}])
    assert render(OBJECTS, [user("a"), {"role": "assistant", "tool_calls": []}]) == "<user>a<assistant>"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_is_read_whatever_the_template(role):
    def system(text):
        return {"role": role, "content": text}

    chat = [system("Be brief."), user(parts("a")), {"role": "assistant", "content": "b"}, user("c")]
    for template in (NO_SYSTEM, SILENT):
        assert render(template, chat) == "<user>Be brief.\na<assistant>b<user>c"
        assert render(template, [system("A"), system("B"), user("c")]) == "<user>A\nB\nc"
        assert render(template, [user("a"), system("A")]) == "<user>a<user>A"
    for template in (PASTED, PARTS_ONLY, EITHER):
        assert render(template, chat) == "<system>Be brief.<user>a<assistant>b<user>c"
    own = "{% for m in messages %}{% if m.role == 'developer' %}D{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert render(own, [{"role": "developer", "content": "x"}]) == "D<developer>x"


THINKS = """{% if enable_thinking is defined and enable_thinking is false %}quiet{% else %}loud{% endif %}
{% for m in messages %}{{ m.content }}{% endfor %}"""


def test_variables_of_the_template_are_honoured_and_others_refused():
    assert render(THINKS, [user("")]) == "loud"
    assert render(THINKS, [user("")], enable_thinking=False) == "quiet"
    assert render(THINKS, [user("")], chat_template_kwargs={"enable_thinking": False}) == "quiet"
    assert render("{% set a = a | default(1) %}{{ a }}", [user("")], a=2) == "2"
    assert render("{% if not a is defined %}{% set a = 1 %}{% endif %}{{ a }}", [user("")], a=2) == "2"
    for given in ({"max_tokens": 5}, {"enable_thinkin": False}, {"tools": [{}]}, {"documents": ["d"]}):
        with pytest.raises(UsageError, match=f"{next(iter(given))}= is no variable of the chat template") as caught:
            render(THINKS, [user("")], **given)
        assert "enable_thinking" in caught.value.remedy and "SamplingParams" in caught.value.remedy
        with pytest.raises(UsageError, match=f"{next(iter(given))}= is no variable"):
            render(THINKS, [user("")], chat_template_kwargs=given)


@pytest.mark.parametrize("given", [5, ["a"], {5: 1}, {"messages": []}, {"marker": 1}, {"chat_template_kwargs": {}}])
def test_chat_template_kwargs_that_are_none_are_refused(given):
    with pytest.raises(UsageError, match="chat_template_kwargs"):
        render(THINKS, [user("")], chat_template_kwargs=given)
    with pytest.raises(UsageError, match="given already"):
        render(THINKS, [user("")], chat_template_kwargs={"enable_thinking": 1}, enable_thinking=2)


@pytest.mark.parametrize("given", [{"tools": 5}, {"tools": [5]}, {"add_generation_prompt": "no"}])
def test_options_of_a_chat_that_are_none_are_refused(given):
    with pytest.raises(UsageError, match=next(iter(given))):
        render("{{ tools }}", [user("")], **given)


def test_messages_are_left_as_they_are():
    chat = [user(parts("a")), {"role": "assistant", "content": None, "tool_calls": []}]
    before = json.dumps(chat)
    tokenizer(OBJECTS).apply_chat_template(chat)
    assert json.dumps(chat) == before
