"""The README.md and how_to_load.py beside an exported model. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lessen import __version__
from lessen.artifact import CARD, MANIFEST, Manifest
from lessen.models import hub

SNIPPETS = Path(__file__).parent / "snippets"
LOADER = "how_to_load.py"
KINDS = {"text-classification": "text", "image-classification": "image", "seq2seq": "seq2seq", "causal-lm": "causal"}
HUB = {"seq2seq": "text2text-generation", "causal-lm": "text-generation"}  # the hub's names of tasks, where not ours


@dataclass(frozen=True)
class Measured:
    """What a run's report adds to the card of what it made."""

    teacher: str  # as the recipe names it
    front: dict[str, Any] = field(default_factory=dict)  # datasets, model-index
    lines: Sequence[str] = ()  # the sections on quality, speed and data


def write(folder: Path, manifest: Manifest) -> None:
    """Write the model card and the loader of an exported model into its folder."""
    snippet = SNIPPETS / f"{snippet_of(manifest)}.py"
    (folder / LOADER).write_text(snippet.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / CARD).write_text(text(folder, manifest), encoding="utf-8")


def snippet_of(manifest: Manifest) -> str:
    """Return the name of the loader that fits: onnx_text, huggingface_image, lessen_folder, ..."""
    form = manifest.facts["format"]
    if form == "huggingface":
        return f"huggingface_{KINDS[manifest.info.task]}"
    if manifest.info.generates:
        return "lessen_texts"
    return "lessen_folder" if form == "safetensors" else f"{form}_{KINDS[manifest.info.task]}"


def text(folder: Path, manifest: Manifest, run: Measured | None = None) -> str:
    """Return the model card; every number in it comes from the manifest, from the files or from the run's report.

    Args:
        run: absent where there is no report (yet).
    """
    info = manifest.info
    files = [(f.name, f.stat().st_size) for f in sorted(folder.iterdir()) if f.is_file()]
    parts = [
        *_front(manifest, run),
        "",
        f"# {info.family} for {info.task}, {manifest.facts['format']}",
        "",
        f"Made by lessen {__version__} from `{plain(run.teacher if run else info.source)}`.",
        "",
        "| | |",
        "|---|---|",
        *([f"| labels | {_labels(info.labels)} |"] if info.labels else []),
        f"| output | {_output(info)} |",
        f"| runtime | {manifest.runtime} |",
        *(f"| {name} | {size:,} bytes |" for name, size in files if name not in (CARD, MANIFEST)),
        *_weights(manifest.facts.get("weights")),
        "",
        "## Stages",
        "",
        *(f"{number}. {_step(step)}" for number, step in enumerate(manifest.history, 1)),
        "",
        *_compared(manifest.facts),
        *(run.lines if run else ()),
        "## Use",
        "",
        "```sh",
        f"python {LOADER} {'image.png' if info.task.startswith('image') else repr('a text')}",
        "```",
        "",
        "## Licence",
        "",
        _licence(run.teacher if run else info.source),
        "",
    ]
    if run is None:
        parts += ["Quality, latency and memory stand in the `report.json` of the run that made it.", ""]
    return "\n".join(parts)


