"""HTTP /api/v1: one file a noun. What each route takes and gives stands in shapes.py."""

from __future__ import annotations

from fastapi import APIRouter

from lessen.server.problems import PROBLEMS
from lessen.server.v1 import (
    artifacts,
    compare,
    events,
    layers,
    predictions,
    recipes,
    runs,
    samples,
    stages,
    system,
)

router = APIRouter(responses=PROBLEMS)
for part in (runs, events, stages, layers, samples, artifacts, predictions, compare, recipes, system):
    router.include_router(part.router, prefix="/api/v1")
router.include_router(events.unversioned, prefix="/api/v1")
router.include_router(events.unversioned)
router.include_router(system.unversioned)
