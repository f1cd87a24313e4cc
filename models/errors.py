"""Errors that a command prints as one sentence, with cause and fix, before it exits with their exit code."""

from typing import ClassVar


class UserError(Exception):
    """A failure that the user can fix: printed as one sentence, never as a traceback."""

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message
