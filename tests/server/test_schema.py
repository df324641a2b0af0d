"""schemathesis against the application: what it answers is what /openapi.json says, whatever is asked.

The queue does not start (max_running=0), so that accepted runs wait and are never carried out.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

import animals
from lessen.server.app import create_app
from lessen.server.settings import Settings
from served import eventually

pytestmark = pytest.mark.slow
PLENTY = {"starts_per_minute": 10**6, "reads_per_minute": 10**6, "writes_per_minute": 10**6, "logins_per_minute": 10**6}
EXAMPLES = 20  # requests of each kind to each operation
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance, ignored_auth, unsupported_method,
]  # fmt: skip
HEAVY = {"/test_model", "/api/v1/predictions", "/api/v1/recipes/check"}  # ask the helper process, which imports torch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: one that the shell carried out, so that reports, layers and samples have something to show."""
    folder = tmp_path_factory.mktemp("schema")
    values = animals.values(animals.table(folder), pipeline="kd_prune_quant")
    (folder / "recipe.json").write_text(json.dumps(values, default=str))
    done = subprocess.run(
        [sys.executable, "-m", "lessen", "run", str(folder / "recipe.json"), "--output_dir",
        str(folder / "runs" / "finished"), "--json"],
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def api(root: Path) -> Iterator[Any]:
    values: dict[str, Any] = {"root": root / "runs", "token_file": root / "token", "max_running": 0, **PLENTY}
    app = create_app(Settings(**values))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually(lambda: server.started and app.state.service.store.list()[1], 30)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/openapi.json"
            found = schemathesis.openapi.from_url(url, headers=bearer(root))
            yield found.exclude(path="/api/v1/token/rotate")  # else every later request is refused; see test_auth.py
        finally:
            server.should_exit = True
            thread.join(30)


def bearer(root: Path) -> dict[str, str]:
    """Return the header that lets one in."""
    return {"Authorization": f"Bearer {(root / 'token').read_text().strip()}"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_are_as_described(api: Any, root: Path, mode: GenerationMode) -> None:
    failures: list[str] = []
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) > 50
    for operation in operations:
        if operation.path in HEAVY and mode.is_positive:
            continue
        try:
            _hold(operation, mode, root)
        except Unsatisfiable:  # nothing can be wrong with a request that takes nothing
            continue
        except (FailureGroup, BaseExceptionGroup, Failure) as error:
            told = "\n".join(traceback.format_exception_only(error))
            failures.append(f"{operation.method} {operation.path}: {told}\n{error}"[:3000])
    assert not failures, "\n\n".join(failures)


def _hold(operation: Any, mode: GenerationMode, root: Path) -> None:
    """Send requests to an operation and check each answer."""

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if isinstance(case.query, dict) and "wait" in case.query:
            case.query["wait"] = 0
        _point_at_the_run(case, root)
        case.call_and_validate(checks=CHECKS, headers=bearer(root))

    check()


def _point_at_the_run(case: Any, root: Path) -> None:
    """Ask for the finished run where a text was made up: made-up ids are all the same case."""
    finished = json.loads((root / "runs" / "finished" / "run.json").read_text())["run_id"]
    for place in (case.path_parameters, case.query):
        if isinstance(place, dict) and isinstance(place.get("run_id"), str) and len(place["run_id"]) % 4:
            place["run_id"] = finished
