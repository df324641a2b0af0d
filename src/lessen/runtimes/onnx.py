"""ONNX Runtime on the CPU: one file answers, without torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.errors import ArtifactError
from lessen.info import Floats
from lessen.runtimes import need

if TYPE_CHECKING:
    from lessen.artifact import Artifact

PIP = "onnxruntime>=1.31"
FILE = "model.onnx"


class OnnxSession:
    """An open ONNX model."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.inputs: tuple[str, ...] = tuple(i.name for i in session.get_inputs())

    def logits(self, batch: dict[str, np.ndarray[Any, Any]]) -> Floats:
        """Return logits [batch, outputs] of a collated batch; inputs that the model does not take are left out."""
        (out,) = self.session.run(None, {name: batch[name] for name in self.inputs})
        return np.asarray(out, dtype=np.float32)


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_session(artifact: Artifact, device: str = "cpu", threads: int | None = None) -> OnnxSession:
    """Open an ONNX artifact.

    Threads do not spin while they wait: a spinning pool slows whatever else runs beside it (onnxruntime #13808).

    Args:
        artifact: a folder with model.onnx.
        device: cpu.
        threads: threads within an operator; None: every core this process may use.

    Raises:
        ArtifactError: the device is not the CPU, or the file cannot be opened.
        UnavailableError: onnxruntime is not installed.
    """
    if not device.startswith("cpu"):
        raise ArtifactError(f"{artifact.path} answers in ONNX Runtime on the CPU, not on {device}", "use device cpu")
    ort = need("onnxruntime", PIP)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, value in artifact.manifest.facts.get("session_config", {}).items():
        options.add_session_config_entry(name, value)
    try:
        session = ort.InferenceSession(str(artifact.path / FILE), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated kinds
        raise ArtifactError(f"{artifact.path / FILE} cannot be opened: {error}", "make the artifact again") from error
    return OnnxSession(session)
