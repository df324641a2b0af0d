"""A client of `lessen serve`, with nothing but the standard library."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.errors import (
    AuthError,
    ConflictError,
    LessenError,
    NotFoundError,
    QueueFullError,
    RecipeError,
    ResourceError,
    UnavailableError,
)
from lessen.events import LIVE

if TYPE_CHECKING:
    from lessen.report import Report

URL = "http://127.0.0.1:5001"
API = "/api/v1"
WAIT_SECONDS = 20  # a question for news stays open that long
PAUSE_SECONDS = 0.15  # between two questions: the server answers 600 a minute
PATIENCE_SECONDS = 30.0  # how long `watch` asks a server that went away, from the first failure on
RETRY_SECONDS = 0.5  # between two questions to it
KINDS: dict[int, type[LessenError]] = {
    401: AuthError, 403: AuthError, 404: NotFoundError, 409: ConflictError, 422: RecipeError, 424: UnavailableError,
    507: ResourceError,
}  # fmt: skip
QUEUE_FULL = "urn:lessen:queue-full"
OWN_HINT = "set LESSEN_TOKEN, or give Client a token: the token file is sent to this machine alone"


class ServerError(LessenError):
    """A server that cannot be reached or answers with an error of its own."""

    exit_code = 1


@dataclass(frozen=True)
class RemoteRun:
    """A run on a server."""

    run_id: str
    state: str
    name: str
    percent: float | None  # of the work, 0 to 100
    info: dict[str, Any] = field(repr=False)  # everything that the server says of it

    @property
    def live(self) -> bool:
        """Whether it waits, runs or is being cancelled."""
        return self.state in LIVE


class Client:
    """Start, watch, cancel and fetch runs on a server.

    Args:
        url: of the server, http or https. An answer that sends on to another address is refused, and the proxies of
            the environment are not used for this machine (localhost, 127.0.0.0/8, ::1).
        token: of the server; LESSEN_TOKEN when absent, else the token file of this user, which is sent to this machine
            alone.
        timeout: seconds that a request may take.

    Raises:
        RecipeError: the url is no address of a server.
        AuthError: others can read the token file, or it holds no token.

    Example:
        >>> import lessen
        >>> client = lessen.Client()                         # doctest: +SKIP
        >>> run = client.start("distillBert")                # doctest: +SKIP
        >>> for event in client.watch(run):                  # doctest: +SKIP
        ...     print(event["kind"], event.get("loss"))
        >>> client.report(run).final                         # doctest: +SKIP
    """

    def __init__(self, url: str = URL, token: str | None = None, timeout: float = 60.0) -> None:
        self.url, host = _address(url)
        self.timeout = timeout
        here = _is_here(host)
        self._token = token if token is not None else _own_token(here)
        self._opener = _opener(here)

    def start(
        self,
        model_name: str | None = None,
        *,
        recipe: Mapping[str, Any] | None = None,
        preset: str = "demo",
        name: str | None = None,
    ) -> RemoteRun:
        """Queue a run.

        Args:
            model_name: distillBert, T5-small, MobileNetV2 or ResNet-18: a recipe on embedded data.
            recipe: settings, laid over those of the model's preset where one is named.
            preset: demo, balanced or thorough.

        Raises:
            RecipeError: the settings cannot be carried out.
            ConflictError: the queue is full.
        """
        body: dict[str, Any] = {"recipe": dict(recipe)} if recipe is not None else {}
        body |= {"model_name": model_name, "preset": preset} if model_name is not None else {}
        return _run(self._json("POST", "/runs", body | ({"name": name} if name else {})))

    def runs(self, *, state: str | None = None, search: str = "", limit: int = 50) -> list[RemoteRun]:
        """Return the runs, newest first."""
        query = {"limit": limit, "search": search, **({"state": state} if state else {})}
        return [_run(info) for info in self._json("GET", f"/runs?{urllib.parse.urlencode(query)}")["runs"]]

    def run(self, run: RemoteRun | str = "latest") -> RemoteRun:
        """Return a run as it is now."""
        return _run(self._json("GET", f"/runs/{_id(run)}"))

    def watch(self, run: RemoteRun | str = "latest", *, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the events of a run as they happen, from the first one on, until it has ended.

        A connection that breaks is taken up again where it broke: none is lost, none comes twice.

        Args:
            after: leave out the events up to this `seq`.

        Raises:
            ServerError: the server has been away for half a minute, counted from the first question that failed.
        """
        run_id = self.run(run).run_id
        failing: float | None = None  # since when
        while True:
            query = urllib.parse.urlencode({"after": after, "wait": WAIT_SECONDS})
            try:
                page = self._json("GET", f"/runs/{run_id}/events?{query}", timeout=WAIT_SECONDS + self.timeout)
            except ServerError:
                now = time.monotonic()
                failing = now if failing is None else failing
                if now - failing > PATIENCE_SECONDS:
                    raise
                time.sleep(RETRY_SECONDS)
                continue
            failing = None
            for event in page["events"]:
                after = event["seq"]
                yield event
            if page["state"] not in LIVE and not page["events"]:
                return
            time.sleep(PAUSE_SECONDS)

    def wait(self, run: RemoteRun | str = "latest") -> RemoteRun:
        """Return the run once it has ended."""
        for _ in self.watch(run):
            pass
        return self.run(run)

    def cancel(self, run: RemoteRun | str = "latest") -> RemoteRun:
        """Ask a run to stop; it has within 15 seconds."""
        return _run(self._json("POST", f"/runs/{_id(run)}/cancel", {}))

    def resume(self, run: RemoteRun | str = "latest") -> RemoteRun:
        """Queue a run that was cancelled, interrupted or failed again; it goes on where it stopped."""
        return _run(self._json("POST", f"/runs/{_id(run)}/resume", {}))

    def report(self, run: RemoteRun | str = "latest") -> Report:
        """Return the report of a run, as far as it is.

        Raises:
            NotFoundError: nothing has been measured yet.
        """
        from lessen.report import Report

        return Report.model_validate(self._json("GET", f"/runs/{_id(run)}/report"))

    def download(self, run: RemoteRun | str = "latest", to: str | Path = ".") -> Path:
        """Fetch the final model and the report as one zip, and return its path.

        Args:
            to: a folder, or the path of the file; nothing is left there when the download breaks.
        """
        run_id = self.run(run).run_id
        target = Path(to)
        target = target / f"{run_id}.zip" if target.is_dir() else target
        partial = target.with_name(f".{target.name}.partial")
        try:
            with self._open("GET", f"{API}/runs/{run_id}/download") as answer, partial.open("wb") as stream:
                shutil.copyfileobj(answer, stream)
            os.replace(partial, target)
        except (HTTPException, OSError) as error:
            raise ServerError(f"the download of {run_id} broke: {error}", "try again") from None
        finally:
            partial.unlink(missing_ok=True)
        return target

    def predict(self, inputs: list[str], run: RemoteRun | str = "latest") -> dict[str, Any]:
        """Return what each stage of a run answers to texts: stages, each with answers and latency_ms."""
        found: dict[str, Any] = self._json("POST", "/predictions", {"run_id": _id(run), "inputs": inputs})
        return found

    def _json(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        with self._open(method, API + path, body, timeout) as answer:
            try:
                return json.load(answer)
            except ValueError:
                raise ServerError(f"{self.url} does not answer with JSON", "is it `lessen serve`?") from None
            except (HTTPException, OSError) as error:
                raise ServerError(f"{self.url} broke off: {error}", "try again") from None

    def _open(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> HTTPResponse:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310  http(s), checked
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=timeout or self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 401 and not self._token:
                raise AuthError(f"{self.url} wants a token, and none was sent", OWN_HINT) from None
            raise _refusal(error, self.url) from None
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(f"no server answers at {self.url}: {reason}", "start one with `lessen serve`") from None
        return answer


def _refusal(error: urllib.error.HTTPError, url: str) -> LessenError:
    """Return the error that a problem document tells of."""
    if 300 <= error.code < 400:
        to = error.headers.get("Location") or "nowhere"
        return ServerError(f"{url} sends on to {to!r}, where no token is taken", "give the server's own address")
    try:
        told = json.load(error)
        detail, hint, kind = str(told["detail"]), str(told.get("hint") or ""), told.get("type")
    except (ValueError, KeyError, TypeError):
        detail, hint, kind = f"{url} answers {error.code} {error.reason}", "is it `lessen serve`?", None
    if kind == QUEUE_FULL:
        return QueueFullError(detail, hint)
    return KINDS.get(error.code, ServerError)(detail, hint)


def _run(info: dict[str, Any]) -> RemoteRun:
    percent = (info.get("progress") or {}).get("percent")
    return RemoteRun(str(info["run_id"]), str(info["state"]), str(info["name"]), percent, info)


def _id(run: RemoteRun | str) -> str:
    return urllib.parse.quote(run.run_id if isinstance(run, RemoteRun) else run, safe="")


def _address(url: str) -> tuple[str, str]:
    """Return the address of a server as requests are made from it, and its host."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _port = parts.hostname, parts.port  # the port is checked as it is read
    except ValueError:
        raise RecipeError(f"{url!r} is no address of a server", f"give one such as {URL}") from None
    if parts.scheme not in ("http", "https") or not host or "\\" in parts.netloc:
        raise RecipeError(f"{url!r} is no address of a server", f"give one such as {URL}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RecipeError(f"{url!r} is more than the address of a server", f"give scheme, host and port, as in {URL}")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"), host


def _is_here(host: str) -> bool:
    """Whether a host is this machine by its name alone: nothing is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_token(here: bool) -> str | None:
    from lessen import token

    return token.given() or (token.read(token.path()) if here else None)


def _opener(here: bool) -> urllib.request.OpenerDirector:
    """Return what opens http and https alone and follows no redirect: the token would go along with it."""
    opener = urllib.request.OpenerDirector()
    handlers = [
        urllib.request.ProxyHandler({} if here else None), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(),
    ]  # fmt: skip
    for handler in handlers:
        opener.add_handler(handler)
    return opener
