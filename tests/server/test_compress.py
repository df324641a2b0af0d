"""Answers by gzip: which, to whom, under which ETag; and which never, for what they say."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from lessen.server.compress import Compress, Packed, takes_gzip

TEXT = "export const page = 1;\n" * 200
PLAIN = {"Accept-Encoding": "identity"}
PACKED = {"Accept-Encoding": "gzip, br"}


@pytest.fixture
def files(tmp_path: Path) -> TestClient:
    """Files of several kinds under /."""
    for name in ("page.js", "style.css", "index.html", "icon.svg", "picture.png"):
        (tmp_path / name).write_text(TEXT, encoding="utf-8")
    (tmp_path / "short.js").write_text("1", encoding="utf-8")
    return TestClient(Packed(directory=tmp_path))


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        ("gzip", True), ("br, GZIP;q=0.5", True), ("*", True), ("gzip;q=0", False), ("gzip; q=0.000, *", False),
        ("", False), ("identity", False), ("x-gzip-like", False), ("*;q=0", False), ("*;q=0, gzip", True),
    ],
)  # fmt: skip
def test_what_a_client_takes_is_read_from_its_words(said: str, takes: bool) -> None:
    assert takes_gzip(Headers({"accept-encoding": said})) is takes


@pytest.mark.parametrize("name", ["page.js", "style.css", "index.html", "icon.svg"])
def test_text_goes_out_packed_and_is_the_file(files: TestClient, name: str) -> None:
    packed, plain = files.get(f"/{name}", headers=PACKED), files.get(f"/{name}", headers=PLAIN)
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(TEXT) / 10
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text == TEXT
    for header in ("content-type", "last-modified"):
        assert packed.headers[header] == plain.headers[header]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("name", ["picture.png", "short.js"])
def test_what_would_gain_nothing_goes_as_it_is(files: TestClient, name: str) -> None:
    found = files.get(f"/{name}", headers=PACKED)
    assert "content-encoding" not in found.headers
    assert found.status_code == 200


def test_each_coding_has_an_etag_of_its_own(files: TestClient) -> None:
    tags = [files.get("/page.js", headers=how).headers["etag"] for how in (PLAIN, PACKED)]
    assert tags[0] != tags[1]
    for how, mine, other in ((PLAIN, *tags), (PACKED, *reversed(tags))):
        same = files.get("/page.js", headers={**how, "If-None-Match": mine})
        assert (same.status_code, same.headers["etag"], same.headers["vary"]) == (304, mine, "Accept-Encoding")
        assert files.get("/page.js", headers={**how, "If-None-Match": other}).status_code == 200


def test_a_changed_file_is_packed_anew(files: TestClient, tmp_path: Path) -> None:
    before = files.get("/page.js", headers=PACKED)
    other = TEXT.replace("1", "2")  # as long as before: only its time tells
    (tmp_path / "page.js").write_text(other, encoding="utf-8")
    os.utime(tmp_path / "page.js", (10**9, 10**9))
    after = files.get("/page.js", headers=PACKED)
    assert after.text == other
    assert after.headers["etag"] != before.headers["etag"]


def test_a_file_is_packed_once(files: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []
    real = gzip.compress
    monkeypatch.setattr(gzip, "compress", lambda *given, **more: packed.append(1) or real(*given, **more))
    for _ in range(3):
        assert files.get("/page.js", headers=PACKED).text == TEXT
    assert len(packed) == 1


def test_a_head_has_the_length_and_no_body_and_a_range_is_of_the_plain_file(files: TestClient) -> None:
    full, head = (files.request(method, "/page.js", headers=PACKED) for method in ("GET", "HEAD"))
    assert head.content == b""
    assert head.headers["content-length"] == full.headers["content-length"]
    part = files.get("/page.js", headers={**PACKED, "Range": "bytes=7-11"})
    assert (part.status_code, part.text) == (206, TEXT[7:12])
    assert "content-encoding" not in part.headers


@pytest.mark.parametrize(
    ("path", "packed"),
    [
        ("/openapi.json", True), ("/api/v1/runs/a/report", True), ("/api/v1/runs/a/series", True),
        ("/api/v1/compare", True), ("/api/v1/runs", False), ("/api/v1/runs/a/events", False),
        ("/api/v1/runs/a/report.html", False), ("/api/v1/runs/a/download", False), ("/api/v1/system", False),
        ("/login", False), ("/socket.io/", False), ("/x/api/v1/compare", False),
    ],
)  # fmt: skip
def test_only_answers_without_secrets_are_packed(path: str, packed: bool) -> None:
    app = Starlette(
        routes=[Route("/{all:path}", lambda _: PlainTextResponse(TEXT), methods=["GET", "POST"])],
        middleware=[Middleware(Compress)],
    )
    client = TestClient(app)
    found = client.get(path, headers=PACKED)
    assert found.headers.get("content-encoding") == ("gzip" if packed else None)
    assert found.text == TEXT
    for answer in (client.get(path, headers=PLAIN), client.post(path, headers=PACKED)):
        assert "content-encoding" not in answer.headers


def test_the_application_packs_its_page_and_its_schema_and_not_its_login(client_of: Callable[..., TestClient]) -> None:
    client = client_of()
    for path in ("/", "/docs", "/favicon.ico", "/static/app.js", "/static/style.css", "/openapi.json"):
        found = client.get(path, headers=PACKED)
        large = len(found.content) >= 1000
        assert found.headers.get("content-encoding") == ("gzip" if large else None), path
        again = client.get(path, headers={**PACKED, "If-None-Match": found.headers.get("etag", "-")})
        assert again.status_code == (200 if path == "/openapi.json" else 304), path
    assert "content-encoding" not in client.get("/api/v1/system", headers=PACKED).headers
    token = client.headers["Authorization"].removeprefix("Bearer ")
    entered = client.post("/login", json={"token": token}, headers=PACKED)
    assert entered.status_code == 200
    assert "content-encoding" not in entered.headers
