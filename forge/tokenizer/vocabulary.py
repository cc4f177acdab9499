"""The vocabulary of a GGUF file, validated: tokens with their kinds, scores and merges, special ids, defaults.

Source: the GGUF specification's tokenizer keys; defaults and overrides from llama.cpp's `llama_vocab::impl::load`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from forge.errors import TokenizerError, UnsupportedError
from forge.gguf import GGUFFile
from forge.tokenizer import well_known
from forge.tokenizer.byte_alphabet import BYTE_OF
from forge.tokenizer.pre_tokenizer import split_of
from forge.tokenizer.special import Strip
from forge.tokenizer.splits import Split
from forge.visible import visible

BYTE_LEVEL, SENTENCEPIECE, GEMMA4, WHITESPACE = "gpt2", "llama", "gemma4", "whitespace"  # of tokenizer.ggml.model
SPACE = "▁"  # SentencePiece's visible space

_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_SCORES, _MERGES = "tokenizer.ggml.scores", "tokenizer.ggml.merges"


class Kind(IntEnum):
    """What a token is, with the values of tokenizer.ggml.token_type."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_HIDDEN = (Kind.CONTROL, Kind.UNKNOWN)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. Invariant: texts are distinct and not empty; every id in it is below `len(texts)`.

    `merges` are of the byte-level model, most urgent first; `scores` are of SentencePiece, higher first.
    """

    model: str
    split: Split
    texts: list[str]
    kinds: list[Kind]
    ids: dict[str, int]
    merges: list[tuple[str, str]]
    scores: list[float]
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    stop_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    lowercase: bool
    """Whether text is taken in lower case; asked only of the model "whitespace", whose white space only parts words."""
    strips: Mapping[int, Strip]
    """Special tokens that swallow the white space on one side of them in a text that is encoded."""

    def hidden(self, token: int) -> bool:
        """Whether decoding leaves the token out unless it is asked for."""
        return self.kinds[token] in _HIDDEN

    def piece(self, token: int) -> bytes:
        """The bytes that the token stands for; b"" if the vocabulary only reserves it."""
        text, kind = self.texts[token], self.kinds[token]
        if kind in (Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED):
            return text.encode()
        if kind is Kind.BYTE:
            return bytes([int(text[3:5], 16)])
        if kind is not Kind.NORMAL:
            return b""
        if self.model == SENTENCEPIECE or self.split.visible_space:
            return text.replace(SPACE, " ").encode()
        if not self.split.raw and all(c in BYTE_OF for c in text):
            return bytes(BYTE_OF[c] for c in text)
        return text.encode()  # an added token that was stored as it is

    def specials(self, *, parse: bool) -> list[tuple[str, int]]:
        """Tokens to find in a text before it is split, longest first; with `parse` control tokens too."""
        wanted = (Kind.USER_DEFINED, *_HIDDEN) if parse else (Kind.USER_DEFINED,)
        found = [(text, i) for i, (text, kind) in enumerate(zip(self.texts, self.kinds, strict=True)) if kind in wanted]
        return sorted(found, key=lambda item: -len(item[0].encode()))

    @classmethod
    def read(cls, gguf: GGUFFile) -> Vocabulary:
        """Raises TokenizerError or FileFormatError for metadata at fault, UnsupportedError for other tokenizers.

        Warns where the file does not say how text is split, and its vocabulary is not known either.
        """
        model = gguf.require("tokenizer.ggml.model", str)
        if model not in (BYTE_LEVEL, SENTENCEPIECE, GEMMA4, WHITESPACE):
            raise UnsupportedError(
                f"the tokenizer model {model!r}; Forge has gpt2, gemma4, whitespace (BPE), llama (SentencePiece)",
                where=str(gguf.path),
                remedy="use a model with one of these tokenizers",
            )
        fault = _Fault(gguf)
        split = Split(()) if model == SENTENCEPIECE else split_of(gguf, model)
        texts = _texts(gguf, fault)
        ids = {text: i for i, text in enumerate(texts)}
        if len(ids) != len(texts):
            twice = next(text for i, text in enumerate(texts) if ids[text] != i)
            raise fault(f"the token {twice!r} stands twice in {_TOKENS}")

        def special(key: str, default: int | None = None, *, used: bool = True) -> int | None:
            token = gguf.get(f"tokenizer.ggml.{key}_token_id", int, default)
            if token is None or 0 <= token < len(texts):
                return token
            what = f"tokenizer.ggml.{key}_token_id is {token}; the vocabulary has {len(texts)} tokens"
            if used:
                raise fault(what)
            _warn(gguf, what)
            return None

        # llama.cpp's defaults for SentencePiece are Llama 1's ids. For byte-level models it assumes 11, Falcon's
        # end of text; to stop at an ordinary token of any other model would be wrong, so there is no default here.
        spm = model == SENTENCEPIECE
        add_bos = gguf.get("tokenizer.ggml.add_bos_token", bool, spm or split.add_bos) or split.needs_bos
        bos_id, eos_id = special("bos", 1 if spm else None, used=add_bos), special("eos", 2 if spm else None)
        kinds = _kinds(gguf, fault, texts, model)
        stop_ids = _mark_well_known(gguf, kinds, ids, {eos_id, special("eot"), special("eom")} - {None})
        add_eos = gguf.get("tokenizer.ggml.add_eos_token", bool, False)
        for flag, name, token in ((add_bos, "bos", bos_id), (add_eos, "eos", eos_id)):
            if flag and token is None:
                raise fault(f"tokenizer.ggml.add_{name}_token asks for a token that no {name}_token_id names")
        return cls(
            model, split, texts, kinds, ids,
            [] if spm else _merges(gguf, fault, split),
            _scores(gguf, fault, len(texts)) if spm else [],
            bos_id, eos_id, special("unknown", 0 if spm else None, used=False), special("padding", used=False),
            stop_ids, add_bos, add_eos,
            spm and gguf.get("tokenizer.ggml.add_space_prefix", bool, True),
            model == WHITESPACE and gguf.get("tokenizer.ggml.normalizer.lowercase", bool, False),
            _strips(gguf, split, texts, kinds),
        )  # fmt: skip


class _Fault:
    """Makes the errors of one file's tokenizer."""

    def __init__(self, gguf: GGUFFile) -> None:
        self.where = str(gguf.path)

    def __call__(self, what: str) -> TokenizerError:
        return TokenizerError(what, where=self.where, remedy="convert the model again with a current converter")


