"""Runs as jobs of a server: one process a run, a queue, cancel, resume, and the runs of others beside them."""

from __future__ import annotations

from lessen.jobs.notices import Events, Notice, Resources, State
from lessen.jobs.supervisor import Supervisor
from lessen.jobs.timing import Timing

__all__ = ["Events", "Notice", "Resources", "State", "Supervisor", "Timing"]
