"""What goes wrong with the mart, for its user."""

from models.errors import UserError


class MartError(UserError):
    """The mart cannot be built or read as things are."""


class QueryError(UserError):
    """DuckDB refused a query."""

    exit_code = 2
