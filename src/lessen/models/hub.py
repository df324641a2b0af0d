"""Find a pretrained model's files: a local folder, or the hub's copy of a repository, safetensors only."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from lessen.errors import ModelError, UnavailableError

WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "README.md")
CARD_BYTES = 1 << 16  # of a model card that are read
CONNECT_SECONDS = 5.0
OPTIONS = "give a local folder (a Hugging Face folder or a lessen model), or scratch:<preset> (see `lessen models`)"


def folder(name: str) -> Path:
    """Return the folder that holds a model: the local one of this name, else the hub's snapshot.

    Raises:
        UnavailableError: it is not on this machine and the hub cannot be reached or does not have it.
        ModelError: a path that does not exist, or weights that are not safetensors.
    """
    local = Path(name).expanduser()
    if local.is_dir():
        _check(local, name)
        return local
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no folder {name}", OPTIONS)
    there = _snapshot(name)
    _check(there, name)
    return there


def on_disk(name: str) -> Path | None:
    """Return the folder of a model that is on this machine already, else None; nothing is fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    local = Path(name).expanduser()
    if local.is_dir():
        return local
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def is_id(name: str) -> bool:
    """Whether a model's or data set's name is an id of the hub: no folder here, no preset, no student's teacher."""
    local = Path(name).expanduser()
    return bool(re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name)) and name != "teacher" and not local.exists()


def licence(name: str) -> str | None:
    """Return the licence that the own card of a model on this machine gives; nothing is fetched."""
    import yaml

    there = on_disk(name) if is_id(name) or Path(name).expanduser().is_dir() else None
    card = there / "README.md" if there is not None else None
    if card is None or not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read(CARD_BYTES)
    found = re.match(r"---\s*\n(.*?)\n---\s*\n", text, re.DOTALL)
    try:
        front = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    given = front.get("license") if isinstance(front, dict) else None
    return given if isinstance(given, str) and re.fullmatch(r"[\w.-]+", given) and given != "unknown" else None


def _snapshot(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    offline = constants.HF_HUB_OFFLINE or not _reachable(constants.ENDPOINT)
    try:
        return Path(
            snapshot_download(
                name, allow_patterns=list(WANTED), ignore_patterns=["*/*"], local_files_only=offline
            )  # weights of other forms in subfolders stay there
        )
    except HFValidationError:
        raise ModelError(f"{name!r} is neither a folder nor a hub id", OPTIONS) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise UnavailableError(f"{name} is not on this machine and the hub cannot be reached", OPTIONS) from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnavailableError(f"{name} cannot be fetched: {reason}", OPTIONS) from None


def _reachable(endpoint: str) -> bool:
    """Whether the hub answers; the hub's own client would try for half a minute."""
    parts = urlsplit(endpoint)
    if parts.scheme in urllib.request.getproxies() or parts.hostname is None:
        return True  # the proxy knows
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _check(path: Path, name: str) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"{name} has no config.json", "give the folder of a model, or a hub id of one")
    if any(path.glob("*.safetensors")):
        return
    if any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.h5")):
        raise ModelError(
            f"{name} has its weights in another form than safetensors; pickles are not read",
            "convert it to safetensors: load it in transformers where you trust it, then save_pretrained",
        )
    raise UnavailableError(f"{name} has no *.safetensors on this machine", OPTIONS)
