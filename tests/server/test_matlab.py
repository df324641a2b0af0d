"""GET /matlab_metrics: what scripts of the predecessor read, of a run, as JSON and as a MATLAB file."""

import io
import json

import pytest
from scipy.io import loadmat

from lessen import report as reports
from lessen.eventlog import EventLog
from lessen.events import RunStateChanged
from lessen.folder import EVENTS, prepare
from lessen.recipe import parse
from lessen.report.matlab import matlab_metrics
from lessen.server.matlab import MatlabMetrics
from lessen.store import RunRecord
from report.conftest import build as classifier
from report.runs_of_text import report_of

EMPTY = {"effectiveness": [], "efficiency": [], "compression": [], "complexity": []}


@pytest.fixture
def add(client):
    """Put a run's folder below the root, and the run into the store."""

    def one(
        run_id, report=None, *, state="succeeded", model_name=None, created="2026-01-01T00:00:00+00:00", error=None
    ):
        service = client.app.state.service
        folder = service.settings.root / run_id
        service.store.add(  # before its folder is there: the server would take that for a run of a shell
            RunRecord(
                run_id=run_id, folder=folder, name=run_id, task="text-classification", pipeline="kd_prune_quant",
                state=state, recipe={}, origin="cli", model_name=model_name, created=created, error=error,
            )
        )  # fmt: skip
        prepare(folder, parse({"name": run_id}), run_id)
        with EventLog(folder / EVENTS) as log:
            log.append(RunStateChanged(state=state))
        if report is not None:
            reports.write(report, folder)

    return one


def test_without_a_run_the_answer_is_the_predecessors(client):
    answer = client.get("/matlab_metrics")
    assert answer.status_code == 200
    found = answer.json()
    assert found["success"] is False
    assert "no model has been trained" in found["error"]
    assert found["matlab_data"] == EMPTY


def test_a_run_that_measured_nothing_says_so(client, add):
    add("broken", state="failed", error={"message": "the teacher is at chance", "hint": "", "exit_code": 1})
    found = client.get("/matlab_metrics").json()
    assert (found["success"], found["run_id"], found["matlab_data"]) == (False, "broken", EMPTY)
    assert "failed" in found["error"]
    assert "the teacher is at chance" in found["error"]


@pytest.mark.parametrize("task", ["text-classification", "causal-lm", "seq2seq"])
def test_a_finished_run_is_its_report(client, add, task):
    report = classifier() if task == "text-classification" else report_of(task)
    add("mine", report, model_name="T5-small")
    answer = client.get("/matlab_metrics", params={"run_id": "mine"})
    expected = matlab_metrics(reports.read(client.app.state.service.settings.root / "mine"), model_name="T5-small")
    assert answer.json() == json.loads(json.dumps(expected)) | {"run_id": "mine"}
    MatlabMetrics.model_validate(answer.json(), strict=True)
    assert answer.headers["content-type"].startswith("application/json")


def test_the_latest_run_is_the_default(client, add):
    add("older", classifier(), created="2026-01-01T00:00:00+00:00")
    add("newer", report_of("causal-lm"), created="2026-01-02T00:00:00+00:00")
    assert client.get("/matlab_metrics").json()["run_id"] == "newer"
    assert client.get("/matlab_metrics?run_id=latest").json()["run_id"] == "newer"
    assert client.get("/matlab_metrics?run_id=older").json()["run_id"] == "older"


def test_an_unknown_run_is_a_problem_that_the_predecessors_clients_can_read(client, add):
    add("mine", classifier())
    answer = client.get("/matlab_metrics?run_id=nobody")
    assert answer.status_code == 404
    assert answer.json()["success"] is False
    assert "nobody" in answer.json()["error"]


def test_the_mat_file_opens_and_holds_the_numbers(client, add):
    report = classifier()
    add("mine", report)
    answer = client.get("/matlab_metrics?format=mat")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-matlab-data"
    assert answer.headers["content-disposition"] == 'attachment; filename="lessen_mine.mat"'
    found = loadmat(io.BytesIO(answer.content), squeeze_me=True, struct_as_record=False)
    assert list(found["stages"].f1_macro) == [row.value("f1_macro") for row in report.rows]
    assert found["confusion"].matrices[0].counts.tolist() == report.rows[0].facts["confusion"]


def test_a_mat_file_without_a_run_says_why(client):
    answer = client.get("/matlab_metrics?format=mat")
    assert answer.status_code == 200
    found = loadmat(io.BytesIO(answer.content), squeeze_me=True)
    assert not found["success"]
    assert "no model has been trained" in str(found["error"])


def test_other_formats_are_refused(client):
    assert client.get("/matlab_metrics?format=xlsx").status_code == 422


def test_the_token_is_wanted(client_of):
    assert client_of(token=False).get("/matlab_metrics").status_code == 401
