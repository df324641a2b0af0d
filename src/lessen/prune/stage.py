"""The order of pruning: open, cut, save, recover, save; every finished step is a folder to continue from."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lessen import models
from lessen.artifact import Artifact
from lessen.context import Context, digest
from lessen.data.rows import rows_of
from lessen.errors import ModelError, RecipeError
from lessen.finetune import work_dir
from lessen.folder import finished
from lessen.models.groups import layers
from lessen.prune import depth, oracle, sensitivity, sparse, structured
from lessen.prune.calibrate import alone, batch_of, calibration, recalibrate_batchnorm_
from lessen.prune.cost import flops, parameters
from lessen.prune.recover import recover
from lessen.prune.rules import end_epoch
from lessen.prune.schedule import share
from lessen.runtime import pick_device

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.models import Model
    from lessen.recipe import Distill, Prune, Train

State = dict[str, Any]  # plain values that one round leaves to the next, in the manifest of its folder


@dataclass(frozen=True)
class Stage:
    """One call of `prune`."""

    source: Artifact
    cfg: Prune
    distill_cfg: Distill
    splits: Splits
    ctx: Context
    out: Path
    key: str
    augment: str

    @cached_property
    def device(self) -> torch.device:
        """Where is computed."""
        return torch.device(pick_device(self.ctx.device))

    @property
    def work(self) -> Path:
        """The folder of what is not finished yet."""
        return work_dir(self.out)

    @cached_property
    def bench(self) -> structured.Bench:
        """Calibration samples, drawn from the training split only, and the inputs that are judged by."""
        data = alone(rows_of(self.splits, "train", self.source.processor, self.ctx.cache_dir))
        batches = calibration(data, self.cfg.calib_samples, self.ctx.seed, self.device)
        rows = np.concatenate(batches.plan)
        middle = rows[np.argsort(data.lengths[rows], kind="stable")][[len(rows) // 2]]
        sample, _ = batch_of(data, middle, self.device)
        return structured.Bench(batches, oracle.probes(data, self.device), sample)

    def open(self, artifact: Artifact) -> Model:
        """Open a model on the device, in eval mode."""
        model = models.open_model(artifact)
        model.module.to(self.device).eval()
        return model

    def cut(self) -> Artifact:
        """Cut units, in one shot or in rounds with recovery in between."""
        start = time.monotonic()
        rounds = 1 if self.cfg.schedule == "one_shot" else self.cfg.rounds
        model = self.open(self.source)
        ignored = structured.ignored_modules(model, self.cfg)
        base = structured.whole(model, self.cfg, self.bench, ignored)
        if not base.units and ignored and "layers" not in self.cfg.kinds:
            raise RecipeError(
                f"prune.ignore {', '.join(self.cfg.ignore)} leaves no unit that prune.kinds and prune.layers allow",
                "name fewer modules",
            )
        done = self.source
        for number in range(1, rounds + 1):
            due = share(self.cfg.schedule, number / rounds)
            done = self._cut(done, number, due, base, ignored, last=number == rounds)
            done = self._recovered(done, number, rounds)
        model = self.open(done)
        facts = self._structured_facts(model, base, done.manifest.facts)
        return self._save(model, facts | {"seconds": time.monotonic() - start})

    def _cut(
        self, before: Artifact, number: int, due: float, base: structured.Whole, ignored: frozenset[str], last: bool
    ) -> Artifact:
        path, key = self.work / f"round-{number:02d}-cut", self._key(number, "cut")
        if (there := finished(path, key)) is not None:
            return there
        self.ctx.check()
        model = self.open(before)
        old: State = before.manifest.facts if number > 1 else self._begun(model, ignored)
        facts: dict[str, Any] = {"round": number, "due": due * self.cfg.remove_frac}
        if "layers" in self.cfg.kinds:
            paths = layers(model)
            facts["depth"] = depth.drop_(model, self.cfg, self.bench, self.ctx.seed, ignored)
            ignored = depth.renumbered(ignored, paths, layers(model), facts["depth"]["kept"])
            base = structured.whole(model, self.cfg, self.bench, ignored)
        origin = {name: list(old["origin"].get(name, range(units))) for name, units in base.units.items()}
        if base.units or "layers" not in self.cfg.kinds:
            required = last and sum(map(len, origin.values())) == sum(base.units.values())
            cut, kept = structured.cut_units_(
                model, self.cfg, facts["due"], base, self.bench, self.ctx, ignored=ignored, required=required
            )
            facts |= cut
            origin |= {name: [origin[name][i] for i in keep] for name, keep in kept.items()}
        more = {"origin": origin, "units": dict(base.units), "ignored": sorted(ignored)}
        state = {**old, "rounds": [*old["rounds"], facts], **more}
        return models.save(model, path, stage=self.ctx.stage, key=key, history=(), facts=state)

    def _begun(self, model: Model, ignored: frozenset[str]) -> State:
        """Return what the first round starts from."""
        state: State = {"rounds": [], "origin": {}}
        if not self.cfg.sensitivity:
            return state
        there = structured.allowed(model, self.cfg, ignored)
        scores = structured.scores(model, self.cfg, there, self.bench, self.ctx)
        found = sensitivity.of_groups(model.module, there, scores)
        return state | {"sensitivity": self._sensitivity(model, found)}

    def _sensitivity(self, model: Model, found: Sequence[sensitivity.Layer]) -> dict[str, Any]:
        data = alone(rows_of(self.splits, "validation", model.processor, self.ctx.cache_dir))
        return sensitivity.measure(model, found, self.cfg.sensitivity, data, self.ctx)

    def _recovered(self, before: Artifact, number: int, rounds: int) -> Artifact:
        cfg = self._recovery(rounds)
        if cfg is None:
            return before
        path, key = self.work / f"round-{number:02d}", self._key(number, "recovered")
        if (there := finished(path, key)) is not None:
            return there
        model = self.open(before)
        facts = self._recover(model, cfg, self.work / f"round-{number:02d}-fit", number)
        *earlier, last = before.manifest.facts["rounds"]
        state = before.manifest.facts | {"rounds": [*earlier, last | {"recovery": facts}]}
        return models.save(model, path, stage=self.ctx.stage, key=key, history=(), facts=state)

    def _recovery(self, rounds: int) -> Train | None:
        """Return the training of one round: an equal share of the epochs; None where there is none."""
        cfg = self.cfg.recover
        return cfg.model_copy(update={"epochs": cfg.epochs / rounds}) if cfg is not None and cfg.epochs else None

    def _recover(self, model: Model, cfg: Train, folder: Path, number: int = 1, **more: Any) -> dict[str, Any]:
        return recover(
            model, self.source, self.cfg, cfg, self.distill_cfg, self.splits, self.ctx,
            work_dir=folder, round_number=number, augment=self.augment, **more,
        )  # fmt: skip

    def _structured_facts(self, model: Model, base: structured.Whole, state: State) -> dict[str, Any]:
        ignored = frozenset(state["ignored"])
        there = structured.allowed(model, self.cfg, ignored)
        rows = structured.widths(state["units"], state["origin"], there)
        if [(r["name"], r["after"]) for r in rows] != [(n, len(kept)) for n, kept in state["origin"].items()]:
            raise ModelError("the saved model has other widths than were cut", "this is a fault: please report it")
        after = {"parameters": parameters(model.module), "flops": flops(model.module, self.bench.sample)}
        if after["parameters"] >= base.parameters:
            raise ModelError(
                f"pruning removed nothing: {base.parameters} parameters before and after", "remove a larger share"
            )
        shape = {k: list(v.shape) for k, v in self.bench.sample.items()}
        achieved = {
            "parameters": structured.removed(base.parameters, after["parameters"], "all parameters of the model"),
            "flops": structured.removed(base.flops, after["flops"], f"FLOPs of a forward pass on {shape}"),
        }
        for kind in sorted({row["kind"] for row in rows}):
            some = [row for row in rows if row["kind"] == kind]
            of = f"{kind} units of {len(some)} layers that prune.layers {self.cfg.layers} allows"
            of += " and prune.ignore does not name" if ignored else ""
            achieved[kind] = structured.removed(sum(r["before"] for r in some), sum(r["after"] for r in some), of)
        if "depth" in state["rounds"][0]:
            dropped = state["rounds"][0]["depth"]
            achieved["layers"] = structured.removed(dropped["before"], dropped["after"], "layers")
        left = [g.name for g in structured.left_alone(model, self.cfg, ignored)]
        more = {k: state[k] for k in ("sensitivity",) if k in state} | self._ignored(left)
        return self._common() | more | {"achieved": achieved, "widths": rows, "rounds": state["rounds"]}

    def _ignored(self, left: Sequence[str]) -> dict[str, Any]:
        """Return the facts of what prune.ignore kept from being pruned: names of groups, or of weights."""
        if not self.cfg.ignore:
            return {}
        masks, units = self.cfg.pattern != "structured", self.cfg.of == "units"
        of = "of what may be pruned" if masks or units else f"of all {self.cfg.of} of the model"
        return {"ignored": {"patterns": list(self.cfg.ignore), "left": list(left), "remove_frac": of}}

    def mask(self) -> Artifact:
        """Mask weights, hold the masks through recovery, and count them on what was saved."""
        start = time.monotonic()
        path, key = self.work / "masked", self._key(1, "masked")
        model = self.open(self.source)
        chosen = sparse.choose_weights(model, self.cfg)
        bench = self.bench.batches, self.ctx.seed
        measured: dict[str, Any] = {}
        if self.cfg.sensitivity:
            measured = {"sensitivity": self._sensitivity(model, sparse.layers(model, chosen, self.cfg, *bench))}
        held, facts = sparse.masks(model, chosen, self.cfg, *bench, self.ctx.check)
        facts |= measured | self._ignored([n for n, why in chosen.refused.items() if why == sparse.IGNORED])
        facts |= {"calibration_samples": self.bench.batches.samples, "refused": chosen.refused}
        if self.cfg.schedule == "one_shot":
            facts["batchnorm_recalibrated"] = recalibrate_batchnorm_(model.module, self.bench.batches)
        if (cfg := self._recovery(1)) is not None:
            end = end_epoch(self.cfg)
            facts["recovery"] = self._recover(model, cfg, self.work / "fit", attachments=[held], select_from=end)
        model.info = model.info.model_copy(update={"masks": self._mask_info(chosen)})
        kept = {name: mask.cpu() for name, mask in held.by_name().items()}
        saved = models.save(model, path, stage=self.ctx.stage, key=key, history=(), facts={})
        model = models.open_model(saved)
        totals = sparse.counts(model.module, kept, held.plan) | {"denominator": chosen.denominator}
        return self._save(model, self._common() | facts | {"masks": totals, "seconds": time.monotonic() - start})

    def _mask_info(self, chosen: sparse.Chosen) -> dict[str, Any]:
        target = sparse.plan(self.cfg).frac
        return {
            "pattern": self.cfg.pattern,
            "target": target,
            "denominator": chosen.denominator,
            "modules": list(chosen.weights),
        }

    def _common(self) -> dict[str, Any]:
        cfg = self.cfg
        names = ("method", "pattern", "scope", "layers", "schedule", "recover_from")
        asked: dict[str, Any] = {"remove_frac": cfg.remove_frac, "of": cfg.of}
        if cfg.pattern == "structured":
            asked["kinds"] = list(cfg.kinds)
        else:
            asked |= {"remove_frac": sparse.plan(cfg).frac, "of": sparse.WHERE[cfg.layers]}
        return {name: getattr(cfg, name) for name in names} | {
            "asked": asked,
            "recovered": bool(cfg.recover and cfg.recover.epochs),
        }

    def _save(self, model: Model, facts: dict[str, Any]) -> Artifact:
        entry = {"stage": self.ctx.stage, "source": self.source.digest, "prune": self.cfg.model_dump(mode="json")}
        history = (*self.source.manifest.history, entry)
        artifact = models.save(model, self.out, stage=self.ctx.stage, key=self.key, history=history, facts=facts)
        shutil.rmtree(self.work, ignore_errors=True)
        return artifact

    def _key(self, number: int, part: str) -> str:
        return digest([self.key, number, part])
