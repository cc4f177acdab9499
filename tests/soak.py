"""A service under load: `make soak`. For its seconds nothing is lost, nothing leaks, nothing hangs.

    python tests/soak.py --seconds 300 --seed 1

Threads and an event loop send the default model seeded requests of all kinds: completions and streams, some left early,
several samples, stops, penalties, log probabilities, prompts too long, ids out of range; pages are few, so that
sequences give way. Every request must end as asked or be refused by a ForgeError; at the end no page is held and
nothing runs, and the second half may not take more memory than the first but for a little.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import forge
from forge.errors import ForgeError, RequestError, UsageError

PROMPTS = ["def f(x):\n", "import os\n", "class A:\n    def __init__(self", "x = 1\n" * 30, "é🙂", "<|bos|>"]
PATIENCE = 60.0  # seconds that one request may take
LEAK = 64e6  # bytes by which the second half may go beyond the first
THREADS, TASKS = 4, 4


@dataclass
class Record:
    """What the callers saw. Each adds to it under the lock."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, fault: str = "") -> None:
        with self.lock:
            self.outcomes[outcome] += 1
            if fault:
                self.faults.append(fault)
                print(fault, flush=True)


def wish(rng: random.Random) -> tuple[str | list[int], forge.SamplingParams, str]:
    """A prompt, its parameters, and what must come of it: "done", or "refused"."""
    kind = rng.randrange(12)
    if kind == 0:
        return "x = 1\n" * 400, forge.SamplingParams(), "refused"
    if kind == 1:
        return [1, 10**9], forge.SamplingParams(), "refused"
    temperature = rng.choice([0.0, 0.0, 0.7, 1.5])
    params = forge.SamplingParams(
        temperature=temperature,
        n=rng.choice([1, 1, 1, 3]) if temperature else 1,
        seed=rng.choice([None, 5]),
        max_tokens=rng.choice([1, 4, 16, 40]),
        ignore_eos=True,
        top_k=rng.choice([0, 5]),
        stop=rng.choice([None, None, "\n"]),
        repetition_penalty=rng.choice([1.0, 1.2]),
        logprobs=rng.choice([None, None, 2]),
    )
    return rng.choice(PROMPTS), params, "done"


def fault_of(output: forge.RequestOutput, params: forge.SamplingParams) -> str:
    """What is wrong with a finished answer; "" if nothing is."""
    if not output.finished or len(output.outputs) != params.n:
        return f"{len(output.outputs)} of {params.n} samples, finished: {output.finished}"
    for sample in output.outputs:
        if sample.finish_reason not in ("length", "stop"):
            return f"it ended with {sample.finish_reason}: {sample.error}"
        if sample.finish_reason == "length" and len(sample.token_ids) != params.max_tokens:
            return f"{len(sample.token_ids)} tokens of {params.max_tokens}"
    return ""


def caller(llm: forge.LLM, rng: random.Random, until: float, record: Record) -> None:
    """A thread's requests, one after the other."""
    while time.monotonic() < until:
        prompt, params, expected = wish(rng)
        leave = rng.random() < 0.2
        begun, outcome, fault = time.monotonic(), "done", ""
        try:
            if leave:
                for _ in llm.stream(prompt, params):
                    break
                outcome = "left"
            else:
                fault = fault_of(llm.generate([prompt], params)[0], params)
        except (RequestError, UsageError):
            outcome = "refused"
        except BaseException as error:
            outcome, fault = "fault", f"{type(error).__name__}: {error}"
        if not fault and (outcome == "refused") != (expected == "refused"):
            fault = f"{outcome} where it should be {expected}: {prompt!r:.60}"
        if time.monotonic() - begun > PATIENCE:
            fault = f"a request took {time.monotonic() - begun:.0f} s"
        record.add(outcome, fault)


async def task(llm: forge.LLM, rng: random.Random, until: float, record: Record) -> None:
    """An event loop's requests: streams to their end, left early, or cancelled."""
    while time.monotonic() < until:
        prompt, params, expected = wish(rng)
        most = rng.choice([1, 3, 10**9])

        async def listen(prompt=prompt, params=params, most=most) -> str:
            count = 0
            stream = llm.stream_async(prompt, params)
            try:
                async for output in stream:
                    count += 1
                    if output.finished:
                        return "done"
                    if count >= most:
                        return "left"
            finally:
                await stream.aclose()
            return "lost"

        outcome, fault = "", ""
        try:
            outcome = await asyncio.wait_for(listen(), rng.choice([0.01, PATIENCE, PATIENCE]))
            fault = "a stream ended without its last output" if outcome == "lost" else ""
        except TimeoutError:
            outcome = "cancelled"
        except ForgeError:
            outcome = "refused"
            fault = "" if expected == "refused" else f"refused: {prompt!r:.60}"
        except Exception as error:
            outcome, fault = "fault", f"{type(error).__name__}: {error}"
        record.add(outcome, fault)


def soak(seconds: float, seed: int) -> Record:
    record = Record()
    before = threading.active_count()
    llm = forge.LLM(target="cpu", context=256, max_seqs=6, max_tokens=64, memory=49_000_000)  # 26 pages
    half, until = time.monotonic() + seconds / 2, time.monotonic() + seconds

    async def loop() -> None:
        await asyncio.gather(*(task(llm, random.Random(f"{seed} task {i}"), until, record) for i in range(TASKS)))

    threads = [
        threading.Thread(target=caller, args=(llm, random.Random(f"{seed} {i}"), until, record)) for i in range(THREADS)
    ]
    threads.append(threading.Thread(target=lambda: asyncio.run(loop())))
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, half - time.monotonic()))
    memory = _peak()
    for thread in threads:
        thread.join(seconds + PATIENCE)
        if thread.is_alive():
            record.add("hung", "a thread has not come back")
            return record
    if _peak() - memory > LEAK:
        record.add("end", f"the second half took {(_peak() - memory) / 1e6:.0f} MB more")
    llm.generate("x", forge.SamplingParams(max_tokens=1))  # a step in which what was left early ends
    pages = llm.engine.pool
    if pages.used or llm.engine.has_work:
        record.add("end", f"{pages.used} pages are held, work: {llm.engine.has_work}")
    record.outcomes["preemptions"] = llm.engine.scheduler.preemptions
    llm.close()
    if threading.active_count() > before:
        record.add("end", f"threads are left: {threading.enumerate()}")
    return record


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    record = soak(args.seconds, args.seed)
    print(", ".join(f"{count:,} {name}" for name, count in record.outcomes.most_common()))
    print(f"seed {args.seed}: {args.seconds:.0f} s, {len(record.faults)} faults")
    return 1 if record.faults else 0


if __name__ == "__main__":
    sys.exit(main())
