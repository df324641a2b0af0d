"""The one training loop; the loss is an argument.

A step draws its random numbers from (seed, stage, step, rank) alone and its batch from (seed, epoch) alone, so
a run that is killed and resumed at step k computes what an uninterrupted run computes, bit for bit on a CPU.
Every term of the loss is a sum over samples or supervised tokens; the loop divides by those of the whole optimizer
step, so the gradient does not depend on how the step is cut into micro-batches or ranks.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lessen import checkpoint
from lessen.context import Context, write_atomic
from lessen.data.batches import plan
from lessen.errors import TrainingError
from lessen.evaluate import Scores, evaluate, monitor, vocabulary
from lessen.events import Progress
from lessen.optimizer import freeze_, optimizer, rate, recompute_
from lessen.runtime import Runtime, runtime
from lessen.terms import Batch, Loss, Prepares, Term, amount
from lessen.watch import Failures, Stall

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.recipe import Train
    from lessen.terms import Rows

__all__ = ["Batch", "Fit", "Loss", "Term", "fit"]

TALK_SECONDS = 0.5  # between progress events
LOWER_IS_BETTER = {"loss"}


@dataclass(frozen=True)
class Fit:
    """What training did. The model holds the best weights."""

    history: list[dict[str, float]]  # one entry per evaluation
    best: dict[str, float]  # the entry whose weights were kept
    steps: int
    seconds: float
    threshold: float
    stopped_early: bool
    failed_steps: int = 0  # left out: not finite

    def facts(self) -> dict[str, Any]:
        """Return plain values for a manifest."""
        return {
            "history": self.history,
            "best": self.best,
            "steps": self.steps,
            "seconds": self.seconds,
            "threshold": self.threshold,
            "stopped_early": self.stopped_early,
            "failed_steps": self.failed_steps,
        }


@dataclass
class _State:
    """The moving parts of a training; all of it is in a checkpoint."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    best_file: str = ""
    stale: int = 0  # evaluations since the best one
    seconds: float = 0.0
    stopped: bool = False
    failed: int = 0
    scale: float = 65536.0  # of the loss, fp16 only