def _warn(gguf: GGUFFile, what: str) -> None:
    warnings.warn(visible(f"{gguf.path}: {what}; it is as if it were not there"), RuntimeWarning, stacklevel=2)


def _texts(gguf: GGUFFile, fault: _Fault) -> list[str]:
    texts = gguf.require(_TOKENS, list)
    if not texts:
        raise fault(f"{_TOKENS} is empty")
    if not isinstance(texts[0], str):
        raise fault(f"{_TOKENS} must hold strings, found {type(texts[0]).__name__}")
    return [text or f"[EMPTY_{i}]" for i, text in enumerate(texts)]


def _kinds(gguf: GGUFFile, fault: _Fault, texts: list[str], model: str) -> list[Kind]:
    raw = gguf.get(_TYPES, list, None)
    if raw is None:
        if model == SENTENCEPIECE:
            raise fault(f"{_TYPES} is missing: the byte tokens cannot be told from text")
        return [Kind.NORMAL] * len(texts)
    if len(raw) != len(texts) or not all(type(t) is int for t in raw):
        raise fault(f"{_TYPES} must hold one integer for each of the {len(texts)} tokens, found {len(raw)} items")
    known = {int(k): k for k in Kind}
    kinds = [known.get(t, Kind.UNDEFINED) for t in raw]
    for text, kind in zip(texts, kinds, strict=True):
        if kind is Kind.BYTE and not _is_byte(text):
            raise fault(f"the token {text!r} is of the byte kind, but is not written <0xNN>")
    return kinds


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text[5] == ">" and set(text[3:5]) <= set("0123456789ABCDEF")


