"""The errors a user can cause, each with what was given and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Callable


class LessenError(Exception):
    """A mistake that the user can mend.

    Args:
        message: what was given and what is allowed, one line.
        hint: what to do, one line; may be empty.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = " ".join(str(message).split())
        self.hint = " ".join(str(hint).split())

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class RecipeError(LessenError):
    """A recipe, flag or setting that cannot be carried out."""


class UnknownNameError(RecipeError):
    """A method, model, source or format that does not exist."""


class DataError(LessenError):
    """Data that cannot be read or used as asked."""


class ModelError(LessenError):
    """A model that cannot be had, built or used as asked."""


class ArtifactError(LessenError):
    """A model folder that is missing, damaged or of another kind."""


class UnavailableError(LessenError):
    """A model or data set that is not on this machine and cannot be fetched."""

    exit_code = 4


class NotFoundError(LessenError):
    """A run, stage, file or upload that does not exist."""

    exit_code = 4


class AuthError(LessenError):
    """A request without the right token."""

    exit_code = 5


class RateError(LessenError):
    """Too many requests.

    Args:
        retry_after_s: seconds until the next one is taken.
    """

    exit_code = 7

    def __init__(self, message: str, hint: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class GateError(LessenError):
    """A gate of `lessen check` that was not met."""

    exit_code = 3


class ConflictError(LessenError):
    """An output that exists already and would be overwritten."""

    exit_code = 6


class QueueFullError(ConflictError):
    """A run that is not taken, since as many as may wait are waiting.

    Args:
        retry_after_s: seconds after which asking again may help.
    """

    def __init__(self, message: str, hint: str = "", *, retry_after_s: float = 60.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class ResourceError(LessenError):
    """Too little disk or memory.

    Args:
        kind: disk_full or out_of_memory, where it is one of them.
    """

    exit_code = 7

    def __init__(self, message: str, hint: str = "", *, kind: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind


class TrainingError(LessenError):
    """Training that went wrong and was stopped: a non-finite loss, a useless teacher."""

    exit_code = 1


class Cancelled(LessenError):
    """The run was asked to stop; what it had checkpointed can be resumed.

    Args:
        for_good: somebody cancelled it; else it was interrupted (Ctrl-C, the end of the server).
    """

    exit_code = 75

    def __init__(self, message: str, hint: str = "", *, for_good: bool = False) -> None:
        super().__init__(message, hint)
        self.for_good = for_good


def as_lessen(error: BaseException) -> LessenError:
    """Return an error as people are told of it: itself, memory or a disk that ran out, or a bug of ours."""
    if isinstance(error, LessenError) and not (disk_full(error) and not getattr(error, "kind", "")):
        return error
    if disk_full(error):
        what = error.message if isinstance(error, LessenError) else getattr(error, "filename", None)
        if _chained(error, _too_large):
            how = "a file grew beyond what the disk or the limit of this shell (ulimit -f) allows"
            hint = "raise the limit or take another disk, then resume the run"
        else:
            how, hint = "the disk is full", "free some space, then resume the run"
        return ResourceError(f"{how}: {what}" if what else how, hint, kind="disk_full")
    if isinstance(error, MemoryError):
        return ResourceError(
            "out of memory", "use a smaller batch, or a machine with more memory", kind="out_of_memory"
        )
    return TrainingError(
        f"internal: {type(error).__name__}: {error}", "this is a bug of lessen; run again with --debug and report it"
    )


def disk_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that no space is left on a disk, or none for so large a file."""
    return _chained(error, _no_space) or _chained(error, _too_large)


def _no_space(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)  # libraries that write by themselves keep no errno


def _too_large(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno == errno.EFBIG) or "File too large" in str(error)


def _chained(error: BaseException, holds: Callable[[BaseException], bool]) -> bool:
    """Whether something holds for an error or one that led to it."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if holds(at):
            return True
        at = at.__cause__ or at.__context__
    return False
