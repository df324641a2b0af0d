"""Quantization-aware recovery: train with the rounding in place, taught by the unquantized model, then convert.

The conversion is ort_dynamic's for transformers and ort_static's for CNNs; for the rounding see `quantize/fake.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lessen.quantize import cpu
from lessen.quantize.backends import ort_dynamic, ort_static
from lessen.quantize.job import Converted, Job, Kind
from lessen.runtimes.onnx import FILE

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.recipe import Quantize


def refuse(kind: Kind, device: str, cfg: Quantize) -> str | None:
    """Return why this backend cannot serve, with what can, or None."""
    if cfg.train is None:
        return "it trains, and quantize.train is not given; give it (for example epochs 1, lr 1e-5), or use auto"
    if kind == "transformer":
        return ort_dynamic.refuse(kind, device, cfg)
    return ort_static.refuse(kind, device, cfg)


def convert(job: Job, folder: Path) -> Converted:
    """Train with fake quantization, then write the quantized model of a job into a folder."""
    from lessen import models
    from lessen.finetune import work_dir

    if not (job.source.path / "model.safetensors").is_file():
        from lessen.errors import RecipeError

        raise RecipeError(
            f"{job.source.path} runs in {job.source.manifest.runtime}; backend qat trains a torch model",
            "quantize the stage before the export",
        )
    work = work_dir(job.out)
    model, learned = train(job, work)
    trained = models.save(
        model, job.work / "trained", stage=job.ctx.stage, key="", history=job.source.manifest.history, facts={}
    )
    file, ignored = job.to_onnx(trained, "trained-onnx").path / FILE, job.ignored(trained)
    if model.processor.kind == "text":
        done = ort_dynamic.to_int8(file, folder / FILE, ignored)
    else:
        batches, drawn = job.calibration()
        done = drawn | ort_static.to_int8(file, folder / FILE, batches, transformer=False, ignored=ignored)
    shutil.rmtree(work, ignore_errors=True)
    return Converted("onnx", {**done, "qat": learned}, model.info)


def train(job: Job, work: Path) -> tuple[Model, dict[str, Any]]:
    """Return the source's model trained with its rounding, which is taken off again, and what training did."""
    from lessen import models
    from lessen.data.batches import encode
    from lessen.distill import teaching_loss
    from lessen.quantize.fake import Rounding
    from lessen.quantize.ignore import of_model
    from lessen.train import fit

    cfg = job.cfg.train
    if cfg is None:
        raise ValueError("refuse() lets no job without settings through")
    model = models.open_model(job.source)
    encoded = encode(job.splits.train, model.processor, job.ctx.cache_dir)
    validation = encode(job.splits.validation, model.processor, job.ctx.cache_dir)
    loss, attachments, facts = teaching_loss(job.source, model, job.distill_cfg, cfg, job.splits, encoded, job.ctx)
    ranges: Literal["dynamic", "static"] = "dynamic" if model.processor.kind == "text" else "static"
    left = of_model(model, job.cfg.ignore).modules if job.cfg.ignore else frozenset()
    rounding = Rounding(model.module, ranges, 64 if cpu.saturates() else 127, left)
    done = fit(
        model, encoded, validation, loss, cfg, job.ctx, work_dir=work, attachments=[rounding.activations, *attachments]
    )
    rounding.remove_()
    model.module.to("cpu").eval()
    return model, {"ranges": ranges, "teaching": facts, "fit": done.facts()}
