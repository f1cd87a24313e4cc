"""Renders templates to files: self-contained pages, streamed to a temporary file and replaced atomically."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from models.file_access import make_directory
from models.output_file import explained, keep_compiled, replacing
from reports.html import labels
from reports.html.charts import bars, line, trend_bars
from reports.html.filters import FILTERS, finalize
from reports.html.tables import TOP, findings_command, shares, specifications, sql_command

_BUFFER_SIZE: Final = 256
_FIX: Final = "name another directory with --output"
_METHODS: Final = frozenset(dir(dict))


class _Environment(Environment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """A column of a row, without the failed lookup of an attribute that Jinja tries first."""
        if type(obj) is dict and attribute in obj and attribute not in _METHODS:
            return obj[attribute]
        return super().getattr(obj, attribute)


class _BytecodeCache(BytecodeCache):
    """Keeps compiled templates where Python keeps its compiled modules; if it cannot, they are compiled again."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError), _compiled(bucket).open("rb") as file:
            bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        keep_compiled(_compiled(bucket), bucket.bytecode_to_string())


def _compiled(bucket: Bucket) -> Path:
    return Path(cache_from_source(__file__)).with_name(f"{bucket.key}.template")


@cache
def environment() -> Environment:
    """The Jinja environment: everything is escaped, undefined names fail, invisible characters are made visible."""
    jinja = _Environment(
        loader=PackageLoader("reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
        bytecode_cache=_BytecodeCache(),
        auto_reload=False,  # rows include templates, and each inclusion would look at the file
    )
    jinja.filters |= FILTERS
    jinja.globals |= {
        "labels": labels,
        "bars": bars,
        "line": line,
        "trend_bars": trend_bars,
        "shares": shares,
        "findings_command": findings_command,
        "gaps_command": sql_command(specifications()["gaps"]["sql"]),
        "TOP": TOP,
    }
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
        make_directory(path.parent)
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
