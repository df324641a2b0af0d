"""ONNX Runtime on the CPU, without torch: one file answers, or a few that generate (see `onnx_decoder`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.errors import ArtifactError
from lessen.info import Floats
from lessen.runtimes import need

if TYPE_CHECKING:
    from pathlib import Path

    from lessen.artifact import Artifact
    from lessen.runtimes._onnx_decoder import OnnxDecoder

PIP = "onnxruntime>=1.31"
FILE = "model.onnx"  # of a classifier, and of a causal language model
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"  # of a sequence-to-sequence model
SAID = ("config.json", "generation_config.json")  # longest text; start, end and padding tokens: for whoever generates
SHARED = "shared.bin"  # what both of them hold, such as a tied table


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


def files(task: str) -> tuple[str, ...]:
    """Return the names of the ONNX files of a task's models."""
    return (ENCODER, DECODER) if task == "seq2seq" else (FILE,)


def open_session(artifact: Artifact, device: str = "cpu", threads: int | None = None) -> OnnxSession | OnnxDecoder:
    """Open an ONNX artifact.

    Threads do not spin while they wait: a spinning pool slows whatever else runs beside it (onnxruntime #13808).

    Args:
        artifact: a folder with model.onnx, or with encoder.onnx and decoder.onnx.
        device: cpu.
        threads: threads within an operator; None: every core this process may use.

    Raises:
        ArtifactError: the device is not the CPU, or a file cannot be opened.
        UnavailableError: onnxruntime is not installed.
    """
    if not device.startswith("cpu"):
        raise ArtifactError(f"{artifact.path} answers in ONNX Runtime on the CPU, not on {device}", "use device cpu")
    config = artifact.manifest.facts.get("session_config", {})
    opened = [open_file(artifact.path / name, config, threads) for name in files(artifact.info.task)]
    if not artifact.info.generates:
        return OnnxSession(opened[0])
    from lessen.runtimes._onnx_decoder import OnnxDecoder

    text: Any = artifact.processor
    return OnnxDecoder(opened, text.vocab_size)


def open_file(file: Path, config: dict[str, str], threads: int | None = None) -> Any:
    """Return onnxruntime's session of a file.

    Args:
        config: further settings of the session.

    Raises:
        ArtifactError: it cannot be opened.
    """
    ort = need("onnxruntime", PIP)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, value in config.items():
        options.add_session_config_entry(name, value)
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated kinds
        raise ArtifactError(f"{file} cannot be opened: {error}", "make the artifact again") from error
