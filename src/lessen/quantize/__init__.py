"""Stage: store and compute with fewer bits, reopen the result, and compare it with its source.

A backend is a file of `quantize/backends`:
    refuse(kind, device, cfg) -> str | None   why it cannot serve this kind of model on this device; imports no torch
    convert(job, folder) -> Converted         write the model's files into a folder

Imports no torch by itself, so that a recipe can be refused before anything heavy is loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen import plugins
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.errors import ArtifactError, GateError, RecipeError
from lessen.export import card, kept, write_checked
from lessen.info import generates
from lessen.quantize import cpu
from lessen.quantize.job import Converted, Job, Kind
from lessen.quantize.judge import judge
from lessen.runtimes.onnx import SAID

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import Distill, Quantize

AUTO: dict[tuple[Kind, str], tuple[str, ...]] = {  # in the order in which they are tried against max_drop
    ("transformer", "cpu"): ("ort_dynamic", "weight_int8"),
    ("cnn", "cpu"): ("ort_static", "weight_int8"),
    ("transformer", "cuda"): ("bf16", "fp16"),
    ("cnn", "cuda"): ("bf16", "fp16"),
}


CLASSIFIERS_ONLY = {  # backends that do not serve models that generate, and why
    "ort_static": "static INT8 is calibrated on whole inputs; a model that generates reads its own answers",
    "qat": "quantization-aware training learns from a classifier's answers, not from tokens",
}


WEIGHTS = (".onnx", ".safetensors", ".bin")


def candidates(backend: str, kind: Kind, device: str) -> tuple[str, ...]:
    """Return the backends that `backend` stands for, in the order in which they are tried."""
    return AUTO[kind, device.partition(":")[0]] if backend == "auto" else (backend,)


def refuse(kind: Kind, device: str, cfg: Quantize) -> str | None:
    """Return why the settings cannot be carried out for this kind of model on this device, with what can; or None.

    Args:
        device: cpu, cuda, cuda:N; auto counts as the CPU, since it is not known yet.
    """
    place = "cpu" if device == "auto" else device
    name = candidates(cfg.backend, kind, place)[0]
    reason: str | None = plugins.find("quantize.backends", name).refuse(kind, place, cfg)
    return reason


def refuse_task(task: str, backend: str) -> str | None:
    """Return why a backend cannot serve a task's models, with what can; or None."""
    if not generates(task) or backend not in CLASSIFIERS_ONLY:
        return None
    return f"{CLASSIFIERS_ONLY[backend]}; use ort_dynamic or weight_int8 for {task}"


def kind_of(artifact: Artifact) -> Kind:
    """Return what a model is made of: in every family there is, transformers read texts and convolutions images."""
    return "cnn" if artifact.info.task == "image-classification" else "transformer"


def quantize(
    source: Artifact,
    cfg: Quantize,
    distill_cfg: Distill,
    splits: Splits,
    ctx: Context,
    *,
    out: Path,
    key: str = "",
    onnx: Artifact | None = None,
) -> Artifact:
    """Quantize a model; with `max_drop`, the first candidate that keeps within it, or an error and no folder.

    Args:
        source: the model to quantize.
        distill_cfg: how backend qat lets it learn from its own unquantized self.
        splits: calibration and training read train, comparison reads validation; test is not touched.
        onnx: the source's ONNX export where there is one already; made on the way otherwise.

    Raises:
        RecipeError: the backend cannot serve this model on this device; says which can.
        ArtifactError: the result is not smaller, or holds a scale that no data explains.
        GateError: validation macro-F1 (token accuracy where the model generates) fell by more than `cfg.max_drop`
            with every candidate.
    """
    kind = kind_of(source)
    tried: list[dict[str, Any]] = []
    for name in candidates(cfg.backend, kind, ctx.device):
        reason = refuse_task(source.info.task, name)
        reason = reason or plugins.find("quantize.backends", name).refuse(kind, ctx.device, cfg)
        if reason:
            raise RecipeError(f"quantize.backend {name}: {reason}", "see docs/quantize.md for what serves what")
        ctx.check()
        with _job(source, cfg, distill_cfg, splits, ctx, out, onnx) as job:
            try:
                return _one(job, name, tried, out, key)
            except _FellTooFarError as error:
                tried.append(error.entry)
                ctx.say(f"{name}: {error.entry['why']}", "warning")
    told = "; ".join(f"{entry['backend']}: {entry['why']}" for entry in tried)
    raise GateError(
        f"nothing kept within quantize.max_drop {cfg.max_drop}: {told}", "raise max_drop, or use backend qat"
    )


