"""The regular expressions, in Oniguruma's syntax, by which byte-level models split a text into words.

Source: llama.cpp's `llm_tokenizer_bpe`, and the hand-written splitters of its `unicode.cpp`. Letters, marks and numbers
are those of Unicode 16; llama.cpp knows those of Unicode 15, so that a letter of 2024 may fall into another word.
"""

CONTRACTION = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
ENDS = r"\s+(?!\S)|\s+"  # spaces, but the last of those before a word belongs to the word
SPACES = rf"\s*[\r\n]+|{ENDS}"
TAIL = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"
PATH_TAIL = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
BEFORE = r"[^\r\n\p{L}\p{N}]?"  # a word takes in one character before it
WORD = rf"{BEFORE}\p{{L}}+"

GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{ENDS}"
LLAMA3 = rf"{CONTRACTION}|{WORD}|\p{{N}}{{1,3}}|{TAIL}"
QWEN2 = rf"{CONTRACTION}|{WORD}|\p{{N}}|{TAIL}"
QWEN35 = rf"{CONTRACTION}|{BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
UFAKZEKA = rf"{WORD}|\p{{N}}|{TAIL}"  # the suffix after a Turkish apostrophe stays with it
MINICPM5 = rf"{CONTRACTION}|{WORD}|\p{{N}}+|{TAIL}"
_RUNS = "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4))
JAIS2 = rf"{CONTRACTION}|{WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{_RUNS}|\s{{1,2}}(?!\S)|\s"
BAILING = rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]|{ENDS}"
SEED = rf"{CONTRACTION}|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}"
EXAONE_MOE = (
    rf"{CONTRACTION}|{BEFORE}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?"
    rf"|\s*[\r\n]|{ENDS}"
)
BLOOM = r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
LINES = r"[^\n]+|\n+"


def _cased(letters: str, after: str = "") -> str:
    """Words in which what is not lower case comes first, so that camelCase is two; only ASCII has a case here."""
    upper, lower = rf"(?:(?=[{letters}])[^a-z])", rf"(?:(?=[{letters}])[^A-Z])"
    return rf"{BEFORE}{upper}*{lower}+{after}|{BEFORE}{upper}+{lower}*{after}"


_LETTERS, _WITH_MARKS, _MAYBE = r"\p{L}", r"\p{L}\p{M}", f"(?:{CONTRACTION})?"
TEKKEN = rf"{_cased(_LETTERS)}|\p{{N}}|{PATH_TAIL}"
GPT4O = rf"{_cased(_LETTERS, _MAYBE)}|\p{{N}}{{1,3}}|{PATH_TAIL}"
GRANITE = rf"{_cased(_WITH_MARKS, _MAYBE)}|\p{{N}}{{1,3}}|{PATH_TAIL}"
AYA = rf"{BEFORE}[\p{{L}}\p{{M}}]+{_MAYBE}|\p{{N}}{{1,3}}|{PATH_TAIL}"
YOUTU = rf"{BEFORE}[\p{{L}}\p{{M}}]+{_MAYBE}|\p{{N}}|{PATH_TAIL}"
YOUTU_SCRIPTS = (
    r"[\uac00-\ud7a3\u3131-\u318e]+"
    r"|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    r"|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u30ff]+"
)
CHAMELEON = (
    r"<sentinel:[0-9]+>", r"IMGIMG[A-I]{1,4}Z", r"[\t\n]|    |  ", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2,
)  # fmt: skip

_MARKED = r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
DEEPSEEK3 = rf"{_MARKED}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}"
SPARK = rf"{_MARKED}| ?[\p{{P}}\p{{S}}]+|[\r\n]|{ENDS}"
KANA = r"[\u4e00-\u9fa5\u3040-\u30ff]+"
HANGUL = r"[[\u0800-\u9fa5\uac00-\ud7ff]&&\S]+"
DEEPSEEK_LETTERS = (
    r"\s?["
    r"A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    r"\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    r"\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    r"\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    r"\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    r"\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    r"\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    r"\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    r"\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\x{10400}-\x{1044f}\x{104b0}-\x{104d3}"
    r"\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}"
    r"]+"
)
DEEPSEEK_SIGNS = r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3001\u3002]+"

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\x{20000}-\x{2a6df}\x{2a700}-\x{2ebef}\x{2f800}-\x{2fa1f}"
KIMI = rf"[{_HAN}]+|{BEFORE}[\p{{L}}&&[^{_HAN}]]+(?:{CONTRACTION})?|\p{{N}}{{1,3}}|{TAIL}"
ASIAN = (
    r"[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0eff\u1780-\u17ff"
    r"\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
# Numbers in threes from the right. What stands before a number stays with its first digits, for other patterns to part:
# runs of text and number; then the one, two or three digits that lead; then threes of the rest.
NUMBERS_FROM_RIGHT = (
    r"\P{N}+\p{N}*|\p{N}+",
    r"\A\P{N}*+\p{N}{1,3}(?=(?>(?:\p{N}{3})*)\z)",
    r"\P{N}+\p{N}{0,3}|\p{N}{3}",
)
# What (?=([0-9]{3})+(?![0-9])) parts, in time that grows with the text and not with its square: the first such place of
# a run of digits, then threes from there on.
DIGITS_FROM_RIGHT = (
    r"(?<![0-9])[0-9]{0,2}?\K(?=(?>(?:[0-9]{3})+)(?![0-9]))",
    r"[0-9]{3}(?=[0-9])",
)
