"""TensorBoard: event files in <run>/tensorboard; `tensorboard --logdir runs` compares runs.

Scalars are <stage>/<name>: of training (loss, its parts, lr, grad_norm, validation scores) over the optimizer's steps,
of the measured artifacts (measured/<metric>) at step 0. The final table is the text `result`.
"""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.errors import UnavailableError
from lessen.events import Event, Progress, RowMeasured, RunFinished

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SHOWN = ("f1_macro", "bleu", "perplexity", "parameters", "file_bytes", "latency_p50_ms", "speedup")


def require() -> None:
    """Refuse where the library is not installed.

    Raises:
        UnavailableError: it is not.
    """
    if find_spec("tensorboard") is None:
        raise UnavailableError("the logger tensorboard needs a library that is not here", "pip install lessen[loggers]")


def open(folder: Path) -> _Writer:
    """Return what writes below the folder of a run; files are made with the first number."""
    return _Writer(folder / "tensorboard")


class _Writer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: SummaryWriter | None = None
        self._written: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Write the numbers of an event."""
        if isinstance(event, Progress):
            loss = {} if event.loss is None else {"loss": event.loss}
            self._scalars(event.stage, {**event.values, **loss}, event.step)
        elif isinstance(event, RowMeasured):
            self._scalars(f"{event.stage}/measured", event.metrics, 0)
        elif isinstance(event, RunFinished):
            self._result(Path(event.report))

    def close(self) -> None:
        """Close the file."""
        if self._made is not None:
            self._made.close()

    def _writer(self) -> SummaryWriter:
        if self._made is None:
            from torch.utils.tensorboard import SummaryWriter

            self._made = SummaryWriter(str(self.folder))
        return self._made

    def _scalars(self, place: str, values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._writer().add_scalar(f"{place}/{name}", value, step)
                self._written.add(f"{place}/{name}")

    def _result(self, file: Path) -> None:
        """Write what was measured last, as speed is, and the table."""
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        values = {row["stage"]: {name: found["value"] for name, found in row["metrics"].items()} for row in rows}
        for stage, metrics in values.items():
            new = {k: v for k, v in metrics.items() if f"{stage}/measured/{k}" not in self._written}
            self._scalars(f"{stage}/measured", new, 0)
        columns = [name for name in SHOWN if any(metrics.get(name) is not None for metrics in values.values())]
        lines = ["| stage | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for stage, metrics in values.items():
            cells = ["" if metrics.get(name) is None else f"{metrics[name]:.6g}" for name in columns]
            lines.append(f"| {stage} | " + " | ".join(cells) + " |")
        self._writer().add_text("result", "\n".join(lines))
