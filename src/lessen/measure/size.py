"""How large an artifact is: four numbers, each counted from its files.

Parameters are the model's logical weights (a packed INT4 weight counts as the numbers it holds, scales and zero
points count as none); file bytes are those of the files that are needed to run it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.measure import weights
from lessen.measure.metric import Metrics, derived, measured, missing

if TYPE_CHECKING:
    from lessen.artifact import Artifact

NOT_NEEDED = (".md", ".html", ".txt.bak", ".log", ".csv", ".py")
_CHUNK = 1 << 20


def run_files(artifact: Artifact) -> list[Path]:
    """List the files that are needed to run the artifact: weights, configuration, processor, manifest.

    Model cards, logs and loader scripts are left out.
    """
    from lessen.artifact import MANIFEST

    names = [name for name in artifact.manifest.files if Path(name).suffix.lower() not in NOT_NEEDED]
    return [artifact.path / name for name in sorted({*names, MANIFEST})]


def compressed_bytes(files: list[Path], level: int = 6) -> int:
    """Return the bytes of the files after gzip at `level`, each file by itself, streamed."""
    total = 0
    for file in files:
        packer = zlib.compressobj(level, zlib.DEFLATED, 31)  # with gzip's head and tail
        total += sum(len(packer.compress(chunk)) for chunk in _chunks(file)) + len(packer.flush())
    return total


def size(artifact: Artifact) -> tuple[Metrics, dict[str, Any]]:
    """Return the size metrics of an artifact, and facts: bytes per file, weight elements per number format."""
    files = run_files(artifact)
    lengths = {file.name: file.stat().st_size for file in files}
    metrics: Metrics = {
        "file_bytes": measured(sum(lengths.values()), "bytes", n=len(files)),
        "file_bytes_compressed": measured(compressed_bytes(files), "bytes", n=len(files)),
    }
    tally = weights.count(artifact.path)
    if tally is None:
        reason = f"no .safetensors or .onnx file in {artifact.path.name}: weights of this format are not counted"
        metrics |= {name: missing("count", reason) for name in ("parameters", "nonzero_parameters")}
        metrics["sparsity"] = missing("share", reason)
        return metrics, {"files": lengths}
    metrics["parameters"] = measured(tally.parameters, "count")
    metrics["nonzero_parameters"] = measured(tally.nonzero, "count")
    metrics["sparsity"] = derived(
        1 - tally.nonzero / tally.parameters if tally.parameters else 0.0,
        "share",
        "1 - nonzero_parameters / parameters",
    )
    return metrics, {"files": lengths, "weight_formats": tally.formats, "precision": tally.precision}


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
