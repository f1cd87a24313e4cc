"""What goes wrong for a user, as one sentence with cause and fix; the command prints it and ends with its exit code."""

from typing import ClassVar


class UserError(Exception):
    """A failure that the user can act on: shown as one sentence, never as a traceback."""

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message
