"""Errors of the mart that its user can act on."""

from models.errors import UserError


class MartError(UserError):
    """The mart cannot be built or read."""


class OutdatedMartError(MartError):
    """The mart lacks a view or column, because an earlier version built it (exit code 4)."""

    def __init__(self) -> None:
        super().__init__(
            "the mart lacks views that this version of kmsledger reads: run `kmsledger mart` to rebuild it"
        )


class OverLimitError(MartError):
    """A query exceeded its time or memory limit (exit code 4)."""


def out_of_memory(subject: str = "the query") -> str:
    """The message about a query that exceeds the limits of its command."""
    return (
        f"{subject} needs more memory than its limit: select less (fewer columns, a WHERE), allow more with --memory-limit, or "
        "let it spill to disk with --temp-directory"
    )


class QueryError(UserError):
    """A query or its arguments are invalid."""

    exit_code = 2
