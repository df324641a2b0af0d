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
    "retention": ("retained macro-F1", 1),
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


def title(name: str) -> str:
    """Return a metric's name for people."""
    return TITLES.get(name, (name.replace("_", " "), 0))[0]


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
    if unit in ("share", "nats"):
        return f"{value:.4f}" + ("" if bare or unit == "share" else " nats")
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
