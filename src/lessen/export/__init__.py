"""Stage: write the model in formats that other programs read, reopen each, and compare its answers with the source's.

A format is a file of `export/formats`:
    refuse(source) -> str | None    why this artifact cannot take the form
    fill(source, folder) -> None    write the model's files
    facts(folder) -> dict           what is known of them
    RUNTIME                         the runtime that answers; None: the source's own
    check(source, made, splits)     optional: read by the programs the form is for; returns differences by name
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen import plugins
from lessen.artifact import Artifact, Manifest
from lessen.artifact import write as write_artifact
from lessen.context import Context
from lessen.errors import ArtifactError
from lessen.export import card, parity, sequences

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import Export

KEPT = ("session_config", "model", "shape")  # facts that hold for every form of a model


def export(
    source: Artifact, cfg: Export, splits: Splits | None, ctx: Context, *, out: Path, key: str = ""
) -> list[Artifact]:
    """Write one folder per format below `out`; all formats are checked before the first is written.

    Args:
        source: any artifact; its files are only read.
        splits: answers are compared on validation inputs; None: on made-up inputs of the right form.
        out: parent of the folders, which are named after their formats.
        key: digest under which the finished stage is found again.

    Raises:
        UnknownNameError: a format does not exist.
        ArtifactError: a format cannot hold this model, or its answers differ by more than `cfg.tolerance`.
    """
    for name in cfg.formats:
        reason = plugins.find("export.formats", name).refuse(source)
        if reason:
            raise ArtifactError(f"format {name}: {reason}", "see `lessen export --help` for the formats")
    return [_one(source, name, cfg.tolerance, splits, ctx, out / name, key) for name in cfg.formats]


def _one(
    source: Artifact, name: str, tolerance: float, splits: Splits | None, ctx: Context, out: Path, key: str
) -> Artifact:
    ctx.check()
    form = plugins.find("export.formats", name)
    manifest = source.manifest.model_copy(
        update={
            "runtime": form.RUNTIME or source.manifest.runtime,
            "stage": ctx.stage,
            "key": key,
            "history": (*source.manifest.history, {"stage": ctx.stage, "format": name}),
            "facts": kept(source),
        }
    )

    def check(made: Artifact) -> dict[str, Any]:
        found = parity.differences(source, made, splits)
        if hasattr(form, "check"):
            found |= form.check(source, made, splits)
        worst = max(found, key=lambda shape: found[shape])
        if not found[worst] <= tolerance:  # a NaN fails too
            raise ArtifactError(
                f"{name} answers differ from the source's by {found[worst]:.3g} ({worst}); allowed is {tolerance:g}",
                "raise export.tolerance if you accept that",
            )
        texts = sequences.texts(source, made, splits, tolerance) if source.info.generates else {}
        ctx.say(f"{name}: largest difference of a logit {found[worst]:.2g}, allowed {tolerance:g}")
        return {
            "format": name,
            "source_digest": source.digest,
            "tolerance": tolerance,
            "max_abs_difference": found,
            **texts,
            **form.facts(made.path),
        }

    return write_checked(out, manifest, lambda folder: form.fill(source, folder), check, finish=card.write)


def kept(source: Artifact) -> dict[str, Any]:
    """Return the facts of a source that hold for its other forms: how it is opened, how it came to be, its shape."""
    return {name: source.manifest.facts[name] for name in KEPT if name in source.manifest.facts}


def write_checked(
    out: Path,
    manifest: Manifest,
    fill: Callable[[Path], None],
    check: Callable[[Artifact], dict[str, Any]],
    *,
    finish: Callable[[Path, Manifest], None] | None = None,
) -> Artifact:
    """Write an artifact aside, reopen and check it, and only then put it in place with what the check found.

    Args:
        check: returns facts for the manifest, or raises: then nothing is left behind.
        finish: adds files that need these facts, such as a model card.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.trial")
    try:
        trial = write_artifact(aside, manifest, fill)
        complete = manifest.model_copy(update={"facts": {**manifest.facts, **check(trial)}})

        def place(folder: Path) -> None:
            for file in trial.manifest.files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(trial.path / file, folder / file)
            if finish is not None:
                finish(folder, complete)

        return write_artifact(out, complete, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for whole in (aside, out):
            shutil.rmtree(whole.with_name(f".{whole.name}.partial"), ignore_errors=True)