def _front(manifest: Manifest, run: Measured | None) -> list[str]:
    """Return the front matter, as the hub reads it."""
    teacher, task = run.teacher if run else manifest.info.source, manifest.info.task
    tags = ["lessen", manifest.facts["format"], *sorted({str(step.get("stage")) for step in manifest.history})]
    front = {
        "license": hub.licence(teacher) or "unknown",
        **({"base_model": teacher} if hub.is_id(teacher) else {}),
        "pipeline_tag": HUB.get(task, task),
        "tags": list(dict.fromkeys(tags)),
        **(run.front if run else {}),
    }
    return ["---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(), "---"]


def _licence(teacher: str) -> str:
    given = hub.licence(teacher)
    if teacher == "teacher":
        return "Not known here: the teacher's licence applies."
    where = f"https://huggingface.co/{teacher}" if hub.is_id(teacher) else f"where `{plain(teacher)}` came from"
    if given:
        return f"`{given}`, as the teacher's own card says; see {where}."
    if teacher.startswith("scratch:"):
        return "None was given: the teacher began with random weights. The terms of the data apply."
    return f"Not known here: the teacher's licence applies; see {where}."


def plain(text: str) -> str:
    """Return text that can stand between backticks in a table; of a path only its end, which names no person."""
    flat = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return Path(flat).name if flat.startswith(("/", "~", ".")) else flat


def _compared(facts: dict[str, Any]) -> list[str]:
    """Return what was found when the folder was reopened beside the model it was made from."""
    if "max_abs_difference" in facts and isinstance(facts["max_abs_difference"], dict):
        return [
            "## Same answers as its source",
            "",
            f"Reopened and compared with the model it was made from; allowed: {facts['tolerance']:g}.",
            "",
            "| compared on | largest difference of a logit |",
            "|---|---|",
            *(f"| {shape} | {value:.2g} |" for shape, value in facts["max_abs_difference"].items()),
            "",
            *_texts(facts),
        ]
    return [
        "## How far it answers from its source",
        "",
        f"Reopened and compared with the model it was made from, on {facts['samples']:.0f} validation samples.",
        "",
        "| | |",
        "|---|---|",
        f"| backend | {facts['backend']} |",
        f"| weight file | {facts['source_bytes']:,} -> {facts['bytes']:,} bytes |",
        *_scores(facts),
        f"| weights left in floating point | {facts['weights']['float_share']:.1%} |",
        "",
    ]


def _texts(facts: dict[str, Any]) -> list[str]:
    if "texts" not in facts:
        return []
    same, all_ = facts["texts_identical"], facts["texts"]
    return [f"Of {all_} texts generated greedily, {same} are the same token for token.", ""]


def _scores(facts: dict[str, Any]) -> list[str]:
    if "token_accuracy" not in facts:
        return [
            f"| equal decisions | {facts['agreement']:.4f} |",
            f"| KL divergence | {facts['kl_nats']:.2g} nats |",
            f"| validation macro-F1 | {facts['f1_macro_source']:.4f} -> {facts['f1_macro']:.4f} |",
        ]
    return [
        f"| equal next tokens, of {facts['tokens']:,.0f} | {facts['agreement']:.4f} |",
        f"| KL divergence | {facts['kl_nats']:.2g} nats per token |",
        f"| validation token accuracy | {facts['token_accuracy_source']:.4f} -> {facts['token_accuracy']:.4f} |",
    ]


def _labels(labels: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{plain(label)}`" for label in labels[:20])
    return shown if len(labels) <= 20 else f"{shown} and {len(labels) - 20} more"


def _output(info: Any) -> str:
    if info.generates:
        return "tokens; a label is the likeliest of the label words" if info.labels else "tokens"
    if info.multi_label:
        return f"one logit a label, sigmoid, on from {info.threshold:g}"
    if info.one_logit:
        return f"one logit, sigmoid, `{info.labels[1]}` from {info.threshold:g}"
    if len(info.labels) == 2:
        return f"two logits, softmax, `{info.labels[1]}` from {info.threshold:g}"
    return f"{len(info.labels)} logits, softmax"


def _weights(weights: dict[str, Any] | None) -> list[str]:
    if not weights:
        return []
    kinds = ", ".join(f"{count:,} {name}" for name, count in weights["by_type"].items())
    return [f"| stored numbers | {kinds} |"]


def _step(step: dict[str, Any]) -> str:
    more = {k: v for k, v in step.items() if k != "stage" and isinstance(v, str | int | float)}
    detail = ", ".join(f"{k} {v}" for k, v in more.items())
    return f"{step.get('stage')}{f' ({detail})' if detail else ''}"
