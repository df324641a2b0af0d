"""The errors a user can cause, each with what was given and what to do about it."""

from __future__ import annotations


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


class GateError(LessenError):
    """A gate of `lessen check` that was not met."""

    exit_code = 3


class ConflictError(LessenError):
    """An output that exists already and would be overwritten."""

    exit_code = 6


class ResourceError(LessenError):
    """Too little disk or memory."""

    exit_code = 7


class TrainingError(LessenError):
    """Training that went wrong and was stopped: a non-finite loss, a useless teacher."""

    exit_code = 1


class Cancelled(LessenError):
    """The run was asked to stop; what it had checkpointed can be resumed."""

    exit_code = 75
