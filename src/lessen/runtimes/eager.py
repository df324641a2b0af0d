"""Plain PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lessen.artifact import Artifact
from lessen.info import Floats
from lessen.models import open_model


class EagerSession:
    """A module in evaluation mode."""

    def __init__(self, module: torch.nn.Module, device: str) -> None:
        self.module, self.device = module, device
        self.dtype = next(p.dtype for p in module.parameters() if p.is_floating_point())

    @torch.inference_mode()
    def logits(self, batch: dict[str, np.ndarray[Any, Any]]) -> Floats:
        """Return logits, shape [batch, outputs], fp32."""
        inputs = {name: torch.from_numpy(values).to(self.device) for name, values in batch.items()}
        inputs = {n: t.to(self.dtype) if t.is_floating_point() else t for n, t in inputs.items()}
        out: Floats = self.module(**inputs).logits.float().cpu().numpy()
        return out


def open_session(artifact: Artifact, device: str = "cpu", threads: int | None = None) -> EagerSession:
    """Open a torch artifact.

    Args:
        artifact: a folder with model.safetensors.
        device: cpu, cuda, cuda:N.
        threads: CPU threads of this process's torch; none: as they are.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model = open_model(artifact, device)
    return EagerSession(model.module, device)
