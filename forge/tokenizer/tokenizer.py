"""Text to ids and back, and chats to prompts, as the model's own file says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from forge.arguments import integer, listed, shown, wrong
from forge.errors import UsageError
from forge.gguf import GGUFFile
from forge.tokenizer.chat import ChatTemplates
from forge.tokenizer.marks import Marker
from forge.tokenizer.special import partition
from forge.tokenizer.stream import TextStream
from forge.tokenizer.vocabulary import SENTENCEPIECE, Vocabulary


class Encoder(Protocol):
    """The part of a tokenizer that its `tokenizer.ggml.model` decides."""

    def encode(self, text: str) -> list[int]: ...


class Tokenizer:
    """Ids as llama.cpp gives for the same file, or for the file with the split that its known vocabulary belongs to.

    Immutable; any thread may use it, and each stream belongs to one.
    """

    def __init__(self, vocabulary: Vocabulary, encoder: Encoder, chat: ChatTemplates, rows: int = 0) -> None:
        """`rows` are those of the model's embedding: ids of rows beyond the vocabulary stand for no text."""
        self.vocabulary = vocabulary
        self.chat = chat
        self._rows = rows
        self._encoder = encoder

    @classmethod
    def from_gguf(cls, gguf: GGUFFile) -> Tokenizer:
        """Raises TokenizerError or FileFormatError for metadata at fault, UnsupportedError for other tokenizers."""
        vocabulary = Vocabulary.read(gguf)
        embedding = gguf.tensors.get("token_embd.weight")
        rows = embedding.type.concrete()[0] if embedding is not None else 0
        return cls(vocabulary, _encoder(vocabulary), ChatTemplates.read(gguf, _named_tokens(vocabulary)), rows)

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary.texts)

    @property
    def bos_id(self) -> int | None:
        return self.vocabulary.bos_id

    @property
    def eos_id(self) -> int | None:
        return self.vocabulary.eos_id

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokens after which nothing more is generated: end of sequence, of turn, of message, and their kin."""
        return self.vocabulary.stop_ids

    @property
    def chat_template(self) -> str | None:
        """The source of the default chat template, None if the file has none."""
        return self.chat.default

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Ids of `text`; bos and eos around it where the file asks for them and `add_special` is left on.

        With `parse_special=False` the text of a control token is text like any other: for input that a user typed.
        Raises UsageError for what is no text, half a surrogate pair among it, TokenizerError for a character the
        vocabulary cannot write.
        """
        vocabulary = self.vocabulary
        ids = self._ids(text, self._all_specials if parse_special else self._typed)
        first = [vocabulary.bos_id] if add_special and vocabulary.add_bos and vocabulary.bos_id is not None else []
        last = [vocabulary.eos_id] if add_special and vocabulary.add_eos and vocabulary.eos_id is not None else []
        return [*first, *ids, *last]

    def encode_prompt(self, prompt: str, mark: str = "") -> list[int]:
        """Ids of a text to be continued: as `encode`, but without eos, or a second bos where it starts with one.

        A special token's text that holds the `mark`, which is no part of the prompt, is only text.
        """
        vocabulary, ids = self.vocabulary, self._ids(prompt, self._all_specials, mark)
        bos = vocabulary.bos_id
        return [bos, *ids] if vocabulary.add_bos and bos is not None and ids[:1] != [bos] else ids

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], **template: Any) -> list[int]:
        """Ids of a conversation, ready for the model's answer; `template` as of `apply_chat_template`.

        Special tokens are those that the template writes: their texts in messages, tools and variables are only text.
        """
        prompt = self.chat.render(messages, marker=self._marker, **template)
        return self.encode_prompt(prompt.text, prompt.mark)

    def _ids(self, text: str, specials: Sequence[tuple[str, int]], mark: str = "") -> list[int]:
        if not isinstance(text, str):
            raise wrong("text", text, "a str")
        try:
            text.encode()
        except UnicodeEncodeError as bad:
            raise UsageError(
                f"the text holds half a surrogate pair at position {bad.start}",
                remedy="decode it from UTF-16 as a whole, or replace it",
            ) from bad
        out: list[int] = []
        after_special = True
        for piece in partition(text, specials, self.vocabulary.strips):
            if isinstance(piece, int):
                out.append(piece)
            else:
                prefix = " " if self.vocabulary.add_space_prefix and after_special else ""
                out += self._encoder.encode(prefix + (piece.replace(mark, "") if mark else piece))
            after_special = isinstance(piece, int)
        return out

    def fewest_tokens(self, text: str) -> int:
        """A number of tokens that `text` has at least, without encoding it: no token is longer than the longest one.

        Of a vocabulary with tokens that swallow white space, only the rest is counted.
        """
        length = len(text) if not self.vocabulary.strips else sum(map(len, text.split()))
        return -(-length // self._longest)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD.

        After a leading bos, the space that `encode` put before the text is dropped, so that prompts come back as
        they were; ids without a bos continue a text and keep it. No other space is touched.
        """
        raw, at_start, after_bos = bytearray(), True, False
        tokens = listed(ids)
        if tokens is None:
            raise wrong("ids", ids, "a list of token ids")
        for token in tokens:
            raw += self._show(token, after_bos, skip_special)
            after_bos, at_start = at_start and token == self.bos_id, False
        return raw.decode("utf-8", "replace")

    def stream(self, *, skip_special: bool = True) -> TextStream:
        """A new stream that gives what `decode` gives, as the ids come."""
        return TextStream(lambda token, after_bos: self._show(token, after_bos, skip_special), self.bos_id)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that `token` stands for; of a control token, its name's; of one that only the model has, none."""
        found = integer(token)
        if found is None or not 0 <= found < max(self.vocab_size, self._rows):
            raise UsageError(f"token id {shown(token)} is out of range; the vocabulary has {self.vocab_size} tokens")
        if found >= self.vocab_size:
            return b""
        return self.vocabulary.piece(token)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> str:
        """The prompt of a chat, to be read; `encode_chat` gives its ids, in which nobody's text is a special token.

        Messages may have the shape that OpenAI's clients send: content in text parts or None, arguments of tool calls
        as JSON, a system message for a template that has no such role (it goes before the next user's). `template`
        names one of several; `extra` and `chat_template_kwargs` are variables of the template. Raises TokenizerError
        if there is no template or it fails, UsageError for bad messages and for variables that it does not read.
        """
        return self.chat.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            template=template,
            chat_template_kwargs=chat_template_kwargs,
            **extra,
        ).text

    def _show(self, token: int, after_bos: bool, skip_special: bool) -> bytes:
        raw = self.token_bytes(token)
        if skip_special and token < self.vocab_size and self.vocabulary.hidden(token):
            return b""
        if after_bos and self.vocabulary.add_space_prefix:
            return raw.removeprefix(b" ")
        return raw

    @cached_property
    def _longest(self) -> int:
        """Characters of a text that one token can stand for; in a byte-level vocabulary a character is a byte."""
        return max(map(len, self.vocabulary.texts))

    @cached_property
    def _all_specials(self) -> list[tuple[str, int]]:
        return self.vocabulary.specials(parse=True)

    @cached_property
    def _marker(self) -> Marker:
        typed = {token for _, token in self._typed}
        return Marker(text for text, token in self._all_specials if token not in typed)

    @cached_property
    def _typed(self) -> list[tuple[str, int]]:
        return self.vocabulary.specials(parse=False)


def _encoder(vocabulary: Vocabulary) -> Encoder:
    if vocabulary.model == SENTENCEPIECE:
        from forge.tokenizer.sentencepiece import SentencePieceEncoder

        return SentencePieceEncoder(vocabulary)
    from forge.tokenizer.byte_level import ByteLevelEncoder, RawEncoder

    return RawEncoder(vocabulary) if vocabulary.split.raw else ByteLevelEncoder(vocabulary)


def _named_tokens(vocabulary: Vocabulary) -> dict[str, str]:
    """The special tokens that chat templates know by name; one that the model lacks is empty."""
    named = {
        "bos_token": vocabulary.bos_id,
        "eos_token": vocabulary.eos_id,
        "unk_token": vocabulary.unk_id,
        "pad_token": vocabulary.pad_id,
    }
    return {name: "" if token is None else vocabulary.texts[token] for name, token in named.items()}
