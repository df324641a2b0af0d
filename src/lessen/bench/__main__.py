"""python -m lessen.bench MODELS THREADS: answer JSON lines on stdin with JSON lines on stdout until stdin ends.

A request is {"do": name, ...}; a reply {"ok": true, ...} or {"ok": false, "error": {kind, message, hint}}. What
libraries print goes to stderr. A failed request leaves the process fit for the next one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from lessen.errors import LessenError

Request = dict[str, Any]
Reply = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Serve requests until stdin ends."""
    from lessen.bench.opened import Opened

    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not break the line protocol
    opened = Opened(most=int(arguments[0]), threads=int(arguments[1]))
    for line in sys.stdin:
        replies.write(json.dumps(answered(json.loads(line), opened), allow_nan=False) + "\n")
        replies.flush()
    return 0


def answered(request: Request, opened: Any) -> Reply:
    """Return the reply to a request; whatever goes wrong is told, not raised."""
    do = str(request.pop("do", ""))
    try:
        return {"ok": True, **_doing(do)(opened, **request)}
    except LessenError as error:
        return _failed(type(error).__name__, error.message, error.hint)
    except MemoryError:
        opened.clear()
        return _failed("ResourceError", f"out of memory during {do}", "ask for fewer stages or a smaller model")
    except Exception as error:
        import traceback

        traceback.print_exc()
        return _failed("", f"{do} failed: {type(error).__name__}: {error}", "the server's log may say more")


def _failed(kind: str, message: str, hint: str) -> Reply:
    return {"ok": False, "error": {"kind": kind, "message": message, "hint": hint}}


def _doing(do: str) -> Callable[..., Reply]:
    if do == "predict":
        from lessen.bench.answers import predict

        return predict
    if do in ("layers", "histogram"):
        from lessen.bench import layers

        found: Callable[..., Reply] = getattr(layers, do)
        return found
    if do == "test_model":
        from lessen.bench.trial import test_model

        return test_model
    if do == "plan":
        from lessen.bench.planning import plan

        return plan
    raise LessenError(f"the helper process cannot do {do!r}", "predict, layers, histogram, test_model and plan exist")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
