"""The token that lets a client use the server: 256 random bits in a file that only its owner can read."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from pathlib import Path

from lessen.errors import AuthError

_SHAPE = re.compile(r"[A-Za-z0-9_-]{43,128}")


def path() -> Path:
    """Return where the token lies: LESSEN_TOKEN_FILE, else `lessen/token` below XDG_CONFIG_HOME or ~/.config."""
    named = os.environ.get("LESSEN_TOKEN_FILE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lessen" / "token"


def given() -> str | None:
    """Return the token that LESSEN_TOKEN holds, None where it is not set.

    Raises:
        AuthError: it holds no token.
    """
    text = os.environ.get("LESSEN_TOKEN")
    return _checked(text, "LESSEN_TOKEN") if text else None


def read(file: Path | None = None) -> str | None:
    """Return the token for a client, None where there is none.

    Args:
        file: where to look; when None, LESSEN_TOKEN goes first, then `path()`.

    Raises:
        AuthError: others can read the file, or it holds no token.
    """
    if file is None and (token := given()):
        return token
    where = file or path()
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuthError(f"{where} cannot be read: {error.strerror}", "LESSEN_TOKEN_FILE names another file") from None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as stream:
        about = os.fstat(stream.fileno())
        if stat.S_IMODE(about.st_mode) & 0o077:
            raise AuthError(
                f"others may read {where}, so the token in it is not safe",
                f"`chmod 600 {where}`, then `lessen serve --rotate-token`",
            )
        return _checked(stream.read(4096), str(where))


def make(file: Path | None = None) -> str:
    """Return the token of a file; where there is none yet, make one.

    Raises:
        AuthError: the file cannot be read or written.
    """
    return read(file or path()) or rotate(file)


def rotate(file: Path | None = None) -> str:
    """Put a new token into the file and return it: the old one, and all that was signed with it, is worthless.

    Raises:
        AuthError: the file cannot be written.
    """
    where = file or path()
    token = secrets.token_urlsafe(32)
    try:
        where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=where.parent, prefix=".token-")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(token + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(where)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise AuthError(
            f"the token cannot be written to {where}: {error.strerror}", "LESSEN_TOKEN_FILE names another file"
        ) from None
    return token


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not _SHAPE.fullmatch(token):
        raise AuthError(f"{where} holds no token of lessen", "`lessen serve --rotate-token` makes a new one")
    return token
