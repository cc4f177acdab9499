"""Tokens that llama.cpp knows by their text, because converters do not mark them reliably.

DeepSeek writes its tokens with the full-width bar U+FF5C. Source: llama.cpp's `llama_vocab::impl::load`.
"""

from __future__ import annotations

from collections.abc import Mapping

# Each ends a turn or the whole generation, whatever the metadata say.
END_OF_GENERATION = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<\uff5cend▁of▁sentence\uff5c>", "[e~[",
    }
)  # fmt: skip

# Fill-in-the-middle markers that also end a generation: padding, repository name, file separator. The first that the
# vocabulary has is taken, unless the metadata name one under the key.
FILL_IN_MIDDLE_ENDS: Mapping[str, tuple[str, ...]] = {
    "tokenizer.ggml.fim_pad_token_id": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "tokenizer.ggml.fim_rep_token_id": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "tokenizer.ggml.fim_sep_token_id": ("<|file_sep|>",),
}  # fmt: skip

# Fill-in-the-middle markers that are control tokens and nothing more.
FILL_IN_MIDDLE: Mapping[str, tuple[str, ...]] = {
    "tokenizer.ggml.fim_pre_token_id": (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uff5cfim▁begin\uff5c>", "<PRE>", "▁<PRE>",
        "<|code_prefix|>", "<|prefix|>",
    ),
    "tokenizer.ggml.fim_suf_token_id": (
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uff5cfim▁hole\uff5c>", "<SUF>", "▁<SUF>",
        "<|code_suffix|>", "<|suffix|>",
    ),
    "tokenizer.ggml.fim_mid_token_id": (
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uff5cfim▁end\uff5c>", "<MID>", "▁<MID>",
        "<|code_middle|>", "<|middle|>",
    ),
}  # fmt: skip

# The channel markers of gpt-oss: shown as text, and found in any input.
ALWAYS_SHOWN = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})

# Where all tokens of a row end generations, <|end|> ends only one message of several (gpt-oss, Solar Open).
END_IS_ORDINARY = (
    frozenset({"<|return|>", "<|call|>", "<|end|>"}),
    frozenset({"<|return|>", "<|calls|>", "<|end|>"}),
    frozenset({"<|call|>", "<|flush|>", "<|end|>"}),
    frozenset({"<|calls|>", "<|flush|>", "<|end|>"}),
)

# Where one of these is in the vocabulary, </s> is ordinary text (Gemma 4, PLaMo).
CLOSING_S_IS_TEXT = frozenset({"<|tool_response>", "<|plamo:eos|>"})