class _FellTooFarError(Exception):
    def __init__(self, entry: dict[str, Any]) -> None:
        super().__init__(entry)
        self.entry = entry


def _one(job: Job, name: str, tried: list[dict[str, Any]], out: Path, key: str) -> Artifact:
    made = job.work / "made"
    made.mkdir()
    converted: Converted = plugins.find("quantize.backends", name).convert(job, made)
    if converted.runtime == "onnx":
        job.source.processor.save(made)
        for said in SAID if job.source.info.generates else ():
            if (job.source.path / said).is_file():
                shutil.copyfile(job.source.path / said, made / said)
    source, ctx = job.source, job.ctx
    manifest = source.manifest.model_copy(
        update={
            "runtime": converted.runtime,
            "info": converted.info or source.info,
            "stage": ctx.stage,
            "key": key,
            "history": (*source.manifest.history, {"stage": ctx.stage, "backend": name}),
            "facts": {
                **kept(source),
                "backend": name,
                "format": "onnx" if converted.runtime == "onnx" else "safetensors",
                "source_digest": source.digest,
                "cpu": cpu.facts(),
                "tried_before": tried,
                **converted.facts,
            },
        }
    )

    def check(artifact: Artifact) -> dict[str, Any]:
        found = judge(source, artifact, job.splits, ctx) | _sizes(job, artifact)
        score, drop = _drop(found)
        if job.cfg.max_drop is not None and drop > job.cfg.max_drop:
            why = f"validation {score} fell by {drop:.4f}, allowed {job.cfg.max_drop:g}"
            raise _FellTooFarError({"backend": name, "why": why, **found})
        ctx.say(_told(name, found))
        return found

    return write_checked(out, manifest, lambda folder: _move(made, folder), check, finish=card.write)


def _drop(found: dict[str, Any]) -> tuple[str, float]:
    """Return the name of the score that max_drop is about, and by how much it fell."""
    name = "token_accuracy" if "token_accuracy_drop" in found else "f1_macro"
    return {"token_accuracy": "token accuracy", "f1_macro": "macro-F1"}[name], found[f"{name}_drop"]


def _told(name: str, found: dict[str, Any]) -> str:
    if "token_accuracy" in found:
        return (
            f"{name}: {found['source_bytes'] / found['bytes']:.2f} times smaller, agreement of next tokens "
            f"{found['agreement']:.4f}, KL {found['kl_nats']:.2g} nats per token, validation token accuracy "
            f"{found['token_accuracy_source']:.4f} -> {found['token_accuracy']:.4f}"
        )
    return (
        f"{name}: {found['source_bytes'] / found['bytes']:.2f} times smaller, "
        f"agreement {found['agreement']:.4f}, KL {found['kl_nats']:.2g} nats, "
        f"validation macro-F1 {found['f1_macro_source']:.4f} -> {found['f1_macro']:.4f}"
    )


def _sizes(job: Job, artifact: Artifact) -> dict[str, int]:
    """Return bytes of the weight files on disk: the source's, the source's in the same format, and the result's.

    Raises:
        ArtifactError: the result is not smaller than the source in the same format.
    """
    source, made = weight_bytes(job.source.path), weight_bytes(artifact.path)
    alike = weight_bytes(job.onnx().path) if artifact.manifest.runtime == "onnx" else source
    if made >= alike:
        raise ArtifactError(
            f"the quantized file has {made:,} bytes, its source in the same format {alike:,}",
            "the model is too small to gain: leave quantization out",
        )
    if made >= source:
        job.ctx.say(
            f"the quantized file ({made:,} bytes) is not smaller than {job.source.path} ({source:,})", "warning"
        )
    return {"source_bytes": source, "source_same_format_bytes": alike, "bytes": made}


def weight_bytes(folder: Path) -> int:
    """Return the bytes of the files that hold weights."""
    return sum(f.stat().st_size for f in folder.iterdir() if f.suffix in WEIGHTS)


def _move(made: Path, folder: Path) -> None:
    for file in made.iterdir():
        shutil.move(str(file), folder / file.name)


@contextmanager
def _job(
    source: Artifact,
    cfg: Quantize,
    distill_cfg: Distill,
    splits: Splits,
    ctx: Context,
    out: Path,
    onnx: Artifact | None,
) -> Iterator[Job]:
    work = out.with_name(f".{out.name}.scratch")
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(parents=True)
    try:
        yield Job(source, cfg, distill_cfg, splits, ctx, work, out, onnx)
    finally:
        shutil.rmtree(work, ignore_errors=True)
