"""The token: at every route, by every way in, in no log, and gone once it is rotated."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import socketio
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from lessen import token
from lessen.errors import AuthError
from lessen.server.app import create_app
from lessen.server.auth import Auth
from lessen.server.settings import Settings
from served import Running, eventually, serving

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
# Everything that answers without a token; a new route is not among them unless somebody adds it here.
OPEN = {
    ("GET", "/"), ("HEAD", "/"), ("GET", "/test"), ("HEAD", "/test"), ("GET", "/favicon.ico"), ("HEAD", "/favicon.ico"),
    ("GET", "/login"), ("POST", "/login"), ("GET", "/static/app.js"), ("HEAD", "/static/app.js"),
}  # fmt: skip
VALUES = {
    "run_id": "latest",
    "index": "0",
    "stage": "teacher",
    "file:path": "model.onnx",
    "layer": "x",
    "name": "report.json",
}


def paths_of(app: FastAPI) -> set[str]:
    """Return an address of every route and mount of an application."""
    found = {str(route.path) for route in iter_route_contexts(app.routes)}
    assert {"/socket.io", "/static", "/api/v1/runs/{run_id}"} <= found
    found = (found - {"/static"}) | {"/static/app.js", "/socket.io/", "/no/such/route", "/api/v1/no/such/route"}
    return {re.sub(r"{([^}]+)}", lambda m: VALUES.get(m[1], "x"), path) for path in found}


@pytest.mark.slow
def test_every_route_asks_for_the_token(client_of: Callable[..., TestClient]) -> None:
    client = client_of(token=False, logins_per_minute=10_000)
    open_ = set()
    for path in sorted(paths_of(client.app)):  # type: ignore[arg-type]
        for method in METHODS:
            for headers in ({}, {"Authorization": f"Bearer {'A' * 43}"}, {"Cookie": "lessen_5001=x.y.z"}):
                status = client.request(method, path, headers=headers).status_code
                if status != 401:
                    open_.add((method, path))
    sockets = {(method, path) for method in METHODS for path in ("/socket.io", "/socket.io/")}
    assert open_ - sockets == OPEN


def test_sockets_without_the_token_are_refused(client_of: Callable[..., TestClient]) -> None:
    """The session of a transport can be opened, but nothing beyond it."""
    client = client_of(token=False)
    opened = client.get("/socket.io/?EIO=4&transport=polling").text
    session = re.search(r'"sid":"([^"]+)"', opened)
    assert session
    at = f"/socket.io/?EIO=4&transport=polling&sid={session[1]}"
    client.post(at, content="40", headers={"Content-Type": "text/plain"})
    assert client.get(at).text.startswith('44{"message":"this needs the server')
    client.post(at, content='42["subscribe",{}]', headers={"Content-Type": "text/plain"})
    assert client.app.state.service.live.sockets == 0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_every_route_opens_with_the_token_or_the_cookie(client_of: Callable[..., TestClient]) -> None:
    client = client_of(
        reads_per_minute=10_000, writes_per_minute=10_000, starts_per_minute=10_000, logins_per_minute=10_000
    )
    auth = client.app.state.service.auth  # type: ignore[attr-defined]
    cookie = {"Cookie": f"other=1; {auth.cookie}={auth.session()}"}
    tokens = {"Authorization": client.headers.pop("Authorization")}
    for path in sorted(paths_of(client.app) - {"/login", "/api/v1/token/rotate"}):  # type: ignore[arg-type]
        for method in ("GET", "PUT", "DELETE"):  # POST would start runs
            for headers in (tokens, cookie):
                assert client.request(method, path, headers=headers).status_code != 401, (method, path, headers)


@pytest.mark.parametrize(
    "header", ["{token}", "Basic {token}", "Bearer", "Bearer {token}x", "Bearer {part}", "Token {token}"]
)
def test_near_misses_are_refused(client: TestClient, tmp_path: Path, header: str) -> None:
    right = (tmp_path / "token").read_text().strip()
    answer = client.get("/api/v1/runs", headers={"Authorization": header.format(token=right, part=right[:-1])})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="lessen"'
    assert right not in answer.text
    assert answer.json()["exit_code"] == 5


def test_the_token_is_not_taken_from_the_address(client: TestClient, tmp_path: Path) -> None:
    right = (tmp_path / "token").read_text().strip()
    del client.headers["Authorization"]
    for query in (f"token={right}", f"access_token={right}", f"key={right}"):
        assert client.get(f"/api/v1/runs?{query}").status_code == 401
    assert client.get(f"/login?key={right}").status_code == 401


def test_a_link_works_once_and_leaves_a_cookie_that_is_not_the_token(client: TestClient, tmp_path: Path) -> None:
    right = (tmp_path / "token").read_text().strip()
    del client.headers["Authorization"]
    key = client.app.state.service.auth.key()  # type: ignore[attr-defined]
    first, second = (
        client.get(f"/login?key={key}"),
        TestClient(client.app, base_url=str(client.base_url)).get(f"/login?key={key}"),
    )
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"]
    assert re.fullmatch(r"lessen_5001=[\w.-]{60,200}; Max-Age=\d+; Path=/; HttpOnly; SameSite=Strict", cookie)
    assert right not in cookie
    assert key not in cookie
    assert second.status_code == 401
    assert "set-cookie" not in second.headers
    assert key not in second.text
    assert client.get("/api/v1/runs").status_code == 200  # the client kept the cookie


def test_logging_in_with_the_token_and_out(client: TestClient, tmp_path: Path) -> None:
    right = (tmp_path / "token").read_text().strip()
    del client.headers["Authorization"]
    wrong = client.post("/login", json={"token": "A" * 43})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    for odd in ({"token": ["x"]}, {"token": right, "more": 1}, {}, [], {"token": "é" * 40}, {"token": "x" * 500}):
        refused = client.post("/login", json=odd)
        assert refused.status_code in (401, 422)
        assert right not in refused.text
    assert client.post("/login", json={"token": right}).json() == {"success": True}
    assert client.get("/api/v1/runs").status_code == 200
    client.post("/logout")
    assert client.get("/api/v1/runs").status_code == 401


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_cookie_cannot_be_made_up(tmp_path: Path, part: int) -> None:
    auth = Auth(Settings(root=tmp_path, token_file=tmp_path / "token"))
    parts = auth.session().split(".")
    assert auth.who(cookies=f"{auth.cookie}={'.'.join(parts)}")
    parts[part] = ("f" if parts[part][0] != "f" else "e") + parts[part][1:]
    assert auth.who(cookies=f"{auth.cookie}={'.'.join(parts)}") is None
    for odd in ("", "..", "a", "é.é.é", "a.b.c.d", f"{auth.cookie}={auth.cookie}", '"', "\\"):
        assert auth.who(cookies=f"{auth.cookie}={odd}") is None


def test_a_cookie_ends_with_its_time_and_is_bound_to_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth(Settings(root=tmp_path, token_file=tmp_path / "token"))
    session = auth.session()
    other = Auth(Settings(root=tmp_path, token_file=tmp_path / "other"))
    assert other.who(cookies=f"{auth.cookie}={session}") is None
    again = Auth(Settings(root=tmp_path, token_file=tmp_path / "token"))
    assert again.who(cookies=f"{auth.cookie}={session}")  # after a restart of the server
    monkeypatch.setattr("lessen.server.auth.time.time", lambda: 9e9)
    assert auth.who(cookies=f"{auth.cookie}={session}") is None


def test_rotation_ends_tokens_cookies_and_links(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    client = client_of()
    auth = client.app.state.service.auth  # type: ignore[attr-defined]
    session, key = auth.session(), auth.key()
    fresh = client.post("/api/v1/token/rotate").json()["token"]
    assert client.get("/api/v1/runs").status_code == 401
    assert client.get("/api/v1/runs", headers={"Authorization": f"Bearer {fresh}"}).status_code == 200
    assert (
        client.get("/api/v1/runs", headers={"Authorization": "", "Cookie": f"{auth.cookie}={session}"}).status_code
        == 401
    )
    assert client.get(f"/login?key={key}").status_code == 401
    token.rotate(tmp_path / "token")  # by another process
    assert client.get("/api/v1/runs", headers={"Authorization": f"Bearer {fresh}"}).status_code == 401


def test_two_browsers_are_two_callers(tmp_path: Path) -> None:
    auth = Auth(Settings(root=tmp_path, token_file=tmp_path / "token"))
    callers = {auth.who(cookies=f"{auth.cookie}={auth.session()}") for _ in range(2)}
    assert len(callers) == 2
    assert auth.who("Bearer " + (tmp_path / "token").read_text().strip()) == "token"


# the token's file


def test_a_token_has_256_bits_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "token"
    made = token.make(file)
    assert len(made) == 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert token.make(file) == made
    assert token.rotate(file) != made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [f.name for f in file.parent.iterdir()] == ["token"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    token.make(tmp_path / "token")
    (tmp_path / "token").chmod(mode)
    with pytest.raises(AuthError, match="others may read"):
        token.read(tmp_path / "token")
    with pytest.raises(AuthError, match="others may read"):
        create_app(Settings(root=tmp_path / "runs", token_file=tmp_path / "token"))


@pytest.mark.parametrize("text", ["", "short", "x" * 200, "with space " * 5, "ü" * 43])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(AuthError, match="holds no token"):
        token.read(tmp_path / "token")


def test_where_the_token_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LESSEN_TOKEN", "LESSEN_TOKEN_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token.path() == tmp_path / ".config" / "lessen" / "token"
    assert token.read() is None
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert token.path() == tmp_path / "x" / "lessen" / "token"
    monkeypatch.setenv("LESSEN_TOKEN_FILE", str(tmp_path / "mine"))
    made = token.make()
    assert (token.path(), token.read()) == (tmp_path / "mine", made)
    monkeypatch.setenv("LESSEN_TOKEN", "B" * 43)
    assert token.read() == "B" * 43  # of a client
    assert token.make() == made  # of the server


def test_a_token_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuthError, match="cannot be"):
        token.make(tmp_path / "file" / "token")


# in no log


@pytest.mark.slow
def test_neither_token_nor_key_nor_cookie_is_logged(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        key = server.login_url.partition("key=")[2]
        entered = server.request("GET", f"/login?key={key}", allow_redirects=False, headers={"Authorization": ""})
        cookie = entered.headers["set-cookie"].partition(";")[0].partition("=")[2]
        bodies = [
            server.get(
                "/api/v1/runs", headers={"Authorization": "", "Cookie": entered.headers["set-cookie"].partition(";")[0]}
            ),
            server.get(f"/api/v1/runs?token={server.token}&limit=x"),
            server.get(f"/api/v1/nothing?token={server.token}"),
            server.get(f"/login?key={key}"),
            server.get("/api/v1/runs", headers={"Host": server.token}),
            server.get("/api/v1/runs", headers={"Origin": f"http://{server.token}"}),
            server.post("/login", json={"token": [server.token]}),
            server.post("/login", data=server.token),
            server.post("/login", data=f'{{"token": "{server.token}"', headers={"Content-Type": "application/json"}),
        ]
        for given in ({"token": server.token}, {"token": server.token + "x"}, [server.token]):
            client = socketio.Client(reconnection=False)
            try:
                client.connect(f"{server.url}/?token={server.token}", auth=given, transports=["websocket"])
                client.call("subscribe", {"run_id": server.token}, timeout=10)
                client.disconnect()
            except socketio.exceptions.ConnectionError:
                pass
        eventually(lambda: "SOCKET /socket.io/" in server.log.read_text())
    said = server.log.read_text()
    assert "GET /api/v1/runs 200" in said
    for secret in (server.token, key, cookie):
        assert secret not in said
    for body in bodies[2:]:
        assert body.status_code >= 400
        assert (server.token in body.text) == (body.status_code == 421)  # which names the Host that was sent


def test_its_own_environment_does_not_reach_the_server(server: Running) -> None:
    """LESSEN_TOKEN is for clients: a server that took it would answer to a token that its file does not hold."""
    env = {**os.environ, "LESSEN_TOKEN": "C" * 43, "LESSEN_TOKEN_FILE": str(server.log.parent / "token")}
    code = "from lessen import token; print(token.make() == token.read(token.path()) != token.read())"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
