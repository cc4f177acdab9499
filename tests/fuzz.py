"""Mutated model files: `make fuzz`. Each is read as a model or refused by a ForgeError, within a second and 200 MB.

    python tests/fuzz.py --mutants 100000 --seconds 900 --seed 1

Small whole files (byte-level and SentencePiece) and the default model's header are bent in bytes, numbers, strings,
lengths and chunks; of each mutant the header, the tokenizer, a text there and back and the architecture are read.
One that raises anything else, or takes more, is kept in a folder that is named, and ends the run with 1. One seed, one
run.
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from loading.gguf_draft import tiny_llama
from loading.malformed import REAL, REAL_HEADER_BYTES
from tokenizer.vocabularies import sentencepiece_draft, sentencepiece_metadata

from forge.compiled import read_model
from forge.errors import ForgeError
from forge.gguf import GGUFFile
from forge.tokenizer import Tokenizer

SECONDS, MEMORY = 1.0, 200e6  # for one mutant
NUMBERS = [0, 1, 2, 3, 4, 7, 8, 9, 12, 13, 31, 32, 64, 255, 256, 2**15, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1,
           2**32, 2**40, 2**61 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
TEXTS = [
    b"\xff",
    b"\0",
    b"\x1b[2J",
    "🙂".encode(),
    "\u202e".encode(),
    b"llama",
    b"gpt2",
    b"qwen3",
    b"<0x41>",
    b" ",
    b"nan",
]


def sources() -> list[tuple[bytes, int]]:
    """(whole file, bytes of it to bend); a small file often, the large header seldom."""
    tiny = tiny_llama().write()
    made = sentencepiece_metadata()
    spm = sentencepiece_draft(*(made[f"tokenizer.ggml.{n}"] for n in ("tokens", "scores", "token_type"))).write()
    header = tiny.index(b"blk.0.ffn_down.weight") + 64
    with REAL.open("rb") as file:
        real = file.read(REAL_HEADER_BYTES + 40_000)
    return [(tiny, header)] * 60 + [(spm, len(spm))] * 39 + [(real, len(real))]


def mutant(rng: random.Random, files: list[tuple[bytes, int]]) -> bytes:
    whole, header = rng.choice(files)
    raw = bytearray(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        rng.choice(BENDS)(rng, raw, min(header, len(raw)) or 1, files)
    return bytes(raw)


def _byte(rng: random.Random, raw: bytearray, end: int, files: object) -> None:
    at = rng.randrange(end)
    raw[at : at + 1] = bytes([rng.randrange(256)])


def _number(rng: random.Random, raw: bytearray, end: int, files: object) -> None:
    width, at = rng.choice([1, 2, 4, 8]), rng.randrange(end)
    raw[at : at + width] = struct.pack("<Q", rng.choice(NUMBERS))[:width]


def _count(rng: random.Random, raw: bytearray, end: int, files: object) -> None:
    """A length that is a little, or far, from what it was."""
    at = rng.randrange(end)
    found = int.from_bytes(raw[at : at + 8], "little")
    raw[at : at + 8] = struct.pack("<Q", (found + rng.choice([-8, -1, 1, 8, 1 << 20])) % 2**64)


def _text(rng: random.Random, raw: bytearray, end: int, files: object) -> None:
    at, text = rng.randrange(end), rng.choice(TEXTS)
    raw[at : at + len(text)] = text


def _cut(rng: random.Random, raw: bytearray, end: int, files: object) -> None:
    at = rng.randrange(end)
    del raw[at : at + rng.choice([1, 4, 8, 100, len(raw)])]


def _repeat(rng: random.Random, raw: bytearray, end: int, files: object) -> None:
    at = rng.randrange(end)
    chunk = bytes(raw[at : at + rng.choice([1, 4, 12, 100, 4000])])
    raw[at:at] = chunk * rng.choice([1, 2, 10])


def _splice(rng: random.Random, raw: bytearray, end: int, files: list[tuple[bytes, int]]) -> None:
    other, other_end = rng.choice(files)
    at, of, size = rng.randrange(end), rng.randrange(other_end), rng.choice([4, 8, 40, 1000])
    raw[at : at + size] = other[of : of + size]


BENDS: list[Callable[[random.Random, bytearray, int, list[tuple[bytes, int]]], None]] = [
    _byte, _number, _number, _count, _text, _cut, _repeat, _splice,
]  # fmt: skip


def read(path: Path) -> str:
    """What came of the file: "read", or the kind of error that refused it. Raises what is a fault."""
    try:
        with GGUFFile.open(path) as gguf:
            tokenizer = Tokenizer.from_gguf(gguf)
            tokenizer.decode(tokenizer.encode("def f(x):\n    return 'é🙂' * 12"))
            read_model(gguf)
    except ForgeError as refused:
        str(refused)
        return type(refused).__name__
    return "read"


def fuzz(mutants: int, seconds: float, seed: int, kept: Path) -> tuple[Counter[str], list[str]]:
    """(how many came to what, the faults in words)."""
    warnings.simplefilter("ignore")
    files, outcomes, faults = sources(), Counter[str](), list[str]()
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.gguf"
        for number in range(mutants):
            if time.monotonic() > until:
                break
            raw = mutant(random.Random(f"{seed} {number}"), files)
            path.write_bytes(raw)
            fault, begun, before = "", time.process_time(), _peak()
            try:
                outcomes[read(path)] += 1
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                fault = f"{type(error).__name__}: {error}"
            taken, grown = time.process_time() - begun, _peak() - before
            if not fault and (taken > SECONDS or grown > MEMORY):
                fault = f"{taken:.2f} s, {grown / 1e6:.0f} MB"
            if fault:
                kept.mkdir(parents=True, exist_ok=True)
                (where := kept / f"{seed}-{number}.gguf").write_bytes(raw)
                faults.append(f"mutant {number}: {fault:.300}  ({where})")
                print(faults[-1], flush=True)
            if number % 10_000 == 9_999:
                print(f"{number + 1:,} mutants, {len(faults)} faults", flush=True)
    return outcomes, faults


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "forge-fuzz")
    args = parser.parse_args(argv)
    outcomes, faults = fuzz(args.mutants, args.seconds, args.seed, args.kept)
    print(", ".join(f"{count:,} {name}" for name, count in outcomes.most_common()))
    print(f"seed {args.seed}: {sum(outcomes.values()) + len(faults):,} mutants, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
