"""The OpenAPI document: FastAPI's, with what the layers around the routes may answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from lessen import __version__
from lessen.server.auth import is_open
from lessen.server.problems import PROBLEM, Mistake, Problem

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
REFUSALS = {  # every route: Host, Origin and token; too often
    "400": "Host header or address are malformed",
    "401": "No token, or a wrong one",
    "403": "Caused by a page of another origin",
    "421": "Asked by a name that is not the server's",
    "429": "Too often; Retry-After says when again",
}
WITH_BODY = {
    "408": "The body did not come in time",
    "413": "The body is too long",
    "415": "The body is not application/json",
    "422": "Something in the request is not allowed",
}


def install(app: FastAPI, *, auth: bool) -> None:
    """Make an application's /openapi.json complete."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, auth=auth)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, *, auth: bool) -> dict[str, Any]:
    found = get_openapi(
        title="lessen", version=__version__, routes=app.routes, tags=app.openapi_tags,
        description="Distil, prune and quantize a model, and prove what it cost. Errors are problem details "
        "(RFC 9457) with a hint. Live events come over Socket.IO at /socket.io; docs/server.md describes them.",
    )  # fmt: skip
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for shape in (Problem, Mistake):
        schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[shape.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if auth:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    for path, item in found["paths"].items():
        for method in METHODS:
            if method in item:
                _complete(item[method], method, path)
    return found


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    responses = operation.setdefault("responses", {})
    if is_open(method.upper(), path):
        operation["security"] = []
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = PROBLEM
    for status, text in {**REFUSALS, **(WITH_BODY if "requestBody" in operation else {})}.items():
        if status not in responses:
            responses[status] = {**PROBLEM, "description": text}
    for wide in ("4XX", "5XX"):
        responses.setdefault(wide, PROBLEM)
