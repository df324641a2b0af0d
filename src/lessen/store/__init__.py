"""The server's index of runs, events and uploads: one SQLite file beside the runs."""

from __future__ import annotations

from lessen.store.index import FILE, FOLDER, Store
from lessen.store.records import RunRecord, Upload

__all__ = ["FILE", "FOLDER", "RunRecord", "Store", "Upload"]
