"""Kernels compiled by other processes are those that launches ask for: after the pool, this one compiles nothing."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

import forge
from forge.api import DEFAULT_MODEL
from forge.language import interpreted, jit, tl
from forge.lower.ahead import Ahead, first
from forge.lower.job import dumped, loaded
from forge.lower.launch import Launch
from forge.lower.offline import plan_launches
from forge.lower.pool import Pool
from forge.lower.sizes import planned
from forge.target import TARGETS
from forge.triton_internals import absent_driver, asking, compiled

pytest.importorskip("triton")
pytestmark = [pytest.mark.compile, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
ONE = {"T": 1, "S": 1, "R": 1}


@jit
def _broken(x_ptr, VALUE: tl.constexpr):
    tl.static_assert(VALUE == 0, "broken on purpose")
    tl.store(x_ptr, VALUE)


def launch(fn, *args, **meta):
    return Launch(fn, (1, 1, 1), (torch.empty(16, dtype=torch.int32, device="meta"), *args), meta)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    _broken.device_caches.clear()
    return tmp_path


def key_of(fn, *args, **meta) -> str:
    keys = []

    def stop(key):
        keys.append(key)
        raise InterruptedError

    made = launch(fn, *args, **meta)
    with pytest.raises(InterruptedError), asking(stop):
        compiled(made.fn, made.grid, made.args, made.meta)
    return keys[0]


@pytest.fixture
def compilations(monkeypatch):
    """Whether each kernel that this process took was in Triton's files."""
    import triton

    hits = []
    monkeypatch.setattr(triton.knobs.compilation, "listener", lambda **told: hits.append(told["cache_hit"]))
    return hits


@pytest.mark.parametrize("arch", ["sm_90", "gfx942"])
def test_after_the_pool_a_plans_launches_compile_nothing(arch, cache, compilations):
    model = forge.compile(DEFAULT_MODEL, target=arch, context=64, max_tokens=8, max_seqs=2)
    target = TARGETS[arch]
    device = SimpleNamespace(target=target, active=nullcontext)
    launches = [made for _, made in plan_launches(model.plan, ONE)]
    for made in launches:
        made.fn.device_caches.clear()
    with absent_driver(target.backend, target.arch, target.wave):
        ahead = Ahead(model.plan, device, Pool(2), (ONE,))
        ahead.collected()
        assert compilations == [] and ahead.misses > 5
        ahead.pool.finish()
        assert set(ahead.pool.answers().values()) == {""} and compilations == []
        with ahead.asked():
            for made in launches:
                compiled(made.fn, made.grid, made.args, made.meta)
        assert compilations and all(compilations)
        for made in launches:
            made.fn.device_caches.clear()
        again = Ahead(model.plan, device, Pool(0), (ONE,))
        again.collected()
        assert again.misses == 0  # with its files full, Triton needs no process


def test_a_job_says_of_a_launch_what_a_compiler_sees():
    model = forge.compile(DEFAULT_MODEL, target="gfx1100", context=64)
    for _, made in plan_launches(model.plan, {"T": 16, "S": 2, "R": 2}):
        target, again = loaded(dumped(made, model.target))
        assert target == model.target and again.fn is made.fn
        assert again.meta == made.meta and again.grid == made.grid
        assert dumped(again, target) == dumped(made, target)


def test_a_kernel_that_no_other_process_finds_is_left_to_its_use(cache):
    @jit
    def within(x_ptr):
        tl.store(x_ptr, 1)

    with pytest.raises(pickle.PicklingError):
        dumped(launch(within), TARGETS["gfx942"])


def test_what_fails_is_told_by_the_compilation_at_its_use(cache, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    with absent_driver("hip", "gfx942", 64):
        pool, key = Pool(1), key_of(_broken, VALUE=1)
        pool.add(key, "_broken", dumped(launch(_broken, VALUE=1), TARGETS["gfx942"]))
        made = launch(_broken, VALUE=1)
        with pytest.raises(Exception, match="broken on purpose"), asking(pool.wait):
            compiled(made.fn, made.grid, made.args, made.meta)
        pool.close()


def test_a_process_that_dies_is_a_warning_and_the_next_job_gets_another():
    died = (sys.executable, "-c", "import sys; sys.stdin.buffer.read(8); sys.exit(3)")
    pool = Pool(1, died)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for key in "ab":
            pool.add(key, f"kernel_{key}", b"job")
        pool.finish()
    assert [str(w.message) for w in told] == [
        f"a process that compiled kernel_{k} ended with code 3; the kernel is compiled at its use" for k in "ab"
    ]
    assert pool.answers() == {"a": None, "b": None}


def test_a_use_does_not_wait_for_what_no_process_has_begun():
    started = threading.Event()
    slow = (sys.executable, "-c", "import time; time.sleep(60)")
    pool = Pool(1, slow)
    pool.add("first", "first", b"job")
    pool.add("second", "second", b"job")
    waiting = threading.Thread(target=lambda: (pool.wait("second"), started.set()), daemon=True)
    waiting.start()
    assert started.wait(5)
    pool.wait("never added")
    pool.close()  # and the process that sleeps is gone
    assert not pool._running


def test_a_users_script_is_not_run_again(tmp_path):
    """As it would be by processes of `multiprocessing` where there is no `if __name__ == "__main__"`."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from forge.lower.pool import Pool\n"
        "pool = Pool(2)\n"
        "for key in 'ab': pool.add(key, key, b'no job')\n"
        "pool.finish()\n"
        "print(sorted(pool.answers()))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.stdout == "once\n['a', 'b']\n", done.stderr


def test_the_first_sizes_are_planned_ones():
    bounds = {"T": 2048, "S": 64, "R": 64}
    sizes = first(bounds)
    assert sizes[:2] == (ONE, {"T": 2048, "S": 1, "R": 1})
    assert {"T": 64, "S": 64, "R": 64} in sizes
    assert all(each in planned(bounds) for each in sizes)
