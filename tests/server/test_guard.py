"""Host and Origin allowlists, fetch metadata, and headers: on HTTP, on WebSocket, and on the wire."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lessen.errors import LessenError
from lessen.server.guard import host_name, listed, names_of, origins_of
from lessen.server.settings import Settings
from served import BASE, Running

POLL = "/socket.io/?EIO=4&transport=polling"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("127.0.0.1", "127.0.0.1"), ("127.0.0.1:5001", "127.0.0.1"), ("LocalHost:80", "localhost"),
        ("[::1]", "::1"), ("[::1]:5001", "::1"), ("evil.example", "evil.example"),
        ("", None), (":5001", None), ("localhost:", None), ("localhost:x", None), ("localhost:70000", None),
        ("::1", None), ("[::1", None), ("a@localhost", None), ("localhost/..", None), ("local host", None),
        ("localhost\n", None), ("localhost:5001:5001", None), ("localhost:५००१", None),
    ],
)  # fmt: skip
def test_a_host_header_is_read_without_its_port(value: str, name: str | None) -> None:
    assert host_name(value) == name


def test_names_and_origins_of_a_server(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, host="0.0.0.0", port=7000, allowed_hosts=("lab.example", "fe80::1"))
    assert names_of(settings) == {"127.0.0.1", "localhost", "::1", "lab.example", "fe80::1"}
    origins = origins_of(settings)
    assert {"http://[::1]:7000", "http://localhost:7000", "https://lab.example", "http://[fe80::1]:7000"} <= origins
    assert not any("0.0.0.0" in origin or "*" in origin for origin in origins)
    assert "http://localhost" not in origins  # another port is another server


@pytest.mark.parametrize("name", ["a b", "http://x", "x:80", "", "x/y"])
def test_allow_host_takes_names_alone(name: str) -> None:
    with pytest.raises(LessenError, match="not the name of a host"):
        listed([name])
    assert listed(["lab.example", "::1", "10.0.0.7"]) == ("lab.example", "::1", "10.0.0.7")


@pytest.mark.parametrize("path", ["/test", "/", "/api/v1/runs", POLL, "/static/app.js", "/login"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:5001", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_a_foreign_host_gets_nothing(client: TestClient, path: str, host: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["hint"].startswith("start it with --allow-host")
    assert host not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:5001", "[::1]:5001", "LOCALHOST:9"])
def test_its_own_names_pass_with_any_port(client: TestClient, host: str) -> None:
    assert client.get("/test", headers={"Host": host}).status_code == 200


# Host and Origin: of DNS rebinding both are the attacker's name; the library's own check would let that pass.
REBINDING = [
    ("127.0.0.1:5001", None, 200),
    ("127.0.0.1:5001", "http://127.0.0.1:5001", 200),
    ("127.0.0.1:5001", "http://evil.example", 403),
    ("evil.example", "http://evil.example", 421),
]
OTHERS = [
    "null",
    "http://127.0.0.1",
    "http://127.0.0.1:5002",
    "https://127.0.0.1:5001",
    "http://127.0.0.1:5001.evil.example",
]


@pytest.mark.parametrize(("host", "origin", "status"), REBINDING)
@pytest.mark.parametrize("path", ["/test", "/api/v1/runs", POLL])
def test_rebinding(client: TestClient, path: str, host: str, origin: str | None, status: int) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = client.get(path, headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("access-control-allow-origin") in (None, origin if status == 200 else None)


@pytest.mark.parametrize("origin", OTHERS)
def test_only_its_very_own_origins_pass(client: TestClient, origin: str) -> None:
    for path in ("/test", POLL):
        assert client.get(path, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize(("host", "origin", "status"), [*REBINDING, ("evil.example", None, 421)])
def test_rebinding_of_a_websocket(server: Running, host: str, origin: str | None, status: int) -> None:
    own = f"127.0.0.1:{server.port}"
    host, origin = host.replace("127.0.0.1:5001", own), origin and origin.replace("127.0.0.1:5001", own)
    assert _upgrade(server, host, origin) == (101 if status == 200 else 403)


def test_a_page_of_another_site_cannot_start_a_run_without_a_token_either(client_of: Callable[..., TestClient]) -> None:
    client = client_of(auth=False)
    for headers in (
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert client.post("/train", headers=headers).status_code == 403
        assert client.post("/cancel_training", headers=headers).status_code == 403
    assert client.app.state.service.store.list()[1] == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
        ("cross-site", "navigate", "document", 200),  # a link to the dashboard
        ("cross-site", "no-cors", "image", 403),
        ("same-site", "no-cors", "script", 403),  # another port of this machine
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "cors", "empty", 403),
    ],
)
def test_what_other_pages_embed_is_refused(client: TestClient, site: str, mode: str, dest: str, status: int) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert client.get("/api/v1/runs", headers=headers).status_code == status


def test_one_host_and_no_more(client: TestClient) -> None:
    """A server in front may look at one of two, and we at the other."""
    both = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert [client.get("/test", headers=headers).status_code for headers in (both, both[::-1])] == [400, 400]


def test_addresses_with_nul_are_refused(client: TestClient) -> None:
    for path in ("/api/v1/runs/a%00b", "/api/v1/runs?search=%00", "/static/%00"):
        assert client.get(path).status_code == 400


HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self' ws://127.0.0.1:5001 wss://127.0.0.1:5001; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@pytest.mark.parametrize(
    "path", ["/", "/test", "/docs", "/api/v1/runs", "/nothing", "/static/app.js", "/static/nothing", POLL]
)
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    found = client.get(path).headers
    kept = {name: found.get(name) for name in HEADERS}
    if path in ("/", "/docs", "/static/app.js"):
        assert kept.pop("cache-control") == "no-cache"  # asked about by its ETag
        assert found["etag"]
    assert kept == {name: HEADERS[name] for name in kept}
    assert "server" not in found
    assert "access-control-allow-origin" not in found


def test_refusals_carry_them_too(client: TestClient) -> None:
    client.headers.pop("Authorization")
    for answer in (client.get("/api/v1/runs"), client.get("/test", headers={"Origin": "http://evil.example"})):
        assert answer.status_code in (401, 403)
        assert {name: answer.headers[name] for name in HEADERS if "policy" not in name} == {
            name: value for name, value in HEADERS.items() if "policy" not in name
        }


def test_the_page_uses_nothing_that_its_policy_forbids() -> None:
    static = Path(__import__("lessen.server.pages", fromlist=["FILES"]).FILES)
    for page in static.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text), page
        assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", text), page


# on the wire: what no client library lets one send


@pytest.mark.parametrize(
    ("version", "lines", "status"),
    [
        ("1.1", ["Host: 127.0.0.1"], 200),
        ("1.1", ["Host: 127.0.0.1:{port}"], 200),
        ("1.1", ["Host: [::1]:{port}"], 200),
        ("1.1", ["Host: localhost:1"], 200),
        ("1.1", [], 400),
        ("1.0", [], 400),
        ("1.1", ["Host:"], 421),
        ("1.1", ["Host: ::1"], 421),
        ("1.1", ["Host: evil.example:{port}"], 421),
        ("1.1", ["Host: 127.0.0.1", "Host: evil.example"], 400),
        ("1.1", ["Host: evil.example", "X-Forwarded-Host: 127.0.0.1"], 421),
    ],
)
def test_hosts_on_the_wire(server: Running, version: str, lines: list[str], status: int) -> None:
    head = "\r\n".join(
        [f"GET /test HTTP/{version}", *[line.format(port=server.port) for line in lines], "Connection: close"]
    )
    assert _status(server, head) == status


def test_an_absolute_address_does_not_replace_the_host(server: Running) -> None:
    head = f"GET http://127.0.0.1:{server.port}/test HTTP/1.1\r\nHost: evil.example\r\nConnection: close"
    assert _status(server, head) in (400, 404, 421)


def _upgrade(server: Running, host: str, origin: str | None) -> int:
    lines = [
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", f"Host: {host}", "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]  # fmt: skip
    return _status(server, "\r\n".join(lines + ([f"Origin: {origin}"] if origin else [])))


def _status(server: Running, head: str) -> int:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(f"{head}\r\n\r\n".encode())
        with wire.makefile("rb") as stream:
            return int(stream.readline().split()[1])


def test_base_is_the_default_port() -> None:
    assert f"http://127.0.0.1:{Settings(root=Path()).port}" == BASE