def _scores(gguf: GGUFFile, fault: _Fault, count: int) -> list[float]:
    scores = gguf.get(_SCORES, list, None)
    if scores is None:
        raise fault(f"{_SCORES} is missing; SentencePiece merges by score")
    if len(scores) != count or not all(type(s) in (int, float) and not math.isnan(s) for s in scores):
        raise fault(f"{_SCORES} must hold one number for each of the {count} tokens, found {len(scores)} items")
    return [float(s) for s in scores]


def _merges(gguf: GGUFFile, fault: _Fault, split: Split) -> list[tuple[str, str]]:
    raw = gguf.get(_MERGES, list, None if split.needs_merges else [])
    if raw is None:
        raise fault(f"{_MERGES} is missing")
    pairs: dict[tuple[str, str], None] = {}  # of a pair that stands twice the first rank counts
    for i, line in enumerate(raw):
        # From the second character on, since a merge may start with a space of its own.
        at = line.find(" ", 1) if isinstance(line, str) else -1
        if at < 0:
            raise fault(f"{_MERGES}[{i}] is {line!r:.60}, which is not two tokens with a space between")
        left, right = line[:at], line[at + 1 :]
        pairs[left, right] = None
    return list(pairs)


def _mark_well_known(
    gguf: GGUFFile, kinds: list[Kind], ids: dict[str, int], named: Iterable[int | None]
) -> frozenset[int]:
    """The ids that end a generation. Changes in `kinds` what converters are known to mark wrongly."""
    stops = {ids[text] for text in well_known.END_OF_GENERATION if text in ids}
    ends = set(_fill_in_middle(gguf, ids, well_known.FILL_IN_MIDDLE_ENDS))
    for token in stops | {t for t, by_text in ends if by_text}:
        kinds[token] = Kind.CONTROL
    for token, by_text in _fill_in_middle(gguf, ids, well_known.FILL_IN_MIDDLE):
        if by_text:
            kinds[token] = Kind.CONTROL
    for text in well_known.ALWAYS_SHOWN & ids.keys():
        kinds[ids[text]] = Kind.USER_DEFINED
    stops |= {t for t, _ in ends} | {t for t in named if t is not None}

    def stopping(texts: Iterable[str]) -> list[bool]:
        return [text in ids and ids[text] in stops for text in texts]

    if any(all(stopping(row)) for row in well_known.END_IS_ORDINARY):
        stops.discard(ids["<|end|>"])
        kinds[ids["<|end|>"]] = Kind.USER_DEFINED
    if any(stopping(well_known.CLOSING_S_IS_TEXT)) and "</s>" in ids and ids["</s>"] in stops:
        stops.discard(ids["</s>"])
        kinds[ids["</s>"]] = Kind.NORMAL
    return frozenset(stops)


def _fill_in_middle(
    gguf: GGUFFile, ids: dict[str, int], table: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[int, bool]]:
    """(token, whether it was found by its text) for each key of `table` that the metadata or the vocabulary fill."""
    for key, texts in table.items():
        token = gguf.get(key, int, None)
        if token is not None:
            if 0 <= token < len(ids):
                yield token, False
                continue
            _warn(gguf, f"{key} is {token}; the vocabulary has {len(ids)} tokens")
        found = next((ids[text] for text in texts if text in ids), None)
        if found is not None:
            yield found, True


def _strips(gguf: GGUFFile, split: Split, texts: list[str], kinds: list[Kind]) -> dict[int, Strip]:
    """What llama.cpp knows by name, since files do not say it: masks of encoders, the specials of Phi-3."""
    name = gguf.get("general.name", str, "").lower()
    special = [i for i, kind in enumerate(kinds) if kind in (Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED)]
    if split.strip_before is None and ("phi-3" in name or "phi3" in name):
        keep = {"<unk>", "<s>", "<|endoftext|>"}
        return {i: Strip.AFTER for i in special if texts[i] not in keep}
    mask = split.strip_before or ("[MASK]" if "modern-bert" in name else None)
    return {i: Strip.BEFORE for i in special if texts[i] == mask}
