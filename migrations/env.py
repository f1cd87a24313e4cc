"""Runs the migrations on the connection that models.store.engine passes."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from models.tables import Base
from models.types import UtcDateTime


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Render UtcDateTime as SQLAlchemy's own type, so that migrations do not depend on column types that may change."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    render_item=render_item,
)
context.run_migrations()
