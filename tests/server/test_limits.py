"""How long, how odd and how often requests may be."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lessen.server.limits import Buckets, check_json
from lessen.server.problems import RequestError
from lessen.server.settings import Settings
from served import Running

MIB = 1 << 20


def test_a_long_body_is_refused_whether_or_not_it_says_so(client: TestClient) -> None:
    body = b'{"recipe": "' + b"x" * MIB + b'"}'
    head = {"Content-Type": "application/json"}
    told = client.post("/api/v1/runs", content=body, headers=head)
    streamed = client.post("/api/v1/runs", content=iter([body[:1000], body[1000:]]), headers=head)
    assert [told.status_code, streamed.status_code] == [413, 413]
    assert told.json()["detail"] == f"the request is longer than {MIB} bytes"


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/v1/runs", 2_000),
        ("/train", 2_000),
        ("/api/v1/predictions", 5_000),
        ("/upload", 3_000 + MIB),
        ("/socket.io/", 1_000),
    ],
)
def test_each_path_has_its_limit(client_of: Callable[..., TestClient], path: str, limit: int) -> None:
    sizes = {"max_body_bytes": 2_000, "max_inputs_bytes": 5_000, "max_upload_bytes": 3_000, "max_message_bytes": 1_000}
    client = client_of(**sizes)
    kind = {"Content-Type": "multipart/form-data; boundary=x" if path == "/upload" else "application/json"}
    below, above = (client.post(path, content=b"[" * n, headers=kind).status_code for n in (limit, limit + 1))
    assert below != 413
    assert above == 413


def test_an_upload_is_stopped_while_it_comes(client_of: Callable[..., TestClient]) -> None:
    client = client_of(max_upload_bytes=1000)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\nContent-Type: text/csv\r\n\r\n'
    for path in ("/upload", "/api/v1/uploads"):
        parts = iter([head, *[b"a,b\n" * 2**15] * 40, b"\r\n--x--\r\n"])
        answer = client.post(path, content=parts, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 413, path
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("length", ["-1", "1e3", "٣", "9" * 30])
def test_a_length_that_is_none(client: TestClient, length: str) -> None:
    answer = client.post("/api/v1/runs", content=b"{}", headers=[(b"Content-Length", length.encode())])  # type: ignore[arg-type]
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/jsonx",
        "json",
    ],
)
@pytest.mark.parametrize("path", ["/train", "/api/v1/runs", "/api/v1/recipes/check", "/login", "/cancel_training"])
def test_a_body_that_is_not_declared_json_starts_nothing(client: TestClient, path: str, kind: str) -> None:
    answer = client.post(path, content=b'{"model_name": "distillBert"}', headers={"Content-Type": kind} if kind else {})
    assert answer.status_code in (415, 422)
    assert client.app.state.service.store.list()[1] == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json"]
)
def test_json_by_its_names(client: TestClient, kind: str) -> None:
    answer = client.post("/login", content=b'{"token": "x"}', headers={"Content-Type": kind})
    assert answer.status_code == 401


HARMFUL = [
    b'{"a": 1e400}', b'{"a": -1e999}', b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b"[9223372036854775808]",
    b"[" + b"9" * 5000 + b"]", b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'["\\u0000"]', b"[" * 100 + b"]" * 100,
    b'{"a":' * 70 + b"1" + b"}" * 70, b"[" * 100_000, b'{"a": "\xff"}', b'{"a": 1,}', b"{'a': 1}",
    b"\xef\xbb\xbf{}x", b"nul",
]  # fmt: skip
FINE = [
    b"{}", b"[]", b"0", b'"\\ud83d\\ude00"', '"বাংলা"'.encode(), b"[-9223372036854775807, 1.5e308, 5e-324]",
    b"[" * 60 + b"]" * 60,
    json.dumps([[[]]] * 5000).encode(), '"é"'.encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("raw", HARMFUL, ids=range(len(HARMFUL)))
def test_json_that_would_harm_is_refused_everywhere(client: TestClient, raw: bytes) -> None:
    with pytest.raises(RequestError):
        check_json(raw)
    for path in ("/train", "/api/v1/runs", "/api/v1/recipes/check", "/api/v1/predictions", "/login"):
        answer = client.post(path, content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        answer.json()


@pytest.mark.parametrize("raw", FINE, ids=range(len(FINE)))
def test_json_that_is_fine(raw: bytes) -> None:
    check_json(raw)


def test_routes_get_the_very_body(client: TestClient) -> None:
    answer = client.post("/api/v1/runs", json={"recipe": {"name": "বাংলা"}, "surplus": 1})
    assert answer.status_code == 422
    assert "surplus" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/cancel_training", "/evaluate", "/visualize", "/api/v1/runs/latest/cancel"])
def test_a_post_without_a_body_is_fine(client: TestClient, path: str) -> None:
    """As `requests.post(url)` and `curl -X POST` send it."""
    assert client.post(path).status_code not in (411, 415, 422)


def test_a_body_that_does_not_come(server: Running) -> None:
    """The server waits for it, and lets others in meanwhile."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        head = (
            "POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        wire.sendall(head.encode())
        assert server.get("/test").status_code == 200
        wire.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.recv(1)


