"""Creates the mart's public views from views/*.sql, with descriptions, as-of macros and histories."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile

import duckdb

from reports.mart.connection import quoted

_HEADER = re.compile(r"--([ !:]) ?(.*)")
_COLUMNS_OF = "columns of "
_PARAMETER = re.compile(r"\bas_of_run\b")
_OF_VIEW = re.compile(r"\b([a-z_]+)_as_of\(as_of_run\)")
"""A view refers to another view by its as-of macro; for the same run, the macro is replaced by the view itself."""
_VIEW_RUN = "internal.view_run()"
"""The macro with the run as of which the views answer. The views keep their text, and with it their descriptions."""


@dataclass(frozen=True, slots=True)
class View:
    """One view: its SELECT with the parameter ``as_of_run``, and the descriptions of the view and its columns."""

    name: str
    text: str
    columns: dict[str, str]
    select: str
    stored: bool
    """Computed once, when the mart is built, because every reader needs it and its joins are costly."""
    internal: bool = False
    """A helper for rules and other views, in schema ``internal`` instead of ``main``."""

    @property
    def schema(self) -> str:
        """The schema of the view and its macro."""
        return "internal" if self.internal else "main"

    @property
    def qualified(self) -> str:
        """The name for queries."""
        return f"{self.schema}.{self.name}" if self.internal else self.name


@dataclass(frozen=True, slots=True)
class _History:
    table: str
    text: str
    columns: str
    source: str = ""
    where: str = ""


# Region and account are the fourth and fifth part of a key ARN.
_KEY_PLACE = "split_part(f.key_arn, ':', 5) AS account_id, split_part(f.key_arn, ':', 4) AS region"
_HISTORIES = {
    "accounts_history": _History(
        "account",
        "The versions of accounts.",
        "f.account_id, f.name, f.email, f.state, f.ou_path, f.ou_ids, f.joined_at, f.is_management, f.selection",
    ),
    "keys_history": _History(
        "key_metadata",
        "The versions of the keys' metadata.",
        f"f.key_arn, {_KEY_PLACE}, f.manager, f.state, f.enabled, f.description, f.key_usage, f.key_spec, f.origin, "
        "f.created_at, f.deletion_date, f.pending_window_days, f.material_expires_at, f.expiration_model, "
        "f.multi_region, f.multi_region_type, f.primary_arn, f.replica_arns, f.custom_key_store_id",
    ),
    "aliases_history": _History(
        "alias",
        "The versions of aliases: which key they pointed to, and when.",
        "f.alias_arn, f.alias_name, f.account_id, f.region, f.target_key_arn, f.created_at, f.updated_at",
    ),
    "key_policies_history": _History(
        "key_policy",
        "The policies that keys had.",
        f"f.key_arn, {_KEY_PLACE}, d.canonical AS policy, d.received",
        "JOIN internal.policy_document d USING (policy_hash)",
    ),
    "grants_history": _History(
        "key_grant",
        "The grants that keys had.",
        f"f.key_arn, {_KEY_PLACE}, f.grant_id, f.name, f.grantee_principal, f.grantee_service_principal, "
        "f.retiring_principal, f.retiring_service_principal, f.issuing_account, f.operations, f.constraints, f.created_at",
    ),
    "key_tags_history": _History(
        "tag",
        "The values that tags of keys had.",
        "f.resource_arn AS key_arn, split_part(f.resource_arn, ':', 5) AS account_id, "
        "split_part(f.resource_arn, ':', 4) AS region, f.tag_key, f.tag_value",
        where="WHERE split_part(f.resource_arn, ':', 3) = 'kms'",
    ),
    "resources_history": _History(
        "resource",
        "The versions of resources.",
        "f.resource_arn, f.resource_type, f.account_id, f.region, f.name, f.status, f.encryption, f.created_at, "
        "f.deletion_at, f.details",
    ),
    "resource_keys_history": _History(
        "resource_key",
        "The keys that resources used.",
        "f.resource_arn, f.role, f.position, f.key_arn, f.key_class, f.reason",
    ),
    "iam_principals_history": _History(
        "iam_principal",
        "The versions of IAM users and roles, with the trust policies of roles.",
        "f.arn, f.account_id, f.type, f.name, f.path, f.unique_id, f.created_at, f.permissions_boundary_arn, "
        "d.canonical AS trust_policy",
        "LEFT JOIN internal.policy_document d ON d.policy_hash = f.policy_hash",
    ),
    "resource_policies_history": _History(
        "resource_policy",
        "The policies that resources had; the absence of a policy is a version too.",
        "f.resource_arn, f.policy_hash IS NOT NULL AS has_policy, d.canonical AS policy, d.received",
        "LEFT JOIN internal.policy_document d ON d.policy_hash = f.policy_hash",
    ),
    "findings_history": _History(
        "finding",
        "The results of rules over time, for everything that is or ever was a problem.",
        "f.rule_id, f.severity, f.status, f.unwaived_status, f.resource_arn, f.account_id, f.region, f.key_arn, "
        "f.reason, f.waiver",
    ),
    "rule_results_history": _History(
        "rule_result",
        "The number of resources per status over time, by rule, account and region.",
        "f.rule_id, f.account_id, f.region, f.passed, f.failed, f.unknown, f.not_applicable, f.waived",
    ),
}
_HISTORY_COLUMNS = {
    "valid_from": "The run that first saw this version.",
    "valid_to": "The run that saw it changed or deleted; empty for the last known version.",
    "valid_from_at": "When that first run began.",
    "valid_to_at": "When that last run began.",
}
_HISTORY_SELECT = """
SELECT {columns}, f.valid_from, f.valid_to, b.started_at AS valid_from_at, e.started_at AS valid_to_at
FROM internal.{table} f
LEFT JOIN internal.run b ON b.run_id = f.valid_from
LEFT JOIN internal.run e ON e.run_id = f.valid_to
{source} {where}
"""


@cache
def views() -> tuple[View, ...]:
    """The shipped views, in the order of their dependencies."""
    folder = resources.files("reports.mart").joinpath("views")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    found: dict[str, View] = {}
    for file in files:
        view = _view(file.name, file.read_text(encoding="utf-8"), found)
        found[view.name] = view
    return tuple(found.values())


@cache
def public_names() -> frozenset[str]:
    """The names of the views and histories in schema ``main``."""
    return frozenset(view.name for view in views() if not view.internal).union(_HISTORIES)


def create(
    duck: duckdb.DuckDBPyConnection,
    as_of: int,
    *,
    schema: bool = False,
    stored: bool = True,
    up_to_date: Collection[str] = (),
) -> None:
    """Make the views of the catalog in use answer as of the run ``as_of``; create views, macros and descriptions.

    With ``schema``, the catalog has those of a mart of this version, except for stored views, which are new for each run. With
    ``stored``, these become tables, except those in ``up_to_date``.
    """
    duck.execute("BEGIN")  # otherwise each statement is a separate commit
    duck.execute(f"CREATE OR REPLACE MACRO {_VIEW_RUN} AS {as_of:d}")
    comments: list[str] = []
    for view in views():
        kind = "TABLE" if stored and view.stored else "VIEW"
        if not schema:
            duck.execute(f"CREATE MACRO {view.qualified}_as_of(as_of_run) AS TABLE {view.select}")
        if schema and not view.stored:
            continue
        if kind == "VIEW":
            duck.execute(f"CREATE VIEW {view.qualified} AS {fixed(view.select, _VIEW_RUN)}")
        elif view.qualified not in up_to_date:
            _store(duck, view, as_of)
        comments += _comments(kind, view.qualified, view.text, view.columns)
    if not schema:
        comments += _create_histories(duck)
    duck.execute("; ".join(comments))
    duck.execute("COMMIT")


def _create_histories(duck: duckdb.DuckDBPyConnection) -> list[str]:
    """Create the views of the histories; returns the statements that describe them."""
    described: dict[str, str] = {}
    for view in views():
        described = view.columns | described
    comments: list[str] = []
    for name, history in _HISTORIES.items():
        select = _HISTORY_SELECT.format(
            columns=history.columns, table=history.table, source=history.source, where=history.where
        )
        duck.execute(f"CREATE VIEW {name} AS {select}")
        columns = [row[0] for row in duck.execute(f"DESCRIBE {name}").fetchall()]
        base = next((view.columns for view in views() if view.name == name.removesuffix("_history")), {})
        texts = {column: (_HISTORY_COLUMNS | described | base)[column] for column in columns}
        comments += _comments("VIEW", name, history.text, texts)
    return comments


def recompute(duck: duckdb.DuckDBPyConnection, as_of: int, names: Collection[str]) -> None:
    """Recompute stored views, after their sources changed."""
    for view in views():
        if view.qualified in names:
            _store(duck, view, as_of)
            duck.execute("; ".join(_comments("TABLE", view.qualified, view.text, view.columns)))


def _store(duck: duckdb.DuckDBPyConnection, view: View, as_of: int) -> None:
    duck.execute(f"CREATE OR REPLACE TABLE {view.qualified} AS {fixed(view.select, as_of)}")


def fixed(select: str, as_of: int | str) -> str:
    """The SELECT of a view for one run: its number or an expression."""
    return _PARAMETER.sub(str(as_of), _OF_VIEW.sub(r"\1", select))


def _comments(kind: str, name: str, text: str, columns: Mapping[str, str]) -> list[str]:
    return [
        f"COMMENT ON {kind} {name} IS {quoted(text)}",
        *(f'COMMENT ON COLUMN {name}."{column}" IS {quoted(meaning)}' for column, meaning in columns.items()),
    ]


def _view(file: str, text: str, earlier: Mapping[str, View]) -> View:
    """Parse a view's file: ``--`` description, ``--:`` a column, ``--!`` stored, internal, or columns of another view."""
    title: list[str] = []
    columns: dict[str, str] = {}
    stored = internal = False
    lines = text.splitlines()
    matches = list(takewhile(lambda match: match is not None, map(_HEADER.fullmatch, lines)))
    for match in filter(None, matches):
        sign, rest = match.groups()
        if sign == ":":
            column, _, meaning = rest.partition(" | ")
            columns[column] = meaning
        elif sign == "!":
            stored = stored or rest == "stored"
            internal = internal or rest == "internal"
            if rest.startswith(_COLUMNS_OF):
                other, _, excluded = rest.removeprefix(_COLUMNS_OF).partition(" except ")
                columns |= {
                    name: text for name, text in earlier[other].columns.items() if name not in excluded.split(", ")
                }
        else:
            title.append(rest)
    name = file.removesuffix(".sql").partition("_")[2]
    return View(name, " ".join(title), columns, "\n".join(lines[len(matches) :]), stored, internal)
