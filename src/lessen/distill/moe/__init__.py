"""Teachers that are mixtures of experts: their routers, which experts speak, and routers that learn (SAR)."""

from __future__ import annotations

from lessen.distill.moe.routers import Router, describe, fingerprint, routers
from lessen.distill.moe.routing import How, routed, routing
from lessen.distill.moe.sar import Sar, SarSide

__all__ = ["How", "Router", "Sar", "SarSide", "describe", "fingerprint", "routed", "routers", "routing"]
