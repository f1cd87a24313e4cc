"""Exports the views as Parquet files for a data lake: one folder per view, one partition per date, atomic replacement."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb

from models.file_access import make_directory, share
from models.output_file import OutputError, reject_irregular
from reports.mart.as_of import moments, resolve_as_of
from reports.mart.connection import CATALOG, Limits, fetch_one, literal, quoted
from reports.mart.errors import MartError, OutdatedMartError, QueryError
from reports.mart.mart_reader import open_mart
from reports.mart.view_loader import views

PARTITIONS = {"account": "account_id", "region": "region"}
"""Further partitions of a date: the name in the path, and the column with its values.

The names differ from the columns', which stay in the files: readers that guess types from paths would
convert an account ID to a number and drop its leading zeros.
"""
NULL = "__HIVE_DEFAULT_PARTITION__"
_FILE = "part.parquet"


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of exporting one view."""

    view: str
    rows: int
    files: int
    folder: Path


def export(
    mart: Path,
    folder: Path,
    names: Sequence[str] = (),
    partition: Sequence[str] = (),
    *,
    as_of: str | None = None,
    limits: Limits | None = None,
) -> Iterator[Exported]:
    """Write views (by default all but the histories) below a folder: VIEW/run_date=YYYY-MM-DD/part.parquet.

    With ``partition`` (names of PARTITIONS), a date's folder is divided further, for views that have the column. A view is
    written to a staging folder, then moved file by file; exporting it again gives the same files. If several runs began on the
    same date, the run exported last replaces the others. Raises QueryError, MartError or OutputError.
    """
    limits = limits or Limits()
    with _staging(folder) as staging:
        limits = replace(limits, spill=limits.spill or staging, folder=staging)
        connection, run = open_mart(mart, as_of, limits=limits)
        with connection:
            run = run or resolve_as_of(moments(connection), *fetch_one(connection, "SELECT max(run_id) FROM runs"))
            for name in _chosen(connection, names):
                date = folder / name / f"run_date={run.started_at:%Y-%m-%d}"
                yield _view(connection, name, date, staging, partition)


def _chosen(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> list[str]:
    shipped = [view.name for view in views() if not view.internal]
    query = (
        "SELECT table_name FROM information_schema.tables WHERE table_catalog = ? AND table_schema = 'main' ORDER BY 1"
    )
    known = [name for (name,) in connection.execute(query, [CATALOG]).fetchall()]
    for name in names:
        if name not in known:
            raise QueryError(f"there is no view {name!r}: `kmsledger schema` lists the views")
    return list(dict.fromkeys(names)) or shipped


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same file system, so that the final move is atomic."""
    try:
        make_directory(folder)
        staging = Path(tempfile.mkdtemp(prefix=".kmsledger-", dir=folder)).absolute()
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        yield staging
    except OSError as error:
        raise _refused(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # succeeds only if nothing was written to the folder and it was empty before
            folder.rmdir()


def _refused(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{folder} cannot be written ({error.strerror}): free disk space or give this user write permission; every file there "
        "is complete, with its old or its new content"
    )


def _view(
    connection: duckdb.DuckDBPyConnection, name: str, date: Path, staging: Path, partition: Sequence[str]
) -> Exported:
    written: list[Path] = []
    try:
        whole = staging / f"{name}.parquet"
        columns = [row[0] for row in connection.execute(f'DESCRIBE "{name}"').fetchall()]
        divided = [one for one in PARTITIONS if one in partition and PARTITIONS[one] in columns]
        names = [PARTITIONS[one] for one in divided]
        order = f" ORDER BY {', '.join(names)}" if names else ""
        connection.sql(f'SELECT * FROM "{name}"{order}').write_parquet(str(whole), compression="zstd")
        source = f"read_parquet({quoted(literal(whole))})"
        (rows,) = connection.execute(f"SELECT count(*) FROM {source}").fetchone() or (0,)
        if not names:
            written.append(_moved(whole, date / _FILE))
        else:
            for values in connection.execute(f"SELECT DISTINCT {', '.join(names)} FROM {source}").fetchall():
                part = staging / _FILE
                condition = " AND ".join(f"{column} IS NOT DISTINCT FROM ?" for column in names)
                relation = connection.sql(f"SELECT * FROM {source} WHERE {condition}", params=list(values))
                relation.write_parquet(str(part), compression="zstd")
                place = "/".join(f"{one}={_encoded(value)}" for one, value in zip(divided, values, strict=True))
                written.append(_moved(part, date / place / _FILE))
            whole.unlink()
    except duckdb.OutOfMemoryException as error:
        raise MartError(f"view {name} exceeds the memory limit: raise it with --memory-limit") from error
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise OutdatedMartError from error
    except duckdb.Error as error:
        raise OutputError(f"view {name} cannot be exported: {str(error).splitlines()[0]}") from error
    _cleared(date, written)
    return Exported(name, rows, len(written), date)


def _encoded(value: Any) -> str:
    """A value as part of a path, escaped as Hive does, so that no file system or reader misinterprets it."""
    return NULL if value is None or value == "" else quote(str(value), safe="").replace(".", "%2E")


def _moved(source: Path, target: Path) -> Path:
    make_directory(target.parent)
    share(source)
    reject_irregular(target)
    return source.replace(target)


def _cleared(date: Path, written: Iterable[Path]) -> None:
    """Delete files of an earlier export of the same date that this export did not replace."""
    keep = set(written)
    for path in sorted(date.rglob(_FILE)):
        if path not in keep:
            path.unlink()
    for path in sorted((path for path in date.rglob("*=*") if path.is_dir()), reverse=True):
        with suppress(OSError):  # it still has files, ours or somebody else's
            path.rmdir()