def fit(
    model: Model,
    train: Rows,
    validation: Rows,
    loss: Loss,
    cfg: Train,
    ctx: Context,
    *,
    work_dir: Path,
    attachments: Sequence[nn.Module] = (),
    select_from: float = 0.0,
    augment: str = "none",
) -> Fit:
    """Train a model in place and leave its best weights in it.

    Args:
        model: trained in place; `model.info.threshold` is set where the threshold is tuned.
        train: what is learned from.
        validation: what the best epoch and the threshold are chosen on.
        loss: terms of the loss, one value per sample each.
        cfg: settings.
        work_dir: checkpoints; found there, they are resumed from.
        attachments: modules trained and checkpointed beside the model (projectors, masks). One with a method
            `after_step(step, total_steps, steps_per_epoch)` has it called after every optimizer step.
        select_from: epochs before which no evaluation may become the best (a mask schedule's end).
        augment: none, or the kind of random views of the training images.

    Raises:
        TrainingError: the loss or the gradient is not finite; names the step and the term.
        Cancelled: `ctx.check` said so; the checkpoint just written can be resumed.
    """
    run = _Run(model, train, validation, loss, cfg, ctx, work_dir, tuple(attachments), select_from, augment)
    return run.go()


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        model: Model,
        train: Rows,
        validation: Rows,
        loss: Loss,
        cfg: Train,
        ctx: Context,
        work_dir: Path,
        attachments: tuple[nn.Module, ...],
        select_from: float,
        augment: str,
    ) -> None:
        self.model, self.train, self.validation = model, train, validation
        self.loss, self.cfg, self.ctx, self.work_dir = loss, cfg, ctx, work_dir
        self.select_from, self.augment = select_from, augment
        self.runtime: Runtime = runtime(ctx, cfg.precision)
        self.modules = nn.ModuleDict({"model": model.module})
        for index, attachment in enumerate(attachments):
            self.modules[f"attachment{index}"] = attachment
        self.modules.to(self.runtime.device)
        freeze_(model.module, cfg.freeze)
        recompute_(model.module, cfg.gradient_checkpointing)
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.modules, cfg)
        self.per_epoch = math.ceil(len(train) / cfg.batch_size)
        self.total = cfg.max_steps or (max(1, round(cfg.epochs * self.per_epoch)) if cfg.epochs else 0)
        self.between = cfg.eval_steps or self.per_epoch
        self.monitor = monitor(cfg, model.info.task)
        self.failures = Failures(cfg.max_failed_frac, self.total)
        self.stall = Stall(vocabulary(model.module) if model.info.generates else None)
        self.scaler = torch.amp.GradScaler(
            self.runtime.device.type, enabled=self.runtime.dtype == torch.float16, init_scale=_State.scale
        )
        self.state = _State()
        self.clipped = 0  # steps since the last news whose gradient was longer than clip_norm

    def go(self) -> Fit:
        self._resume()
        start, spoke, saved = time.monotonic(), 0.0, time.monotonic()
        before = self.state.seconds
        sums: dict[str, Tensor] = {}
        seen = 0
        while self.state.step < self.total and not self.state.stopped:
            self._check(start, before)
            terms, norm, lr = self._step()
            self.state.step += 1
            seen += 1
            for name, value in terms.items():
                sums[name] = sums[name] + value if name in sums else value
            if time.monotonic() - spoke > TALK_SECONDS:
                spoke = time.monotonic()
                self._talk(terms, norm, lr)
            if self.state.step % self.between == 0 or self.state.step == self.total:
                parts = {f"loss_{k}": float(v) / seen for k, v in sums.items()}
                sums, seen = {}, 0
                self._evaluate({**parts, "lr": lr, "grad_norm": float(norm)})
                self.state.seconds = before + time.monotonic() - start
                self._save()
                saved = time.monotonic()
            elif self.runtime.world == 1 and time.monotonic() - saved > self.cfg.checkpoint_seconds:
                # Sums since the last evaluation are only shown, not learned from: a resumed epoch shows its own part.
                self.state.seconds = before + time.monotonic() - start
                self._save()
                saved = time.monotonic()
        return self._finish()

    def _check(self, start: float, before: float) -> None:
        try:
            self.ctx.check()
        except BaseException:
            self.state.seconds = before + time.monotonic() - start
            self._save()
            raise

    def _step(self) -> tuple[dict[str, Tensor], Tensor, float]:
        epoch, within = divmod(self.state.step, self.per_epoch)
        rows = self._plan(epoch)[within]
        lr = self.cfg.lr * rate(self.state.step, self.total, self.cfg)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        torch.manual_seed(_seed(self.ctx, self.state.step, self.runtime.rank))
        view = _seed(self.ctx, epoch, -1) if self.augment != "none" else None
        self.modules.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums = self._backward(rows, epoch, view)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.cfg.clip_norm or math.inf)
        self.clipped += bool(self.cfg.clip_norm and norm > self.cfg.clip_norm)
        if self._sound(sums, norm, rows):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        for module in self.modules.values():
            after = getattr(module, "after_step", None)
            if after is not None:
                after(self.state.step + 1, self.total, self.per_epoch)
        return sums, norm, lr

    def _backward(self, rows: np.ndarray[Any, Any], epoch: int, view: int | None) -> dict[str, Tensor]:
        """Leave the gradient of the whole step in the parameters and return its terms."""
        batches: Iterable[Batch] = (self._batch(part, epoch, view) for part in self._parts(rows))
        whole = amount(self.train, rows)
        if isinstance(self.loss, Prepares):
            batches = self.loss.prepare(self.model.module, list(batches), self.state.step)
            mine = torch.tensor(sum(b.amount for b in batches), dtype=torch.float64, device=self.runtime.device)
            whole = float(self.runtime.sum(mine))
        sums: dict[str, Tensor] = {}
        for batch in batches:
            with self.runtime.autocast():
                terms = self.loss(self.model.module, batch)
            values = {name: (term.weight * term.values.float()).sum() / whole for name, term in terms.items()}
            total = torch.stack(list(values.values())).sum()
            self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
            for name, value in {**values, "total": total}.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
            if "label" in terms and terms["label"].weight:
                plain = (values["label"] / terms["label"].weight).detach()
                sums["_plain"] = sums["_plain"] + plain if "_plain" in sums else plain
        for value in sums.values():
            self.runtime.sum(value)
        self.runtime.sum_gradients_(self.parameters)
        return sums

    def _parts(self, rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        pieces = np.array_split(rows, self.cfg.accumulate * self.runtime.world)
        return [p for p in pieces[self.runtime.rank :: self.runtime.world] if len(p)]

    def _plan(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        cached: tuple[int, list[np.ndarray[Any, Any]]] | None = getattr(self, "_planned", None)
        if cached is None or cached[0] != epoch:
            order = plan(
                self.train.lengths, self.cfg.batch_size, seed=self.ctx.seed, epoch=epoch, buckets=self.cfg.buckets
            )
            self._planned = cached = (epoch, order)
        return cached[1]

    def _batch(self, rows: np.ndarray[Any, Any], epoch: int, view: int | None) -> Batch:
        device = self.runtime.device
        inputs = {k: torch.from_numpy(v).to(device) for k, v in self.train.batch(rows, view).items()}
        labels = inputs.pop("targets", None)
        if labels is None:
            labels = torch.from_numpy(self.train.labels[rows]).to(device)
        if self.cfg.token_dropout:
            inputs["input_ids"] = self._dropped(inputs["input_ids"], inputs["attention_mask"])
        return Batch(inputs, labels, rows, epoch, view, amount(self.train, rows))

    def _dropped(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return token ids with a share replaced by the mask token; the first and last token of a text stay."""
        processor: Any = self.train.processor
        last = mask.sum(dim=1, keepdim=True) - 1
        position = torch.arange(ids.shape[1], device=ids.device)
        inner = (position > 0) & (position < last)
        chosen = (torch.rand(ids.shape, device=ids.device) < self.cfg.token_dropout) & inner
        return ids.masked_fill(chosen, processor.mask_id)

    def _sound(self, sums: dict[str, Tensor], norm: Tensor, rows: np.ndarray[Any, Any]) -> bool:
        """Whether the step may be taken; one that is not finite is counted, or stops the run."""
        plain = sums.pop("_plain", None)
        bad = [k for k, v in sums.items() if not bool(torch.isfinite(v))]
        if not bad and self.scaler.is_enabled() and not bool(torch.isfinite(norm)):
            return True  # the scaler leaves the step out and lowers its scale
        if bad or not bool(torch.isfinite(norm)):
            ids = ", ".join(str(i) for i in self.train.ids[rows][:4])
            self.failures.add(
                f"{', '.join(bad or ['the gradient'])} is not finite at step {self.state.step + 1} (samples {ids} ...)",
                self.ctx,
            )
            self.state.failed = self.failures.count
            self.optimizer.zero_grad(set_to_none=True)
            return False
        if plain is not None:
            self.stall.see(float(plain), self.ctx)
        return True

    def _talk(self, terms: dict[str, Tensor], norm: Tensor, lr: float) -> None:
        values = {f"loss_{k}": float(v) for k, v in terms.items() if k != "total"}
        values.update(lr=lr, grad_norm=float(norm), epoch=self.state.step / self.per_epoch, clipped=float(self.clipped))
        values.update(self.runtime.memory())
        self.clipped = 0
        self.ctx.emit(
            Progress(
                stage=self.ctx.stage,
                step=self.state.step,
                total_steps=self.total,
                loss=float(terms["total"]),
                values=values,
            )
        )

    def _evaluate(self, parts: dict[str, float]) -> None:
        self.runtime.broadcast_buffers_(self.modules)
        with self.runtime.autocast():
            scores = self._scores()
        epoch = self.state.step / self.per_epoch
        entry = {"epoch": epoch, "step": float(self.state.step), **parts, **scores.as_dict("val_")}
        self.state.history.append(entry)
        self.ctx.emit(
            Progress(
                stage=self.ctx.stage,
                step=self.state.step,
                total_steps=self.total,
                loss=parts.get("loss_total"),
                values=entry,
            )
        )
        if epoch < self.select_from and self.state.step < self.total:
            return
        key = f"val_{self.monitor}"
        sign = -1.0 if self.monitor in LOWER_IS_BETTER else 1.0
        if self.state.best is None or sign * entry[key] > sign * self.state.best[key]:
            self.state.best, self.state.stale = entry, 0
            self.state.best_file = f"best-{self.state.step:09d}.safetensors"
            write_atomic(self.work_dir / self.state.best_file, save(checkpoint.flat(self.modules)))
        else:
            self.state.stale += 1
            self.state.stopped = self.cfg.patience is not None and self.state.stale >= self.cfg.patience

    def _scores(self, tune: bool = False) -> Scores:
        return evaluate(self.model, self.validation, self.runtime.device, tune_threshold=tune)

    def _save(self) -> None:
        self.state.scale = self.scaler.get_scale() if self.scaler.is_enabled() else self.state.scale
        tensors = {f"modules.{k}": v for k, v in checkpoint.flat(self.modules).items()}
        tensors |= {f"optimizer.{k}": v for k, v in checkpoint.optimizer_tensors(self.optimizer).items()}
        checkpoint.write(self.work_dir, self.state.step, tensors, vars(self.state))

    def _resume(self) -> None:
        found = checkpoint.newest(self.work_dir, self.ctx)
        common = self.runtime.least(found[0] if found else 0)
        if found is None or common == 0:
            return
        found = found if found[0] == common else checkpoint.newest(self.work_dir, self.ctx, at_most=common)
        if found is None:
            raise TrainingError(
                f"{self.work_dir} has no sound checkpoint of step {common}", "delete the folder and run again"
            )
        _, tensors, meta = found
        self.modules.load_state_dict(checkpoint.part(tensors, "modules."))
        checkpoint.load_optimizer_(self.optimizer, checkpoint.part(tensors, "optimizer."))
        self.state = _State(**meta)
        self.failures.count = self.state.failed
        if self.scaler.is_enabled():
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": self.state.scale})
        self.ctx.say(f"resumed at step {self.state.step} of {self.total}")

    def _finish(self) -> Fit:
        if self.state.best_file:
            self.modules.load_state_dict(load_file(self.work_dir / self.state.best_file))
        self.modules.eval()
        recompute_(self.model.module, False)
        for parameter in self.model.module.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        tune = self.cfg.tune_threshold and len(self.model.info.labels) == 2 and not self.model.info.multi_label
        scores = self._scores(tune)
        self.model.info = self.model.info.model_copy(update={"threshold": scores.threshold})
        best = {**(self.state.best or {}), **scores.as_dict("val_")}
        state = self.state
        return Fit(state.history, best, state.step, state.seconds, scores.threshold, state.stopped, state.failed)


def _seed(ctx: Context, step: int, rank: int) -> int:
    text = f"{ctx.seed}/{ctx.stage}/{step}/{rank}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
