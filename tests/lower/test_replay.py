"""Captured steps: replayed once they are seen to be right, refused with a reason where they are not, and bounded."""

from __future__ import annotations

import pytest
import torch
from lower.capturing import Capturing

import forge
from forge.api import DEFAULT_MODEL
from forge.bench.breakdown import batch_of
from forge.errors import DeviceError, StateLostError
from forge.language import interpreted
from forge.lower.replay import Replays

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


class Counter:
    """A step that adds its input to a state of two slots and gives the sum: `at` is the slot, `x` the input."""

    def __init__(self, device, room=100, *, once=True):
        self.x, self.at = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int64)
        self.state, self.y = torch.zeros(2, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        self.launched = 0
        self.replays = Replays(device, {"state": self.state}, ["state"] if once else [], room)

    def launch(self):
        self.launched += 1

    def write(self):
        self.state[self.at] += self.x

    def give(self):
        self.y.copy_(self.state[self.at])

    def run(self, x, at=0, key=(1,)):
        self.x[0], self.at[0] = x, at
        self.replays.run(key, [self.launch, self.write, self.give], {"y": self.y})
        return self.y.item()


def test_from_the_fourth_step_on_it_is_replayed():
    device = Capturing()
    step = Counter(device)
    assert [step.run(x, x % 2) for x in range(1, 9)] == [1, 2, 4, 6, 9, 12, 16, 20]
    assert device.replayed == 6, "compared once, and replayed five times"
    assert step.replays.trusted == [(1,)] and not step.replays.refused and step.replays.nbytes == 10


def stale(calls):
    """A graph that has kept the input of its capture."""
    step = step_of(calls)
    x = step.x.clone()

    def write():
        step.state[step.at] += x

    return [write, step.give]


def idle(calls):
    return []


def half_written(calls):
    """A graph that gives the right result and leaves the state as it was."""
    step = step_of(calls)
    return [lambda: step.y.copy_(step.state[step.at] + step.x)]


def elsewhere(calls):
    """A graph that gives the right result and writes the state of somebody else as well."""

    def spoil():
        step_of(calls).state[1 - step_of(calls).at] += 1

    return [*calls, spoil]


def step_of(calls):
    return calls[0].__self__


@pytest.mark.parametrize("fault", [stale, idle, half_written, elsewhere])
def test_a_replay_that_differs_is_refused_and_the_steps_are_launched(fault):
    device = Capturing(fault)
    step = Counter(device)
    with pytest.warns(RuntimeWarning, match=r"a step of sizes \(1,\) on capturing is not replayed: its replay gave"):
        got = [step.run(x) for x in range(1, 7)]
    assert got == [1, 3, 6, 10, 15, 21], "every step gave what it should, that of the comparison too"
    assert step.state[1] == 0 or fault is elsewhere
    assert device.replayed == 1 and not step.replays.trusted and "its replay gave" in step.replays.refused[1,]


@pytest.mark.parametrize("fault", [stale, half_written])
def test_a_state_that_cannot_be_taken_back_is_reported_lost(fault):
    device = Capturing(fault)
    step = Counter(device, once=False)
    step.write = lambda: step.state.index_fill_(0, step.at, step.x.item())
    step.run(1)
    step.run(2)
    with pytest.warns(RuntimeWarning, match="another .*state"), pytest.raises(StateLostError, match="wrote into state"):
        step.run(3, at=1)
    assert step.state[1] == 3 and step.run(4, at=1) == 4, "the step was launched, and so is the next"
    assert device.replayed == 1


def test_a_graph_that_does_nothing_is_seen_where_nothing_changes():
    step = Counter(Capturing(idle))
    with pytest.warns(RuntimeWarning, match="another y"):
        assert [step.run(x) for x in (5, 0, 0, 0)] == [5, 5, 5, 5]


def test_what_cannot_be_captured_is_launched_and_the_reason_kept():
    class Refusing(Capturing):
        def capture(self, calls):
            raise DeviceError("no graphs today")

    step = Counter(Refusing())
    with pytest.warns(RuntimeWarning, match="no graphs today"):
        assert [step.run(x) for x in range(1, 6)] == [1, 3, 6, 10, 15]
    assert step.launched == 5 and "no graphs today" in step.replays.refused[1,]


def test_graphs_beyond_their_room_go_the_oldest_first():
    device = Capturing(nbytes=40)
    step = Counter(device, room=100)
    for key in ((1,), (2,), (3,)):
        for _ in range(4):
            step.run(1, key=key)
    assert step.replays.trusted == [(2,), (3,)] and step.replays.nbytes == 80
    before = device.replayed
    step.run(1, key=(1,))
    assert device.replayed == before, "what was dropped begins anew"
    with pytest.warns(RuntimeWarning, match="takes 40 bytes of the 30"):
        step = Counter(device, room=30)
        assert [step.run(1) for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "fault", [lambda calls: calls, lambda calls: calls[:-1]], ids=["right", "without its last launch"]
)
def test_a_model_decodes_the_same_whether_replayed_or_launched(fault):
    device = Capturing(fault)
    options = dict(context=64, max_seqs=2)
    plain, captured = (forge.compile(DEFAULT_MODEL, target=on, **options) for on in ("cpu", device))
    assert captured.budget.graphs > 0 and plain.budget.graphs == 0
    batches = [batch_of(plain, 1, context) for context in range(1, 12)]
    want = [plain.launch(batch).logits.clone() for batch in batches]
    if fault([0]):
        got = [captured.launch(batch) for batch in batches]
    else:
        with pytest.warns(RuntimeWarning, match="another ids than"):
            got = [captured.launch(batch) for batch in batches]
    assert device.replayed == (len(batches) - 2 if fault([0]) else 1)
    assert torch.equal(got[-1].logits, want[-1]) and got[-1].collect() == want[-1].argmax(1).numpy()
