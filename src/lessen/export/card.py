"""The README.md and how_to_load.py beside an exported model. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lessen import __version__
from lessen.artifact import Manifest

SNIPPETS = Path(__file__).parent / "snippets"
LOADER = "how_to_load.py"
KINDS = {"text-classification": "text", "image-classification": "image", "seq2seq": "seq2seq", "causal-lm": "causal"}
HUB = {"seq2seq": "text2text-generation", "causal-lm": "text-generation"}  # the hub's names of tasks, where not ours


def write(folder: Path, manifest: Manifest) -> None:
    """Write the model card and the loader of an exported model into its folder."""
    snippet = SNIPPETS / f"{snippet_of(manifest)}.py"
    (folder / LOADER).write_text(snippet.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "README.md").write_text(text(folder, manifest), encoding="utf-8")


def snippet_of(manifest: Manifest) -> str:
    """Return the name of the loader that fits: onnx_text, huggingface_image, lessen_folder, ..."""
    form = manifest.facts["format"]
    if form == "huggingface":
        return f"huggingface_{KINDS[manifest.info.task]}"
    if manifest.info.generates:
        return "lessen_texts"
    return "lessen_folder" if form == "safetensors" else f"{form}_{KINDS[manifest.info.task]}"


def text(folder: Path, manifest: Manifest) -> str:
    """Return the model card; every number in it comes from the manifest or from the files."""
    info = manifest.info
    tags = ["lessen", manifest.facts["format"], *sorted({str(step.get("stage")) for step in manifest.history})]
    files = [(f.name, f.stat().st_size) for f in sorted(folder.iterdir()) if f.is_file()]
    parts = [
        "---",
        f"pipeline_tag: {HUB.get(info.task, info.task)}",
        "tags:",
        *(f"- {tag}" for tag in dict.fromkeys(tags)),
        "---",
        "",
        f"# {info.family} for {info.task}, {manifest.facts['format']}",
        "",
        f"Made by lessen {__version__} from `{info.source}`.",
        "",
        "| | |",
        "|---|---|",
        *([f"| labels | {_labels(info.labels)} |"] if info.labels else []),
        f"| output | {_output(info)} |",
        f"| runtime | {manifest.runtime} |",
        *(f"| {name} | {size:,} bytes |" for name, size in files),
        *_weights(manifest.facts.get("weights")),
        "",
        "## Stages",
        "",
        *(f"{number}. {_step(step)}" for number, step in enumerate(manifest.history, 1)),
        "",
        *_compared(manifest.facts),
        "## Use",
        "",
        "```sh",
        f"python {LOADER} {'image.png' if info.task.startswith('image') else repr('a text')}",
        "```",
        "",
        "Quality, latency and memory stand in the `report.json` of the run that made it.",
        "",
    ]
    return "\n".join(parts)


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
    shown = ", ".join(f"`{label}`" for label in labels[:20])
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
