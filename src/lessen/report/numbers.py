"""How numbers are shown to people. Files for programs carry them as they are."""

from __future__ import annotations

from lessen.measure.metric import Metric

DASH = "–"
# name, short title, better direction (+1 higher, -1 lower, 0 neither)
TITLES: dict[str, tuple[str, int]] = {
    "accuracy": ("accuracy", 1),
    "f1_macro": ("macro-F1", 1),
    "f1_weighted": ("weighted F1", 1),
    "precision_macro": ("macro precision", 1),
    "recall_macro": ("macro recall", 1),
    "roc_auc": ("ROC-AUC", 1),
    "hamming_loss": ("Hamming loss", -1),
    "agreement_with_teacher": ("agreement with teacher", 1),
    "expected_calibration_error": ("calibration error", -1),
    "nll": ("NLL", -1),
    "retention": ("retained quality", 1),
    "perplexity": ("perplexity", -1),
    "perplexity_ratio": ("perplexity, of the teacher's", -1),
    "nll_per_token": ("NLL a token", -1),
    "bits_per_byte": ("bits a byte", -1),
    "token_accuracy": ("token accuracy", 1),
    "token_agreement": ("token agreement", 1),
    "kl_to_teacher": ("KL to teacher, a token", -1),
    "bleu": ("BLEU", 1),
    "chrf": ("chrF", 1),
    "rouge_l": ("ROUGE-L", 1),
    "exact_match": ("exact matches", 1),
    "no_label_share": ("generated, no label", -1),
    "generated_tokens": ("tokens a generated text", 0),
    "tokens_scored": ("tokens scored", 0),
    "answer_tokens": ("tokens of a timed answer", 0),
    "first_token_ms": ("first token", -1),
    "first_token_p95_ms": ("first token p95", -1),
    "token_ms": ("next token", -1),
    "token_p95_ms": ("next token p95", -1),
    "tokens_per_s": ("tokens/s", 1),
    "batch_first_token_ms": ("first token, batch", -1),
    "batch_token_ms": ("next token, batch", -1),
    "batch_tokens_per_s": ("tokens/s, batch", 1),
    "active_parameters": ("active parameters", -1),
    "flops_per_token": ("FLOPs a token", -1),
    "parameters": ("parameters", -1),
    "nonzero_parameters": ("non-zero parameters", -1),
    "sparsity": ("zeros", 0),
    "file_bytes": ("files", -1),
    "file_bytes_compressed": ("files, compressed", -1),
    "flops": ("FLOPs", -1),
    "layers": ("layers", 0),
    "latency_p50_ms": ("latency p50", -1),
    "latency_p95_ms": ("latency p95", -1),
    "latency_p99_ms": ("latency p99", -1),
    "batch_latency_p50_ms": ("batch latency p50", -1),
    "throughput_per_s": ("throughput", 1),
    "cpu_time_ms": ("CPU time a call", -1),
    "speedup": ("speed-up", 1),
    "batch_speedup": ("speed-up, batch", 1),
    "cpu_speedup": ("speed-up, CPU time", 1),
    "peak_rss_bytes": ("peak memory", -1),
    "import_rss_bytes": ("memory, imports only", -1),
    "open_ms": ("time to open", -1),
}


# metrics of held-out texts: perplexity_wikitext
_OF_TEXTS = ("nll_per_token", "perplexity", "bits_per_byte", "token_accuracy", "tokens_scored")


def title(name: str) -> str:
    """Return a metric's name for people."""
    if name in TITLES:
        return TITLES[name][0]
    stem, text = _of_text(name)
    return f"{TITLES[stem][0]}, {text}" if stem else name.replace("_", " ")


def lower_is_better(name: str) -> bool:
    """Whether less of a metric is better."""
    return TITLES.get(name, TITLES.get(_of_text(name)[0], ("", 0)))[1] < 0


def _of_text(name: str) -> tuple[str, str]:
    stem = next((s for s in _OF_TEXTS if name.startswith(f"{s}_")), "")
    return stem, name.removeprefix(f"{stem}_")


def show(metric: Metric | None, *, interval: bool = False) -> str:
    """Return a metric's value with its unit, a dash where there is none."""
    if metric is None or metric.value is None:
        return DASH
    text = number(metric.value, metric.unit)
    if interval and metric.ci95:
        low, high = (number(v, metric.unit, bare=True) for v in metric.ci95)
        text += f" [{low}, {high}]"
    return text


def number(value: float, unit: str, *, bare: bool = False) -> str:
    """Return a value with its unit: MB are 10^6 bytes, shares stay shares, ratios get a multiplication sign."""
    if unit == "bytes":
        return scaled(value, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1)))
    if unit == "FLOP":
        return scaled(value, (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3), ("FLOP", 1)))
    if unit == "count":
        small = abs(value) < 10_000
        return f"{value:,.0f}" if small else scaled(value, (("G", 1e9), ("M", 1e6), ("k", 1e3)))
    if unit == "ratio":
        return f"{significant(value)}×"
    if unit == "points":
        return f"{value:.2f}"
    if unit == "perplexity":
        return f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    if unit in ("share", "nats", "bits"):  # titles say of what: bits a byte
        return f"{value:.4f}" + (" nats" if unit == "nats" and not bare else "")
    suffix = {"per_s": "/s", "ms": "ms", "s": "s"}.get(unit, unit)
    return f"{significant(value)}" + ("" if bare else f"{'' if suffix == '/s' else ' '}{suffix}")


def tick(value: float, unit: str) -> str:
    """Return a round value of an axis, without zeros that say nothing."""
    figure, _, name = number(value, unit).partition(" ")
    short = figure.rstrip("0").rstrip(".") if "." in figure else figure
    return f"{short} {name}".strip()


def scaled(value: float, scales: tuple[tuple[str, float], ...]) -> str:
    """Return a value in the largest unit that leaves at least 1 before the point, three figures."""
    for name, size in scales:
        if abs(value) >= size:
            return f"{significant(value / size)} {name}"
    return f"{significant(value)} {scales[-1][0] if scales[-1][1] == 1 else ''}".rstrip()


def significant(value: float) -> str:
    """Return three significant figures, thousands with commas."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def points(change: float) -> str:
    """Return a change of a share in percentage points, signed."""
    return f"{change * 100:+.2f} points".replace("-", "−")
