"""Errors on the wire: problem details, with nothing of the insides and nothing that was sent."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
import sqlalchemy.exc
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from lessen import errors
from lessen.server import problems

SECRET = "/home/somebody/secret.txt"


class Body(BaseModel):
    number: float = Field(le=10)
    text: str = "x"


RAISED: dict[str, BaseException] = {
    "recipe": errors.RecipeError("one\ntwo", "do it"),
    "unknown": errors.UnknownNameError("no such method"),
    "not-found": errors.NotFoundError("no run"),
    "auth": errors.AuthError("no token"),
    "conflict": errors.ConflictError("exists"),
    "queue-full": errors.QueueFullError("20 runs wait", retry_after_s=59.5),
    "resource": errors.ResourceError("disk"),
    "artifact": errors.ArtifactError("damaged"),
    "unavailable": errors.UnavailableError("offline"),
    "rate": errors.RateError("often", retry_after_s=3.2),
    "data": errors.DataError("bad rows"),
    "cancelled": errors.Cancelled("stopped"),
    "plain": errors.LessenError("odd"),
    "bug": RuntimeError(SECRET),
    "memory": MemoryError(),
    "disk": OSError(28, "No space left on device", SECRET),
    "sqlite": sqlalchemy.exc.OperationalError("select", {}, Exception("database or disk is full")),
    "surrogate": errors.RecipeError("bad \ud800 name " + "x" * 10_000, "\ud800"),
}
STATUS = {
    "recipe": 422, "unknown": 422, "not-found": 404, "auth": 401, "conflict": 409, "resource": 507, "artifact": 409,
    "unavailable": 424, "rate": 429, "data": 422, "cancelled": 409, "plain": 400, "bug": 500, "memory": 507,
    "disk": 507, "sqlite": 507, "surrogate": 422, "queue-full": 429,
}  # fmt: skip


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(middleware=[Middleware(problems.Catch)])
    problems.install(app)

    @app.get("/raise/{name}")
    @app.get("/api/v1/raise/{name}")
    def fail(name: str) -> None:
        raise RAISED[name]

    @app.post("/take")
    def take(body: Body) -> dict[str, Any]:
        return body.model_dump()

    @app.get("/count")
    def count(n: int) -> int:
        return n

    return TestClient(app)  # an exception that gets out fails the test


@pytest.mark.parametrize("name", RAISED)
def test_every_error_is_a_problem(client: TestClient, name: str) -> None:
    for path in (f"/raise/{name}", f"/api/v1/raise/{name}"):
        answer = client.get(path)
        body = answer.json()
        assert answer.status_code == body["status"] == STATUS[name]
        assert answer.headers["content-type"] == "application/problem+json"
        assert problems.Problem.model_validate(body)
        assert body["instance"] == path
        assert "\n" not in body["detail"] + body["hint"]
        assert len(answer.content) < 8000
        assert SECRET not in answer.text
        old = {"success": False, "error": body["detail"]}
        assert {k: v for k, v in body.items() if k in old} == ({} if path.startswith("/api/") else old)


def test_details_of_some(client: TestClient) -> None:
    assert client.get("/raise/recipe").json() == {
        "type": "urn:lessen:recipe", "title": "Unprocessable Entity", "status": 422, "detail": "one two",
        "hint": "do it",
        "exit_code": 2, "instance": "/raise/recipe", "success": False, "error": "one two",
    }  # fmt: skip
    assert client.get("/raise/rate").headers["retry-after"] == "4"
    assert client.get("/raise/queue-full").headers["retry-after"] == "60"
    assert client.get("/raise/auth").headers["www-authenticate"]
    assert client.get("/raise/resource").json()["exit_code"] == 7


def test_every_kind_of_error_has_a_status() -> None:
    def kinds(kind: type[errors.LessenError]) -> set[type[errors.LessenError]]:
        return {kind}.union(*(kinds(below) for below in kind.__subclasses__()))

    for kind in kinds(errors.LessenError) - {problems.RequestError}:
        if kind.__module__ == "lessen.errors":
            found = problems.status_of(kind("x"))
            assert (found < 500) or kind in (errors.ResourceError, errors.TrainingError), kind


def test_our_own_fault_is_told_to_the_log_alone(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "lessen.server"):
        body = client.get("/raise/bug").json()
    assert re.fullmatch(r"[0-9a-f]{12}", body["id"])
    assert body["id"] in body["detail"]
    assert "RuntimeError" not in json.dumps(body)
    assert body["id"] in caplog.text
    assert f"RuntimeError: {SECRET}" in caplog.text


def test_a_path_cannot_forge_a_line_of_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "lessen.server"):
        client.get("/raise/bug%0a2026-01-01 ERROR forged")
    assert "\n2026-01-01 ERROR forged" not in caplog.text


SENT = [
    (b'{"number": 1e400}', "10"), (b'{"number": NaN}', "10"), (b'{"number": 1%s}' % (b"0" * 300), "10"),
    (b'{"number": "\\ud800"}', "number"), (b'{"number": 11}', "10"), (b'{"number": null, "text": 5}', "more"),
    (b'{"text": "%s"}' % SECRET.encode(), "required"), (b"[]", "object"), (b"{", "JSON"), (b"\xff\xfe\xfd", ""),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "said"), SENT, ids=range(len(SENT)))
def test_validation_errors_survive_anything(client: TestClient, raw: bytes, said: str) -> None:
    """Without the checks that stand before it in the server: the handler holds by itself."""
    answer = client.post("/take", content=raw, headers={"Content-Type": "application/json"})
    if answer.status_code == 200:
        pytest.fail(f"taken: {answer.text}")
    assert answer.status_code in (400, 422)
    body = answer.json()
    assert said in body["detail"] or body["status"] == 400
    assert SECRET not in answer.text


def test_a_thousand_mistakes_are_told_briefly() -> None:
    app = FastAPI()
    problems.install(app)

    @app.post("/many")
    def many(body: list[int]) -> int:
        return len(body)

    answer = TestClient(app).post("/many", json=["x"] * 1000)
    assert len(answer.json()["errors"]) == problems.SHOWN
    assert "(and 999 more)" in answer.json()["detail"]
    assert answer.json()["errors"][0] == {
        "where": ["body", 0], "message": "Input should be a valid integer, unable to parse string as an integer",
        "kind": "int_parsing",
    }  # fmt: skip


def test_huge_integers_in_a_query(client: TestClient) -> None:
    assert client.get("/count", params={"n": "9" * 5000}).status_code == 422


def test_nothing_there_and_no_such_method(client: TestClient) -> None:
    missing, refused = client.get("/no%7fthing"), client.put("/count")
    assert (missing.status_code, missing.json()["detail"]) == (404, "there is nothing at /no?thing")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert refused.json()["error"] == "/count does not take PUT"
