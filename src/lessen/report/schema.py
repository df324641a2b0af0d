"""The published JSON Schema of report.json, generated from the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lessen.report.rows import Report

FILE = Path(__file__).with_name("report.schema.json")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of report.json."""
    schema = Report.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "lessen report",
    }


def text() -> str:
    """Return the schema as it is published."""
    return json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
