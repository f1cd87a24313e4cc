"""Renders templates to files: self-contained pages, streamed to a temporary file and replaced atomically."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from models.output_file import explained, replacing
from reports.html import labels
from reports.html.charts import columns, stack
from reports.html.filters import FILTERS, finalize
from reports.html.table_columns import TABLES

_BUFFER_SIZE: Final = 256
_FIX: Final = "name another directory with --output"


@cache
def environment() -> Environment:
    """The Jinja environment: everything is escaped, undefined names fail, invisible characters are made visible."""
    jinja = Environment(
        loader=PackageLoader("reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    jinja.filters |= FILTERS
    jinja.globals |= {"labels": labels, "stack": stack, "columns": columns, "tables": TABLES}
    return jinja


def write(template: str, context: Mapping[str, Any], path: Path) -> None:
    """Render `template` to the file at `path`, atomically."""
    style, script = _asset("report.css"), _asset("report.js")
    context = {
        **context,
        "style": Markup(style),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "policy": content_policy(script),
    }
    page = environment().get_template(template).stream(context)
    page.enable_buffering(_BUFFER_SIZE)
    with explained(path, _FIX):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, fix=_FIX) as unfinished, unfinished.open("x", encoding="utf-8", newline="\n") as file:
        file.writelines(page)


def copy(path: Path, to: Path) -> None:
    """Replace `to` with a copy of the file at `path`, atomically."""
    with replacing(to, fix=_FIX) as unfinished:
        shutil.copyfile(path, unfinished)


def content_policy(script: str) -> str:
    """The Content-Security-Policy of a page: no network access, and only our script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return (resources.files("reports.html") / "templates" / name).read_text(encoding="utf-8").strip()
