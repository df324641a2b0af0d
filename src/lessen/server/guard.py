"""Who may speak to the server by which name: Host and Origin allowlists, fetch metadata, and headers on every answer.

A page of another site can make a browser send requests here, and by DNS rebinding even under its own name as Host
and Origin alike. So both are held to lists that are known before the first request, on HTTP and on WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lessen.errors import LessenError
from lessen.server.problems import RequestError, clean, refuse
from lessen.server.settings import LOOPBACK, Settings

ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  addresses to listen at, never names to be called by
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
SAFE = ("GET", "HEAD")
OWN = ("same-origin", "none")  # Sec-Fetch-Site of our own page, and of an address that was typed

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' ws://{host} wss://{host}; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def names_of(settings: Settings) -> frozenset[str]:
    """Return the names a request may call the server by, without ports."""
    bound = () if settings.host in ANYWHERE else (settings.host,)
    return frozenset(name.strip("[]").lower() for name in (*LOOPBACK, *bound, *settings.allowed_hosts))


def origins_of(settings: Settings) -> frozenset[str]:
    """Return the origins whose pages may speak to the server: its own, under each of its names."""
    out = {f"http://{_bracketed(name)}:{settings.port}" for name in names_of(settings)}
    if settings.port == 80:
        out |= {f"http://{_bracketed(name)}" for name in names_of(settings)}
    for name in settings.allowed_hosts:  # a proxy in front may listen elsewhere
        place = _bracketed(name.strip("[]").lower())
        out |= {f"https://{place}", f"http://{place}", f"https://{place}:{settings.port}"}
    return frozenset(out)


def host_name(value: str) -> str | None:
    """Return the name within a Host header, without its port; None where it is malformed."""
    match = _HOST.fullmatch(value)
    if match is None or int(match["port"] or 0) > 65535:
        return None
    return (match["v6"] or match["name"]).lower()


class Guard:
    """Refuses foreign names, origins and pages, and adds the headers that keep browsers careful."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._names, self._origins = names_of(settings), origins_of(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that is meant for this server."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        careful = _careful(send, headers.get("host", ""))
        try:
            self._check(scope, headers)
        except LessenError as error:
            # the name was not ours: it must not come back in the policy
            await refuse(scope, receive, _careful(send, ""), error)
            return
        await self.app(scope, receive, careful)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise RequestError(400, f"a request needs one Host header, not {len(hosts)}")
        name = host_name(hosts[0])
        if name not in self._names:
            raise RequestError(
                421, f"this server does not go by the name {clean(hosts[0])[:100]!r}",
                "start it with --allow-host NAME if that name is its own", exit_code=5,
            )  # fmt: skip
        if b"\0" in scope.get("raw_path", b"") or "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            raise RequestError(400, "an address with a NUL character", "leave it out")
        self._check_page(scope, headers)

    def _check_page(self, scope: Scope, headers: Headers) -> None:
        """Refuse what a page of another origin caused; scripts outside of browsers send none of these headers."""
        origins = headers.getlist("origin")
        if origins:
            if len(origins) > 1 or origins[0].lower() not in self._origins:
                raise RequestError(403, "requests from pages of other origins are refused", exit_code=5)
            return
        site = headers.get("sec-fetch-site")
        if site is None or site in OWN:
            return
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if not (opened and scope["type"] == "http" and scope["method"] in SAFE):  # following a link is fine
            raise RequestError(403, "requests from pages of other sites are refused", exit_code=5)


def _careful(send: Send, host: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            policy = POLICY.format(host=host) if host else POLICY.replace(" ws://{host} wss://{host}", "")
            headers.setdefault("Content-Security-Policy", policy)
        await send(message)

    return sending


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def listed(names: Iterable[str]) -> tuple[str, ...]:
    """Return names for --allow-host, each checked.

    Raises:
        RequestError: one is not a name of a host.
    """
    out = []
    for name in names:
        if host_name(name if ":" not in name or name.startswith("[") else f"[{name}]") is None:
            raise RequestError(400, f"{name!r} is not the name of a host", "give a name or an address, without a port")
        out.append(name)
    return tuple(out)
