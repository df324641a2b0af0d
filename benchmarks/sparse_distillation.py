"""What distilling a language model from stored answers costs beside plain fine-tuning and beside a live teacher.

Random weights of GPT-2's shape (cost does not depend on values), vocabulary 50257, batch 4 x 128 tokens. A step is
forward, backward and AdamW. In fp32 and under bf16 autocast:

    plain CE      module(input_ids, labels), as a usual script has it: the logits of the whole batch
    fused CE      the same loss through lessen's fused_loss
    sparse cached alpha 0.5, KL to the teacher's top 64 tokens and their tail, ready in memory, through fused_loss
    dense live    alpha 0.5, the teacher's forward pass, KL over the whole vocabulary, as a usual script has it

Time: variants take turns, step by step, in one process; medians over rounds, CPU time beside wall time. Memory: each
variant alone in a fresh process, highest resident memory during three steps, and how much that is above what was
resident before the first (models built, optimizer not yet filled).

    python benchmarks/sparse_distillation.py            # writes benchmarks/sparse_distillation.json
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from lessen.distill.tokens.linear import fused_loss
from lessen.distill.tokens.targets import SparseTargets, top_k
from lessen.measure import environment
from lessen.models import language

VOCAB = 50257
STUDENT = {"n_layer": 4, "n_embd": 512, "n_head": 8}
TEACHER = {"n_layer": 12, "n_embd": 768, "n_head": 12}
BATCH, LENGTH, KEPT, CHUNK, ALPHA = 4, 128, 64, 256, 0.5
LOSSES = ("plain CE", "fused CE", "sparse cached", "dense live")
VARIANTS = tuple(f"{loss}, {kind}" for kind in ("fp32", "bf16") for loss in LOSSES)


def build(shape: dict[str, int]) -> GPT2LMHeadModel:
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=LENGTH, use_cache=False, **shape, **off))


def shifted(ids: Tensor) -> Tensor:
    return functional.pad(ids[:, 1:], (0, 1), value=-100).flatten()


class Bench:
    """A student, its optimizer, and what each variant learns from; the teacher only where one is asked for."""

    def __init__(self, live: bool, stored: bool) -> None:
        torch.manual_seed(0)
        self.ids = torch.randint(0, VOCAB, (BATCH, LENGTH))
        self.student = build(STUDENT).train()
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-5, fused=True)
        self.teacher = build(TEACHER).eval() if live else None
        self.told = self.answers() if stored else None

    def answers(self) -> SparseTargets:
        """Return top-64 answers at the supervised positions: the teacher's, or of that shape where there is none."""
        if self.teacher is None:
            rows = BATCH * (LENGTH - 1)
            log_p = torch.randn(rows, KEPT + 1).log_softmax(dim=1)
            return SparseTargets(torch.arange(KEPT).expand(rows, -1) * 777, log_p[:, :-1], log_p[:, -1])
        with torch.no_grad():
            return top_k(self.teacher(self.ids).logits[:, :-1].flatten(0, 1), KEPT)

    def plain(self) -> Tensor:
        loss: Tensor = self.student(input_ids=self.ids, labels=self.ids).loss
        return loss

    def fused(self, alpha: float) -> Tensor:
        states = language.states(self.student, {"input_ids": self.ids}).flatten(0, 1)
        told = self.told if alpha else None
        found = fused_loss(
            states, language.head(self.student), shifted(self.ids), alpha=alpha, teacher=told, chunk=CHUNK
        )
        return found.total / found.tokens

    def dense(self) -> Tensor:
        with torch.no_grad():
            theirs = self.teacher(input_ids=self.ids).logits
        ours = self.student(input_ids=self.ids).logits
        ours, theirs = ours[:, :-1].flatten(0, 1).float(), theirs[:, :-1].flatten(0, 1).float()
        hard = functional.cross_entropy(ours, self.ids[:, 1:].flatten())
        soft = functional.kl_div(
            functional.log_softmax(ours, dim=-1), functional.softmax(theirs, dim=-1), reduction="batchmean"
        )
        return (1 - ALPHA) * hard + ALPHA * soft

    def step(self, variant: str) -> float:
        loss_of: Callable[[], Tensor] = {
            "plain CE": self.plain,
            "fused CE": lambda: self.fused(0.0),
            "sparse cached": lambda: self.fused(ALPHA),
            "dense live": self.dense,
        }[variant.split(", ")[0]]
        place: AbstractContextManager[Any] = nullcontext()
        if variant.endswith("bf16"):
            place = torch.autocast("cpu", dtype=torch.bfloat16)
        with place:
            loss = loss_of()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def timed(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return wall and CPU seconds of each variant's steps; the variants take turns."""
    bench = Bench(live=True, stored=True)
    found: dict[str, dict[str, list[float]]] = {v: {"wall_s": [], "cpu_s": []} for v in VARIANTS}
    for number in range(rounds + 2):  # two to warm up
        for variant in VARIANTS:
            wall, cpu = time.perf_counter(), time.process_time()
            bench.step(variant)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if number >= 2:
                found[variant]["wall_s"].append(spent[0])
                found[variant]["cpu_s"].append(spent[1])
    return found


def resident(name: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.M)[0]) * 1024


