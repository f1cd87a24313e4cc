"""Errors that a command prints as one sentence, with cause and fix, before it exits with their exit code."""

from types import TracebackType
from typing import ClassVar


class UserError(Exception):
    """A failure that the user can fix: printed as one sentence, never as a traceback."""

    exit_code: ClassVar[int] = 4
    is_reported: ClassVar[bool] = True
    """Whether an unattended run reports it through the channels of the settings."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class InvalidSettingsError(UserError):
    """Several settings are invalid; the text has the message of each on a line of its own."""

    exit_code = 2


class Collected:
    """Collects the errors of several ``with`` blocks, so that all are reported at once."""

    def __init__(self) -> None:
        self._errors: list[UserError] = []

    def __enter__(self) -> None:
        """Begin a block."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: TracebackType | None) -> bool:
        """Keep a UserError; other exceptions are raised."""
        if isinstance(error, UserError):
            self._errors.append(error)
            return True
        return False

    def messages(self) -> list[str]:
        """The lines of all errors, each once."""
        return list(dict.fromkeys(line for error in self._errors for line in str(error).splitlines()))

    def reraise(self) -> None:
        """Raise the only error, or InvalidSettingsError for several."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise InvalidSettingsError("\n".join(self.messages()))