# rates


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_back_what_time_brings() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    assert [buckets.take("me", "starts", 10) for _ in range(10)] == [0.0] * 10
    assert buckets.take("me", "starts", 10) == pytest.approx(6.0)
    assert buckets.take("you", "starts", 10) == 0  # everybody has their own
    assert buckets.take("me", "reads", 600) == 0
    clock.now = 5.9
    assert buckets.take("me", "starts", 10) > 0
    clock.now = 6.1
    assert buckets.take("me", "starts", 10) == 0
    assert buckets.take("me", "starts", 10) > 0
    clock.now = 1e6  # a long rest fills it, and not more
    assert [buckets.take("me", "starts", 10) > 0 for _ in range(11)] == [False] * 10 + [True]


def test_strangers_do_not_fill_the_memory() -> None:
    buckets = Buckets(Clock())
    for caller in range(10_000):
        buckets.take(str(caller), "logins", 30)
    assert len(buckets._known) <= 4096


def _until_refused(ask: Callable[[], Any], most: int) -> tuple[int, Any]:
    for count in range(most + 1):
        answer = ask()
        if answer.status_code == 429:
            return count, answer
    return most + 1, answer


def test_ten_starts_a_minute(client: TestClient) -> None:
    """Counted before anything is looked at, so that refused ones cost the same."""
    count, refused = _until_refused(lambda: client.post("/api/v1/runs", json={"recipe": {"no": 1}}), 15)
    assert count == 10
    assert 1 <= int(refused.headers["retry-after"]) <= 6
    assert refused.json()["type"] == "urn:lessen:rate"
    assert client.post("/train", json={"model_name": "nothing"}).status_code == 429  # one budget for every door
    assert client.post("/api/v1/runs/x/resume").status_code == 429
    assert client.get("/api/v1/runs").status_code == 200
    assert client.post("/cancel_training").status_code != 429


def test_reads_a_minute(client_of: Callable[..., TestClient]) -> None:
    client, began = client_of(reads_per_minute=60), time.monotonic()
    count, refused = _until_refused(lambda: client.get("/api/v1/version"), 1000)
    assert 60 <= count <= 61 + (time.monotonic() - began)
    assert refused.headers["retry-after"] == "1"
    assert client.get("/test").status_code == 200  # open, cheap, and asked for every few seconds by old clients
    assert client.get("/static/app.js").status_code == 200
    limits = Settings(root=Path())
    assert (limits.reads_per_minute, limits.starts_per_minute) == (600, 10)


def test_guessing_tokens_is_slow(client_of: Callable[..., TestClient]) -> None:
    client = client_of(token=False)
    count, _ = _until_refused(lambda: client.post("/login", json={"token": "A" * 43}), 40)
    assert count == 30


def test_another_session_has_its_own_budget(client: TestClient) -> None:
    auth = client.app.state.service.auth  # type: ignore[attr-defined]
    _until_refused(lambda: client.post("/api/v1/runs", json={"recipe": {"no": 1}}), 15)
    other = {"Authorization": "", "Cookie": f"{auth.cookie}={auth.session()}"}
    assert client.post("/api/v1/runs", json={"recipe": {"no": 1}}, headers=other).status_code != 429
