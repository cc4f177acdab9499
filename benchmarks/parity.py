"""Parity with llama.cpp on every golden, as a table: `python benchmarks/parity.py [cpu] [gpu]`.

For each model, prompt and way of running: mean KL from llama.cpp's logits and from the op graph's f32 evaluation, how
many of llama.cpp's greedy ids differ where the evaluation's two top logits are more than 0.05 apart, and the mean KL
between prefill in one go and in chunks of 1, 7 and 64 tokens.
"""

from __future__ import annotations

import sys
from pathlib import Path

import forge
from forge.api import DEFAULT_MODEL
from forge.bench.parity import compare, evaluated_logits, goldens, mean_kl

MODELS = Path(__file__).parents[1] / "tests" / "models"
WAYS = {
    "cpu": (("cpu f32", {"target": "cpu", "dtype": "f32"}), ("cpu bf16", {"target": "cpu"})),
    "gpu": (
        ("gpu float", {"target": "gpu", "activations": "float"}),
        ("gpu a16", {"target": "gpu", "activations": "a16"}),
        ("gpu a8", {"target": "gpu", "activations": "a8"}),
    ),
}


def main(kinds: list[str]) -> None:
    print("| model | prompt | way | KL from llama.cpp | KL from f32 | greedy ids that differ | chunks of 1 / 7 / 64 |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for path in sorted(MODELS.glob("*.golden.npz")):
        name = path.name.removesuffix(".golden.npz")
        file = DEFAULT_MODEL if name == "tiny-code-Q4_K_M" else MODELS / f"{name}.gguf"
        if not file.exists():
            print(f"{name} is not here", file=sys.stderr)
            continue
        limits = {"context": 256, "max_seqs": 1, "max_tokens": 256, "max_logits": 256}
        exact = forge.compile(file, target="cpu", dtype="f32", **limits)
        for index, golden in enumerate(goldens(path)):
            truth = evaluated_logits(exact, golden.fed)
            for label, options in (way for kind in kinds for way in WAYS[kind]):
                model = forge.compile(file, **options, **limits)
                result, whole = compare(model, golden, truth), model.logits(golden.fed)
                chunks = " / ".join(f"{mean_kl(whole, model.logits(golden.fed, c)):.1e}" for c in (1, 7, 64))
                print(
                    f"| {name} | {index} | {label} | {result.from_llama_cpp:.2e} | {result.from_evaluate:.2e} "
                    f"| {len(result.greedy_differs)} of {len(golden.greedy)} | {chunks} |",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:] or ["cpu"])
