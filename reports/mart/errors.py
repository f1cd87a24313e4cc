"""Errors of the mart that its user can act on."""

from models.errors import UserError


class MartError(UserError):
    """The mart cannot be built or read."""


class QueryError(UserError):
    """A query or its arguments are invalid."""

    exit_code = 2
