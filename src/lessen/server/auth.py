"""The token at the door: a header, or a cookie that stands for it.

The cookie never holds the token. It is signed with it, so that it lives through restarts of the server and dies with
the token's rotation.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from lessen import token
from lessen.errors import AuthError
from lessen.server.problems import refuse
from lessen.server.settings import Settings

log = logging.getLogger("lessen.server")
SESSION_S = 30 * 24 * 3600
KEY_S = 3600  # a printed link is good for an hour, once
OPEN = frozenset({"/", "/test", "/login", "/favicon.ico"})
OPEN_BELOW = "/static/"
SOCKETS = "/socket.io"  # asks for the token itself, when a client connects
ANYONE = "anyone"  # the credential of a server without a token


class Auth:
    """Knows the token, signs sessions, and hands out links that work once.

    Raises:
        AuthError: the token's file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.enabled = settings.auth
        self.file: Path = settings.token_file or token.path()
        self.cookie = f"lessen_{settings.port}"  # cookies know no ports: two servers must not share a name
        self.generation = 0  # counts the tokens of this server's life
        self._lock = threading.Lock()
        self._keys: dict[bytes, float] = {}
        self._token = token.make(self.file) if self.enabled else ""
        self._seen = self._mark()

    def who(self, authorization: str | None = None, cookies: str | None = None, given: str | None = None) -> str | None:
        """Return the credential behind a request, None where there is none that holds.

        Args:
            authorization: that header; `Bearer TOKEN`.
            cookies: the Cookie header.
            given: a bare token, as Socket.IO clients send it.
        """
        if not self.enabled:
            return ANYONE
        self._refresh()
        scheme, _, value = (authorization or "").partition(" ")
        bearer = value.strip() if scheme.lower() == "bearer" else None
        for candidate in (bearer, given):
            if candidate is not None and self.matches(candidate):
                return "token"
        session = self._session_in(cookies)
        return f"session:{session.split('.')[1]}" if session and self._holds(session) else None

    def matches(self, candidate: str) -> bool:
        """Return whether a text is the token; takes the same time however much of it is right."""
        return hmac.compare_digest(candidate.encode("utf-8", "replace"), self._token.encode())

    def key(self) -> str:
        """Return a key for /login?key=..., which works once."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            now = time.monotonic()
            self._keys = {known: end for known, end in self._keys.items() if end > now}
            self._keys[_digest(key)] = now + KEY_S
        return key

    def redeem(self, key: str) -> bool:
        """Use up a key; return whether it was good."""
        with self._lock:
            return self._keys.pop(_digest(key), 0.0) > time.monotonic()

    def session(self) -> str:
        """Return a new cookie's value."""
        body = f"{int(time.time()) + SESSION_S:x}.{secrets.token_urlsafe(16)}"
        return f"{body}.{self._sign(body)}"

    def set_cookie(self, value: str | None) -> str:
        """Return the Set-Cookie header that keeps a session, or ends it where `value` is None."""
        age = SESSION_S if value else 0
        return f"{self.cookie}={value or ''}; Max-Age={age}; Path=/; HttpOnly; SameSite=Strict"

    def rotate(self) -> None:
        """Put a new token into the file; every session and open link ends."""
        fresh = token.rotate(self.file)
        with self._lock:
            self._keys.clear()
        self._adopt(fresh)

    def _adopt(self, fresh: str) -> None:
        with self._lock:
            self._seen = self._mark()
            if fresh != self._token:
                self._token = fresh
                self.generation += 1

    def _refresh(self) -> None:
        """Take up a token that another process rotated."""
        if self._mark() == self._seen:
            return
        try:
            fresh = token.read(self.file)
        except AuthError as error:
            self._seen = self._mark()
            log.warning("the token's file changed and is not used: %s", error)
            return
        if fresh is not None:
            self._adopt(fresh)

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            about = os.stat(self.file)
        except OSError:
            return None
        return about.st_mtime_ns, about.st_ino, about.st_mode

    def _session_in(self, cookies: str | None) -> str | None:
        try:
            found = SimpleCookie(cookies or "").get(self.cookie)
        except CookieError:
            return None
        return found.value if found else None

    def _holds(self, session: str) -> bool:
        body, _, signature = session.rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(body).encode()):
            return False
        return int(body.split(".")[0], 16) > time.time()

    def _sign(self, body: str) -> str:
        return hmac.new(
            self._token.encode(), b"lessen session " + body.encode("utf-8", "replace"), "sha256"
        ).hexdigest()


def is_open(method: str, path: str) -> bool:
    """Return whether a request needs no token."""
    if path == "/login":
        return method in ("GET", "POST")
    return method in ("GET", "HEAD") and (path in OPEN or path.startswith(OPEN_BELOW))


class Gate:
    """Lets a request in that carries the token; notes whose it is for the limits behind."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self.app, self.auth = app, auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that may come in."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path == SOCKETS or path.startswith(f"{SOCKETS}/") or is_open(scope.get("method", ""), path):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        credential = self.auth.who(headers.get("authorization"), headers.get("cookie"))
        if credential is None:
            await refuse(scope, receive, send, wanted(self.auth))
            return
        scope["lessen.credential"] = credential
        await self.app(scope, receive, send)


def wanted(auth: Auth) -> AuthError:
    """Return the error of a request without the token."""
    return AuthError(
        "this needs the server's token",
        f"send `Authorization: Bearer TOKEN`; TOKEN lies in {auth.file} on the server's machine, "
        "or start the server with --no-auth",
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
