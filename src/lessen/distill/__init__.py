"""Distil: train a student on a frozen teacher's answers."""

from __future__ import annotations

from lessen.distill.probe import probe
from lessen.distill.stage import control, distill
from lessen.distill.teaching import teaching_loss

__all__ = ["control", "distill", "probe", "teaching_loss"]
