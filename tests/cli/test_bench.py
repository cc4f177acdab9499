"""`forge bench` and what it measures with: every op of a step is counted, rows are llama-bench's, rooflines add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forge.bench import breakdown
from forge.bench.limit import Limit
from forge.bench.model import ModelRow, Test
from forge.bench.ops import worth_timing
from forge.bench.roofline import Rate
from forge.bench.timing import Sample, time_host
from forge.graph.op import Cost
from forge.kernels import load
from forge.lower.devices import Absent
from forge.target import TARGETS

pytestmark = pytest.mark.cpu

Test.__test__ = False  # pytest: it is no test of ours


def test_model_rows_have_the_columns_of_llama_bench(forge, tiny_model):
    result = forge("bench", "model", tiny_model, "-p", "8,16", "-n", "4", "--seqs", "1,3", "-r", "2")
    table = [[c.strip() for c in line.strip("|").split("|")] for line in result.out.splitlines()]
    assert table[0] == ["model", "size", "params", "backend", "test", "t/s", "% of limit"]
    rows = [row for row in table[2:] if len(row) == len(table[0])]
    assert [row[4] for row in rows] == ["pp8", "pp16", "tg4", "pp8 x3", "pp16 x3", "tg4 x3"]
    assert all("±" in row[5] and float(row[5].split("±")[0]) > 0 for row in rows)
    assert all(row[6].split()[1] in ("memory", "compute") for row in rows)
    assert table[2][0].endswith("Q8_0") and table[2][3].startswith("cpu bf16")


def test_model_json_holds_every_sample(forge, tiny_model):
    found = forge("bench", "model", tiny_model, "-p", "8", "-n", "0", "-r", "3", "-o", "json", "--dtype", "f32").json
    (row,) = found["rows"]
    assert {"model", "bytes", "parameters", "backend", "target", "torch"} <= set(found) and "f32" in found["backend"]
    assert found["kv"] == "f32" and " kv " not in found["backend"]
    kept = forge("bench", "model", tiny_model, "-p", "8", "-n", "0", "-r", "1", "-o", "json", "--kv", "int8").json
    assert kept["kv"] == "i8" and "bf16 kv i8" in kept["backend"], "beside the type that is multiplied"
    assert len(row["samples"]) == 3 and row["min"] <= row["median"] <= row["max"]
    assert row["tokens_per_second"] == pytest.approx(sum(row["samples"]) / 3)


def test_a_breakdown_counts_every_launch_of_a_step(forge, tiny_model):
    found = forge("bench", "model", tiny_model, "-p", "16", "--breakdown", "-r", 1, "-o", "json").json
    assert [(s["tokens"], s["context"]) for s in found["steps"]] == [(1, 16), (16, 16)]
    plan = forge("dump", tiny_model, "--plan", "--max-seqs", 1).out
    steps = [line.split()[1] for line in plan.splitlines() if line.startswith("%") and " view " not in line]
    for step in found["steps"]:
        assert {op["op"]: op["calls"] for op in step["ops"]} == {name: steps.count(name) for name in steps}
        assert step["sum"]["us"] == pytest.approx(sum(op["us"] for op in step["ops"]))
        assert all(op["us"] > 0 and op["roofline"] > 0 for op in step["ops"])


def test_a_breakdown_prints_a_row_for_each_op_or_shape(forge, tiny_model):
    by_op = forge("bench", "model", tiny_model, "-p", "4", "--breakdown", "-r", 1).out
    by_shape = forge("bench", "model", tiny_model, "-p", "4", "--breakdown", "-r", 1, "--by-shape").out
    assert "| % of roofline |" in by_op and "| linear " in by_op and "The step as the engine runs it" in by_op
    assert "linear(bf16[1,64], q8_0[8200,64])" in by_shape


def test_attention_costs_the_pages_in_use(tiny_model):
    import forge

    model = forge.compile(tiny_model, target="cpu", max_seqs=1)
    short, long = (breakdown.measure(model, 1, context, repetitions=1) for context in (16, 64))
    moved = [next(p.rate.cost.bytes for p in b.parts if p.name == "paged_attention") for b in (short, long)]
    page = 2 * 2 * 16 * 32 * 2  # keys and values, kv heads, tokens, width, bytes
    assert moved[1] - moved[0] == 3 * page * 2  # three more pages in each of two layers


def test_ops_give_a_row_for_each_combination_of_types(forge):
    rows = forge("bench", "ops", "--op", "swiglu", "--target", "cpu", "-o", "json").json["rows"]
    assert {tuple(t.split("[")[0] for t in r["types"].split(", ")) for r in rows} == {
        (d, d) for d in ("f16", "bf16", "f32")
    }
    assert "| swiglu " in forge("bench", "ops", "--op", "swiglu", "--target", "cpu").out


def test_the_costliest_case_is_the_one_worth_timing():
    swiglu = load()["swiglu"]
    chosen = {str(c.types[0].dtype): c for c in worth_timing(swiglu)}
    for case in swiglu.cases:
        best = chosen[str(case.types[0].dtype)]
        assert swiglu.cost(*case.types).bytes <= swiglu.cost(*best.types).bytes


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("ops", "--op", "nonsense"), 2),
        (("model", "-p", "x"), 2),
        (("model", "-p", "-5"), 2),
        (("model", "-r", "0"), 2),
        (("model", "--max-seqs", "0"), 2),
        (("model", "-p", "0", "-n", "0"), 2),
        (("model", "-p", "100000"), 2),
        (("model", "missing.gguf"), 3),
        (("model", "--by-shape"), 2),
        (("model", "--breakdown", "-n", "128"), 2),
        (("model", "--breakdown", "--seqs", "1"), 2),
        (("ops", "--target", "gfx942"), 6),
    ],
)
def test_what_cannot_be_measured_ends_with_its_code(forge, argv, code):
    assert forge("bench", *argv).code == code


def test_a_rate_is_held_against_the_tighter_limit():
    target = Absent(TARGETS["gfx1100"])  # 960 GB/s, 123 TFLOP/s
    memory = Rate(2e-3, Cost(bytes=960_000_000, flops=1), target)
    assert (memory.bound, memory.gbps) == ("memory", pytest.approx(480)) and memory.roofline == pytest.approx(0.5)
    compute = Rate(4e-3, Cost(bytes=1, flops=123_000_000_000), target)
    assert (compute.bound, compute.tflops) == ("compute", pytest.approx(30.75))
    assert compute.roofline == pytest.approx(0.25)


def test_samples_are_described_by_statistics_that_one_outlier_does_not_move():
    steady = Sample((1.0, 1.1, 0.9, 1.0, 1.0, 1.1, 0.9, 50.0))
    assert steady.median == 1.0 and steady.spread < 0.3 and steady.mean > 5
    row = ModelRow(Test(gen=4), (10.0, 14.0), Limit(48.0, "memory"))
    assert row.mean == 12 and row.stddev == pytest.approx(8**0.5) and row.share == 0.25
    assert replace(row, rates=(1.0,)).stddev == 0


def test_a_short_call_is_looped_until_the_clock_can_see_it():
    calls = []
    sample = time_host(lambda: calls.append(0), repetitions=3)
    assert 0 < sample.median < 1e-5 and len(calls) > 1000


def test_a_sweep_has_a_row_for_each_configuration(forge):
    found = forge("bench", "ops", "--op", "swiglu", "--sweep", "--target", "cpu", "-o", "json").json
    kernels = {row["kernel"] for row in found["rows"]}
    assert kernels == {"swiglu_torch"} and all(row["us"] > 0 and row["error"] < 0.1 for row in found["rows"])
    assert {row["origin"] for row in found["rows"]} == {"default"}
    table = forge("bench", "ops", "--op", "swiglu", "--sweep", "--target", "cpu").out
    assert table.startswith("| kernel ") and "swiglu.swiglu_torch" in table
