"""`forge bench modelled`: the model of a step's time holds what its terms say, and says that nothing was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from amdgcn.assembled import LANES, assemble

from forge.amdgcn.code.decode import decode_all
from forge.amdgcn.emulate import Ran
from forge.bench import sliced
from forge.bench.cards import CARDS, Figure
from forge.bench.lone_wave import LDS_CYCLES, SLOW, lone_wave
from forge.bench.modelled import model_step
from forge.errors import CompileError
from forge.language import interpreted
from forge.lower.offline import plan_launches

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

LOAD = {"gfx942": "global_load_dwordx4 v[{0}:{1}], v[0:1], off", "gfx1100": "global_load_b128 v[{0}:{1}], v[0:1], off"}
LOAD["gfx1201"] = LOAD["gfx1100"]
WAIT = {"gfx942": "s_waitcnt vmcnt({0})", "gfx1100": "s_waitcnt vmcnt({0})", "gfx1201": "s_wait_loadcnt {0}"}


def alone(arch: str, *lines: str, far: bool = True):
    """A wave that runs these lines, one after the other, and its cycles."""
    code = decode_all(assemble(arch, "\n".join(lines)), arch, LANES[arch]).values()
    found = lone_wave([Ran(instruction, 0) for instruction in code], CARDS[arch], lambda address: far)
    return found, found.seconds * CARDS[arch].clock.value * 1e9


def latency(arch: str, what: str = "memory") -> float:
    """In cycles."""
    return getattr(CARDS[arch], what).value * CARDS[arch].clock.value


def loads(arch: str, *first: int) -> list[str]:
    return [LOAD[arch].format(at, at + 3) for at in first]


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
def test_loads_that_one_wait_is_for_share_a_latency(arch):
    once = latency(arch)
    together, cycles = alone(arch, *loads(arch, 4, 8), WAIT[arch].format(1), WAIT[arch].format(0))
    assert (together.outstanding, together.loaded) == (32 * LANES[arch], 32 * LANES[arch])
    assert together.rounds == pytest.approx(1, abs=0.05)
    assert once < cycles < once + 40
    wait = WAIT[arch].format(0)
    apart, cycles = alone(arch, *loads(arch, 4), wait, *loads(arch, 8), wait)
    assert (apart.outstanding, apart.loaded) == (16 * LANES[arch], 32 * LANES[arch])
    assert apart.rounds == pytest.approx(2, abs=0.05)
    assert 2 * once < cycles < 2 * once + 40
    never, cycles = alone(arch, *loads(arch, 4, 8))
    assert never.rounds == 0 and cycles < 40
    near, cycles = alone(arch, *loads(arch, 4), wait, *loads(arch, 8), wait, far=False)
    assert (near.outstanding, near.loaded) == (0, 0) and 2 * latency(arch, "cache") < cycles < once


@pytest.mark.parametrize(("arch", "cycles"), [("gfx942", 4), ("gfx1100", 1), ("gfx1201", 1)])
def test_instructions_take_their_turns(arch, cycles):
    base = alone(arch)[1]
    assert alone(arch, *["v_add_f32 v2, v0, v1"] * 10)[1] - base == pytest.approx(10 * cycles)
    assert alone(arch, *["v_rcp_f32 v2, v0"] * 10)[1] - base == pytest.approx(10 * cycles * SLOW)


def test_lds_and_scalar_loads_have_latencies_of_their_own():
    assert alone("gfx1100", "ds_load_b32 v1, v0", "s_waitcnt lgkmcnt(0)")[1] == pytest.approx(LDS_CYCLES + 3, abs=1)
    scalar = latency("gfx1100", "cache")
    assert alone("gfx1100", "s_load_b32 s4, s[0:1], 0x0", "s_waitcnt lgkmcnt(0)")[1] == pytest.approx(scalar + 3, abs=1)


@pytest.fixture(scope="module")
def gguf(synthetic, tiny_shape):
    return synthetic.synthetic(replace(tiny_shape, width=256, feed_forward=512, heads=8), "Q4_K_M")


@pytest.fixture(scope="module")
def compiled(gguf):
    """A model of two layers for an architecture, each compiled once."""
    import forge

    made = {arch: forge.compile(gguf, target=arch, context=64, max_seqs=8) for arch in ("gfx942", "gfx1100", "sm_90")}
    return made.__getitem__


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "sm_90"])
def test_every_launch_of_the_plan_is_a_node_and_every_weight_is_read_once(compiled, arch):
    model = compiled(arch)
    step, sizes = model_step(model, CARDS[arch], 1, 40), {"T": 1, "S": 1, "R": 1}
    assert step.launches == len(list(plan_launches(model.plan, sizes)))
    matrices = {n.leaf.name: s for n, s in model.plan.weights.items() if s.type.rank > 1 and "embd" not in n.leaf.name}
    assert sum(n.count * n.weights for n in step.nodes) == sum(s.type.numel for s in matrices.values())
    held = sum(s.nbytes for s in matrices.values())
    calls = [n for n in model.plan.schedule(sizes).graph.calls() if n.op.name == "linear"]
    beside = sum(v.type.bind(sizes).nbytes for n in calls for v in (n.inputs[0], *n.outputs))
    assert sum(n.count * n.bytes for n in step.nodes if n.op == "linear") == held + beside
    assert held < step.bytes < 1.5 * held
    assert step.seconds == pytest.approx(sum(n.count * n.seconds for n in step.nodes))
    assert all((node.code is None) == (arch == "sm_90") for node in step.nodes)


def test_counts_of_a_slice_scale_to_those_of_the_whole(compiled, monkeypatch):
    """Of programs that do alike: those of a linear, of which a batch holds but some."""
    part = model_step(compiled("gfx1100"), CARDS["gfx1100"], 1, 40)
    monkeypatch.setattr(sliced, "BATCH_LANES", 1 << 30)
    whole = model_step(compiled("gfx1100"), CARDS["gfx1100"], 1, 40)
    cut = 0
    for few, all_ in zip(part.nodes, whole.nodes, strict=True):
        assert all_.code.programs == all_.code.emulated
        if few.op == "linear":
            cut += few.code.emulated < few.code.programs
            assert few.code.scale * few.code.lanes == all_.code.lanes
            loaded = (n.code.counters.memory.loaded.total() for n in (few, all_))
            assert few.code.scale * next(loaded) == next(loaded)
    assert cut


def test_a_deeper_context_and_more_sequences_take_longer(compiled):
    model, card = compiled("gfx942"), CARDS["gfx942"]
    short, long, many = (model_step(model, card, seqs, depth) for seqs, depth in ((1, 3), (1, 60), (8, 60)))
    assert short.bytes < long.bytes < many.bytes and short.seconds < long.seconds < many.seconds
    assert long.tokens_per_second < many.tokens_per_second < many.limit


def test_each_term_hangs_on_its_own_figures(compiled):
    card = CARDS["gfx1100"]
    node = next(n for n in model_step(compiled("gfx1100"), card, 1, 40).nodes if n.op == "linear")
    assert node.seconds == max(node.terms.values()) + card.node.value * 1e-6 and node.bound in node.terms
    slower = replace(node, card=replace(card, clock=Figure(card.clock.value / 2, "")))
    assert slower.terms["vector"] == pytest.approx(2 * node.terms["vector"])
    assert slower.terms["cache"] == pytest.approx(2 * node.terms["cache"])
    copying = replace(node, card=replace(card, copy=Figure(1e-3, "")))
    assert copying.terms["memory"] == pytest.approx(node.bytes / 1e6) and copying.bound == "memory"
    # by Little's law: so few programs have too few bytes on their way for the card's copy rate
    few = replace(node, programs=8)
    assert few.in_flight * card.target.compute_units == pytest.approx(8 * node.wave.outstanding)
    late = card.memory.value * 1e-9
    assert 8 * node.wave.outstanding / late < card.copy.value * 1e9
    assert few.terms["memory"] == pytest.approx(node.bytes * late / (8 * node.wave.outstanding))
    many = 10 * node.code.resident(card.target) * card.target.compute_units
    queued = replace(node, programs=many)
    assert queued.terms["waves"] == pytest.approx(10 * node.terms["waves"])


def test_registers_and_lds_bound_the_programs_a_unit_holds(compiled):
    target = CARDS["gfx942"].target
    node = next(n for n in model_step(compiled("gfx942"), CARDS["gfx942"], 1, 40).nodes if n.kernel == "_paged")
    waves, code = node.code.waves(target), node.code.code
    assert waves == 4 and node.code.resident(target) == sliced.occupancy(code) * 4 // waves
    hungry = replace(node.code, code=replace(code, lds=20 << 10))
    assert hungry.resident(target) == 3
    free = replace(code, lds=0, assembly="; Occupancy: 8", threads=64)
    assert replace(node.code, code=free).resident(target) == 32
    assert replace(node.code, code=replace(free, threads=128)).resident(target) == 16  # two waves share a barrier
    with pytest.raises(CompileError, match="occupancy"):
        sliced.occupancy(replace(code, assembly=""))


def test_the_table_says_that_it_is_modelled_and_names_its_sources(forge, tiny_model):
    shown = forge(
        "bench", "modelled", tiny_model, "--target", "gfx1201", "--context", 64, "-d", 20, "--seqs", "1,2"
    ).out
    assert shown.count("Modelled, not measured") == 2 and "RX 9070 XT" in shown
    assert all(figure.source in shown for figure in CARDS["gfx1201"].sources.values())
    flags = ("--context", 64, "-d", 20, "-o", "json")
    found = forge("bench", "modelled", tiny_model, "--target", "gfx1201", *flags).json
    assert "not measured" in found["about"]
    (step,) = found["steps"]
    assert step["tokens_per_second"] < step["limit"] and step["launches"] == sum(n["count"] for n in step["nodes"])
    assert {n["code"]["vgpr_spills"] for n in step["nodes"]} == {0}
    bare = forge("bench", "modelled", tiny_model, "--target", "sm_90", "--context", 64, "-d", 20).out
    assert "nothing is counted" in bare and "VGPRs" not in bare


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("--target", "gfx90a"), 4, "no card"),
        (("--target", "cpu"), 4, "gfx1100"),
        (("--target", "gfx942", "--context", 64, "-d", 64), 2, "at a depth of 64"),
        (("--target", "gfx942", "--context", 64, "-d", 3, "--seqs", 8, "--max-seqs", 4), 2, "at most 4 sequences"),
        (("--target", "gfx942", "--context", 64, "-d", -1), 2, "depth"),
        (("--target", "gfx942", "--context", 64, "--seqs", 0), 2, "0"),
    ],
)
def test_what_cannot_be_modelled_ends_with_its_code(forge, tiny_model, argv, code, words):
    found = forge("bench", "modelled", tiny_model, *argv)
    assert found.code == code and words in found.err and not found.out