def weigh(variant: str) -> dict[str, int]:
    """Return resident bytes of this process before the first step, at most, and the difference."""
    bench = Bench(live=variant.startswith("dense"), stored=variant.startswith("sparse"))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building left behind would hide the first step's use
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest so far is forgotten
    for _ in range(3):
        bench.step(variant)
    peak = resident("VmHWM")
    return {"before_bytes": before, "peak_bytes": peak, "increment_bytes": peak - before}


def weighed(threads: int) -> dict[str, dict[str, int]]:
    found = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--threads", str(threads), "--weigh", variant]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[variant] = json.loads(done.stdout.splitlines()[-1])
    return found


def ratio(times: dict[str, dict[str, list[float]]], clock: str, a: str, b: str) -> dict[str, Any]:
    """Return the median over rounds of a / b within the round, and its range."""
    each = sorted(x / y for x, y in zip(times[a][clock], times[b][clock], strict=True))
    of_medians = statistics.median(times[a][clock]) / statistics.median(times[b][clock])
    return {"median": statistics.median(each), "least": each[0], "most": each[-1], "of_medians": of_medians}


def table(times: dict[str, dict[str, list[float]]], memory: dict[str, dict[str, int]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("fp32", "bf16"):
        plain, sparse, dense = (f"{name}, {kind}" for name in ("plain CE", "sparse cached", "dense live"))
        found[kind] = {
            "sparse over plain CE, CPU time of a step (bound 1.35)": ratio(times, "cpu_s", sparse, plain),
            "sparse over plain CE, wall time of a step": ratio(times, "wall_s", sparse, plain),
            "fused CE over plain CE, CPU time of a step": ratio(times, "cpu_s", f"fused CE, {kind}", plain),
            "sparse over dense live, CPU time of a step": ratio(times, "cpu_s", sparse, dense),
            "sparse over dense live, peak memory above the built models (bound 0.65)": (
                memory[sparse]["increment_bytes"] / memory[dense]["increment_bytes"]
            ),
            "sparse over dense live, peak memory of the process": (
                memory[sparse]["peak_bytes"] / memory[dense]["peak_bytes"]
            ),
        }
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weigh", choices=VARIANTS, help="(used by itself) print one variant's memory")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.weigh:
        print(json.dumps(weigh(args.weigh)))
        return
    memory = weighed(args.threads)
    times = timed(args.rounds)
    result = {
        "student": STUDENT,
        "teacher": TEACHER,
        "vocabulary": VOCAB,
        "batch": [BATCH, LENGTH],
        "kept": KEPT,
        "chunk": CHUNK,
        "environment": environment(args.threads, "cpu"),
        "ratios": table(times, memory),
        "medians_s": {v: {c: statistics.median(x) for c, x in t.items()} for v, t in times.items()},
        "memory": memory,
        "rounds_s": times,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for variant in VARIANTS:
        seconds, held = result["medians_s"][variant], memory[variant]
        megabytes = {k: v >> 20 for k, v in held.items()}
        print(f"{variant:22s} cpu {seconds['cpu_s']:.3f} s  wall {seconds['wall_s']:.3f} s  MiB {megabytes}")
    print(json.dumps(result["ratios"], indent=1))


if __name__ == "__main__":
    main()
