"""Which code computed: the commits of the working folder's repository and of lessen's own source."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

SECONDS = 10.0  # that git may take; a slow disk costs the commit, never the run


def code() -> dict[str, dict[str, Any] | None]:
    """Return {"folder": of the working folder's repository, "lessen": of lessen's source}, each as `commit` says.

    lessen is null where it is installed, not a checkout: a virtual environment may lie in a repository of other code.
    """
    own = Path(__file__).parents[1]
    kept = _git(own, "ls-files", "--error-unmatch", "__init__.py") is not None
    return {"folder": commit(Path.cwd()), "lessen": commit(own) if kept else None}


def commit(folder: Path) -> dict[str, Any] | None:
    """Return {"commit": its full name, "dirty": whether a file that git keeps is changed}.

    None where there is no repository, no commit in it yet, or no git; nothing is written.
    """
    name = _git(folder, "rev-parse", "--verify", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": name, "dirty": bool(changed)} if name and changed is not None else None


def _git(folder: Path, *words: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    # a repository's own settings may name a program that is to watch its files
    command = [git, "-C", str(folder), "-c", "core.fsmonitor=false", *words]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
