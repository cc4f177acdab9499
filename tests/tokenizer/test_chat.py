"""Chat templates render as their authors meant."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from tokenizer.vocabularies import of_metadata, tiny_code, tiny_metadata

from forge.errors import FileFormatError, TokenizerError, UsageError

pytestmark = pytest.mark.null

CHATML = """{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' ~ message.role + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
LLAMA2 = """{{ bos_token }}{% for m in messages %}
    {% if m.role not in ['user', 'assistant'] %}{{ raise_exception('only users and assistants') }}{% endif %}
    {% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}
{% endfor %}"""
HI = [{"role": "user", "content": " hi "}]


def tokenizer(template: str | None = None, **named: str):
    templates = {f"tokenizer__chat_template{f'.{n}' if n else ''}": t for n, t in ({"": template} | named).items()}
    return of_metadata(tiny_metadata(**templates))


def render(template: str, messages=HI, **variables):
    return tokenizer(template).apply_chat_template(messages, **variables)


def test_chatml():
    system = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    assert render(CHATML) == system + "<|im_start|>assistant\n"
    assert render(CHATML, add_generation_prompt=False) == system
    assert tokenizer(CHATML).chat_template == CHATML


def test_tokens_and_trimmed_blocks():
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    # trim_blocks takes the newline after a block, lstrip_blocks the indentation before it.
    assert render(LLAMA2, chat) == "<|bos|>[INST] a [/INST] b <|eos|>[INST] c [/INST]"


def test_a_rendered_prompt_gets_one_bos():
    for template in (LLAMA2, CHATML):
        tok = tokenizer(template)
        ids = tok.encode_prompt(tok.apply_chat_template(HI))
        assert ids[0] == tok.bos_id and ids.count(tok.bos_id) == 1


def test_what_the_template_raises_is_told():
    with pytest.raises(TokenizerError, match="only users and assistants"):
        render(LLAMA2, [{"role": "tool", "content": "x"}])


def test_functions_and_extensions():
    tools = [{"name": "f<1>", "text": "é & 'q'", "b": 1, "a": [1.5, None, True]}]
    assert render("{{ tools | tojson }}", tools=tools) == json.dumps(tools, ensure_ascii=False)
    assert render("{{ tools[0] | tojson(indent=2) }}", tools=tools) == json.dumps(
        tools[0], ensure_ascii=False, indent=2
    )
    assert render("{{ strftime_now('%Y') }}") in {str(datetime.now().year), str(datetime.now().year + 1)}
    assert render("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "012"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == " hi "
    assert render("{{ enable_thinking is defined and enable_thinking }}", enable_thinking=True) == "True"
    assert (
        render("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}")
        == "1"
    )
    assert render("{% macro f(x) %}<{{ x ~ 1 }}>{% endmacro %}{{ f('a') }}{{ f('b') }}") == "<a1><b1>"
    assert (
        render("{% for m in messages recursive %}{{ m.role }}{% endfor %}|{{ unk_token }}|{{ undefined_name }}")
        == "user||"
    )
    operators = "{{ messages[0]['content'].split('h')[1] | upper }}{{ 'ab' * 2 }}{{ 2 ** 5 }}{{ '%s!' % 'x' }}"
    assert render(operators) == "I abab32x!"


def test_named_templates():
    tok = tokenizer("plain", tool_use="tools: {{ tools | length }}", rag="{{ documents }}")
    assert tok.apply_chat_template(HI) == "plain"
    assert tok.apply_chat_template(HI, tools=[{}]) == "tools: 1"
    assert tok.apply_chat_template(HI, template="rag", documents=["d"]) == "['d']"
    with pytest.raises(TokenizerError, match="no chat template 'other'") as caught:
        tok.apply_chat_template(HI, template="other")
    assert caught.value.remedy == "choose one of its templates: rag, tool_use"


def test_no_template_is_an_error_with_a_remedy():
    with pytest.raises(TokenizerError, match="the model has no chat template") as caught:
        tiny_code().apply_chat_template(HI)
    assert "plain prompts" in caught.value.remedy


def test_a_template_must_be_a_string():
    with pytest.raises(FileFormatError, match=r"'tokenizer\.chat_template' must be of type str"):
        of_metadata(tiny_metadata(tokenizer__chat_template=3))


@pytest.mark.parametrize("messages", ["hi", [{"content": "x"}], [{"role": 3}], [None]])
def test_messages_that_are_none(messages):
    with pytest.raises(UsageError, match=r"messages\[0\] is"):
        render(CHATML, messages)
