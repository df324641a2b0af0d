"""lessen serve."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal
from lessen.errors import ConflictError, RecipeError

if TYPE_CHECKING:
    from lessen.server.service import Service
    from lessen.server.settings import Settings

PORT = 5001
BACKLOG = 256
LONGEST_S = 5  # that an open request may hold up the end


def add_serve(parser: Parser) -> None:
    """Add the arguments of `lessen serve`."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the runs (runs)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen at ({PORT}); 0: any that is free")
    parser.add_argument("--no-auth", action="store_true", help="ask for no token; on this machine's address alone")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="a further name or address by which browsers reach this server; may be given again",
    )  # fmt: skip
    parser.add_argument("--rotate-token", action="store_true", help="make a new token first; the old one is void")
    parser.add_argument("--open", action="store_true", help="open the dashboard in a browser")


def do_serve(args: argparse.Namespace, terminal: Terminal) -> int:
    """Serve a folder of runs until Ctrl-C."""
    settings = _settings(args)
    if args.rotate_token and settings.auth:
        from lessen import token

        token.rotate(settings.token_file)
    with _listening(settings.host, settings.port) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        return _serve(settings, listener, terminal, open_page=args.open)


def _settings(args: argparse.Namespace) -> Settings:
    from lessen.server.guard import listed
    from lessen.server.settings import Settings

    if not 0 <= args.port <= 65535:
        raise RecipeError(f"--port {args.port} is not a port", "give 0 to 65535")
    settings = Settings(
        root=args.runs, host=args.host.strip("[]"), port=args.port, auth=not args.no_auth,
        allowed_hosts=listed(args.allow_host),
    )  # fmt: skip
    if not settings.auth and not settings.loopback:
        raise RecipeError(
            f"--no-auth with --host {args.host} would let everybody who reaches it train on this machine",
            "leave --no-auth out, or keep to 127.0.0.1",
        )
    return settings


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConflictError: the port is taken.
        RecipeError: the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"port {port} of {host} is in use", "is `lessen serve` running already? else choose another --port"
            ) from None
        if error.errno == errno.EACCES:
            raise RecipeError(f"port {port} is not for ordinary users", "choose --port 1024 or above") from None
        raise RecipeError(
            f"cannot listen at {host}:{port}: {error.strerror or error}", "give an address of this machine"
        ) from None


def _serve(settings: Settings, listener: socket.socket, terminal: Terminal, *, open_page: bool) -> int:
    import uvicorn

    from lessen.server.app import create_app

    _log_to_stderr(terminal)
    app = create_app(settings)
    service: Service = app.state.service
    try:
        service.begin()
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="on",
            ws_max_size=settings.max_message_bytes, limit_concurrency=4 * settings.max_sockets,
            timeout_graceful_shutdown=LONGEST_S, timeout_keep_alive=65,
        )  # fmt: skip
        _announce(settings, service, terminal, open_page=open_page)
        with _asked_to_stop():
            _server(config, service).run(sockets=[listener])
    finally:
        service.end()
    terminal.say("stopped; runs that were interrupted can be resumed")
    return 0


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    """Let uvicorn end in order: it raises the signal that ended it once more, which is then no news."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _server(config: Any, service: Service) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Says goodbye to the sockets first: they would otherwise be waited for."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await service.live.stop()
            await super().shutdown(sockets)

    return Server(config)


def _announce(settings: Settings, service: Service, terminal: Terminal, *, open_page: bool) -> None:
    """Say where the server is; the link's key works once and stands in no log."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    link = f"{url}/login?key={service.auth.key()}" if settings.auth else url
    terminal.answer(
        {
            "url": url, "login_url": link, "root": str(service.store.root), "store": str(service.store.path),
            "auth": settings.auth, "token_file": str(service.auth.file) if settings.auth else None, "pid": os.getpid(),
        }
    )  # fmt: skip
    sys.stdout.flush()
    if settings.auth and sys.stderr.isatty():
        terminal.say(f"dashboard   {link}   (this link works once)")
    else:  # what goes to a file must not let its readers in
        terminal.say(f"dashboard   {url}")
    terminal.say(f"runs        {service.store.root}")
    terminal.say(f"store       {service.store.path}")
    if settings.auth:
        terminal.say(f"token       {service.auth.file}; scripts send it as `Authorization: Bearer TOKEN`")
        if settings.loopback:
            terminal.say("            --no-auth lets everybody on this machine in without it")
    else:
        terminal.say("token       none: every user of this machine may start runs here")
    terminal.say("stop with Ctrl-C; a running run is interrupted and can be resumed")
    if open_page:
        import webbrowser

        webbrowser.open(link)


def _log_to_stderr(terminal: Terminal) -> None:
    level = logging.WARNING if terminal.quiet or not terminal.verbose else logging.INFO
    levels = {
        "lessen": level,
        "uvicorn": logging.WARNING,
    }  # uvicorn's own lines hold whole addresses with their queries
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name, least in levels.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
