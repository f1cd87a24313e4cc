"""Deduplicate key policies: find new versions, derive the distinct analyses they need, and assign an analysis to each key.

The database finds the distinct analyses and assigns them to keys. Only keys whose policy depends on their own ARN, tags or
aliases are handled individually.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, RowMapping, Table, Text, insert, select, text

from models.hashing import content_hash
from models.store.staging import stage
from models.tables import PolicyDocument
from models.tables.access_analysis import AccessPolicy
from reports.access.analysis.runner import AnalysisRequest
from reports.access.engine.analysis_key import ENGINE, cache_key, context_inputs, deny_scope, organization_key
from reports.access.engine.model import KeyFacts, Organization
from reports.access.engine.policy_parser import Policy, parse

_PARSED = 1_000
"""Parsed policies that are kept; queries return equal policies one after the other."""
_READ = 500
"""Policies that are read at a time."""
_Row = TypeVar("_Row", bound=Mapping[Any, Any])
_GROUP = ("policy_hash", "account_id", "head", "manager", "key_spec", "key_usage", "origin")


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"])


_SHARED = _temporary(
    "access_shared",
    Column("policy_hash", LargeBinary(16), primary_key=True),
    *(Column(name, Text, primary_key=True) for name in _GROUP[1:]),
    Column("analysis_id", LargeBinary(16)),
    Column("content_hash", LargeBinary(16)),
)
_SINGLE = _temporary(
    "access_single",
    Column("version_id", Integer, primary_key=True, autoincrement=False),
    Column("analysis_id", LargeBinary(16)),
    Column("content_hash", LargeBinary(16)),
)


@dataclass(frozen=True, slots=True)
class Watermark:
    """What previous analyses covered: the last versions of the tables, and the organization."""

    policy: int
    metadata: int
    organization: bool
    """Whether the organization is unchanged."""


@dataclass(frozen=True, slots=True)
class PendingAnalyses:
    """The analyses to run, by analysis id, and how many policy versions need them."""

    requests: dict[bytes, AnalysisRequest]
    versions: int


def find_pending(connection: Connection, organization: Organization, watermark: Watermark) -> PendingAnalyses:
    """Find the analyses that new and changed policies need.

    Leaves the analysis of each key in temporary tables, for :func:`assign_analyses`.
    """
    parsed = lru_cache(_PARSED)(parse)
    _insert_policies(connection, watermark, parsed)
    _collect_versions(connection, watermark)
    requests: dict[bytes, AnalysisRequest] = {}

    def request(digest: bytes, received: str, facts: KeyFacts) -> tuple[bytes, bytes]:
        """Return the id of the analysis of a policy on a key, and the content hash of the rows with this id."""
        policy = parsed(received)
        identity = [ENGINE, digest.hex(), cache_key(policy, facts), organization_key(policy, facts, organization)]
        analysis_id = content_hash(identity)
        if analysis_id not in requests:
            requests[analysis_id] = AnalysisRequest(analysis_id, facts, digest)
        return analysis_id, content_hash([analysis_id.hex()])

    shared = []
    for row, received in _with_texts(connection, connection.execute(text(_distinct(connection))).mappings()):
        facts = key_facts(f"{row['head']}:kms::{row['account_id']}:key/-", row, None, None)
        shared.append((*(row[name] for name in _GROUP), *request(bytes(row["policy_hash"]), received, facts)))
    single = [
        (row["version_id"], *request(bytes(row["policy_hash"]), received, facts))
        for row, received, facts in _singles(connection)
    ]
    stage(connection, _SHARED, shared)
    stage(connection, _SINGLE, single)
    return PendingAnalyses(requests, connection.execute(text("SELECT count(*) FROM access_pending")).scalar_one())


def policy_texts(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, str]:
    """Return key policies as received, by hash."""
    table = PolicyDocument.table()
    remaining = iter(digests)
    texts: dict[bytes, str] = {}
    while some := list(islice(remaining, _READ)):
        query = select(table.c.policy_hash, table.c.received).where(table.c.policy_hash.in_(some))
        texts.update((bytes(digest), received) for digest, received in connection.execute(query))
    return texts


def _with_texts(connection: Connection, rows: Iterable[_Row]) -> Iterator[tuple[_Row, str]]:
    """Yield rows with their policies: all policies at once need too much memory."""
    remaining = iter(rows)
    while some := list(islice(remaining, _READ)):
        texts = policy_texts(connection, {bytes(row["policy_hash"]) for row in some})
        yield from ((row, texts[bytes(row["policy_hash"])]) for row in some)


def assign_analyses(connection: Connection, run_id: int) -> None:
    """Store the analysis of each key as history, after :func:`find_pending`."""
    join = _join(connection)
    for statement in _ASSIGN:
        connection.execute(text(statement.format(join=join)), {"run": run_id} if ":run" in statement else {})


def key_facts(
    arn: str, row: Mapping[Any, Any], tags: Mapping[str, str] | None, aliases: Sequence[str] | None
) -> KeyFacts:
    """Return the facts about a key: from its ARN, a row with some of the columns of its metadata, its tags and aliases."""
    metadata = {name: row.get(name) or None for name in ("manager", "key_spec", "key_usage", "origin")}
    names = None if aliases is None else tuple(sorted(aliases))
    return KeyFacts(arn, arn.split(":", 5)[4], tags=tags, aliases=names, **metadata)


_METADATA_CHANGED = """
SELECT p.version_id, p.key_arn, p.policy_hash FROM key_policy p
WHERE p.valid_to IS NULL AND p.key_arn IN (SELECT key_arn FROM key_metadata WHERE version_id > :metadata)
"""
_INPUT_CHANGED = """
SELECT p.version_id, p.key_arn, p.policy_hash FROM key_policy p
JOIN access_policy a ON a.policy_hash = p.policy_hash AND a.context_inputs LIKE '%{input}%'
WHERE p.valid_to IS NULL
"""


def _insert_policies(connection: Connection, watermark: Watermark, parsed: Callable[[str], Policy]) -> None:
    """Insert the inputs and the deny scope of new policies into access_policy."""
    query = (
        "SELECT policy_hash, received FROM policy_document WHERE policy_hash IN "
        "(SELECT policy_hash FROM key_policy WHERE version_id > :after) "
        "AND policy_hash NOT IN (SELECT policy_hash FROM access_policy)"
    )
    rows = []
    for digest, received in connection.execute(text(query), {"after": watermark.policy}):
        policy = parsed(received)
        inputs = " ".join(context_inputs(policy))
        rows.append({"policy_hash": bytes(digest), "context_inputs": inputs, "deny_scope": deny_scope(policy).value})
    if rows:
        connection.execute(insert(AccessPolicy.table()), rows)


def _collect_versions(connection: Connection, watermark: Watermark) -> None:
    """Collect the policy versions to analyze: new ones, and current ones with inputs that may have changed."""
    connection.execute(text("DROP TABLE IF EXISTS access_pending"))
    connection.execute(
        text(
            "CREATE TEMPORARY TABLE access_pending AS SELECT version_id, key_arn, policy_hash, 1 AS fresh FROM key_policy "
            "WHERE version_id > :after"
        ),
        {"after": watermark.policy},
    )
    if watermark.policy:
        combinations = connection.scalars(text("SELECT DISTINCT context_inputs FROM access_policy")).all()
        unchanged = {"key", "organization"} if watermark.organization else {"key"}
        inputs = {name for combination in combinations for name in combination.split()} - unchanged
        queries = [_METADATA_CHANGED, *(_INPUT_CHANGED.format(input=name) for name in sorted(inputs))]
        connection.execute(
            text(
                f"INSERT INTO access_pending SELECT version_id, key_arn, policy_hash, 0 FROM ({' UNION '.join(queries)}) AS q "
                "WHERE version_id + 0 <= :after"
            ),
            {"after": watermark.policy, "metadata": watermark.metadata},
        )
    connection.execute(text("CREATE UNIQUE INDEX access_changing_version ON access_pending (version_id)"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE access_pending"))


def _group_expressions(connection: Connection) -> dict[str, str]:
    """Return the SQL expressions of the columns that define a group, from ``c`` (pending) and ``m`` (metadata)."""
    find = "strpos" if connection.dialect.name == "postgresql" else "instr"
    return {
        "account_id": f"substr(c.key_arn, {find}(c.key_arn, '\\:key/') - 12, 12)",
        "head": f"substr(c.key_arn, 1, {find}(c.key_arn, '\\:kms\\:') - 1)",
    } | {name: f"coalesce(m.{name}, '')" for name in ("manager", "key_spec", "key_usage", "origin")}


_METADATA = "LEFT JOIN key_metadata m ON m.key_arn = c.key_arn AND m.valid_to IS NULL"
_SHAREABLE = (
    "a.context_inputs NOT LIKE '%key%' AND a.context_inputs NOT LIKE '%tags%' AND a.context_inputs NOT LIKE '%aliases%'"
)


def _distinct(connection: Connection) -> str:
    columns = ", ".join(f"{expression} AS {name}" for name, expression in _group_expressions(connection).items())
    return (
        f"SELECT DISTINCT c.policy_hash, {columns} FROM access_pending c "
        f"JOIN access_policy a ON a.policy_hash = c.policy_hash AND {_SHAREABLE} {_METADATA} ORDER BY c.policy_hash"
    )


def _join(connection: Connection) -> str:
    same = " AND ".join(f"v.{name} = {expression}" for name, expression in _group_expressions(connection).items())
    return f"{_METADATA} JOIN access_shared v ON v.policy_hash = c.policy_hash AND {same}"


def _singles(connection: Connection) -> Iterator[tuple[RowMapping, str, KeyFacts]]:
    """Yield the policy versions that depend on their key, with the policy and the facts about the key."""
    result = connection.execute(
        text(
            "SELECT c.version_id, c.key_arn, c.policy_hash, a.context_inputs, m.manager, m.key_spec, m.key_usage, m.origin "
            "FROM access_pending c JOIN access_policy a ON a.policy_hash = c.policy_hash "
            f"AND NOT ({_SHAREABLE}) {_METADATA} ORDER BY c.policy_hash"
        )
    ).mappings()
    rows = result.all()
    arns = {row["key_arn"] for row in rows if row["context_inputs"] != "key"}
    tags, aliases = attributes(connection, arns)
    for row, received in _with_texts(connection, rows):
        arn = row["key_arn"]
        yield row, received, key_facts(arn, row, tags.get(arn), aliases.get(arn))


def attributes(
    connection: Connection, key_arns: Iterable[str]
) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Return the tags and aliases of keys, without keys whose tags or aliases are unknown."""
    arns = sorted(key_arns)
    if not arns:
        return {}, {}
    tags: dict[str, dict[str, str]] = {arn: {} for arn in arns}
    aliases: dict[str, list[str]] = {arn: [] for arn in arns}
    requested = _temporary("access_requested", Column("key_arn", Text, primary_key=True))
    stage(connection, requested, [(arn,) for arn in arns])
    gaps = connection.execute(
        text(
            "SELECT operation, subject, account_id, region FROM gap WHERE valid_to IS NULL AND service = 'kms' "
            "AND operation IN ('ListResourceTags', 'ListAliases')"
        )
    ).all()
    unknown_tags = {subject for operation, subject, _, _ in gaps if operation == "ListResourceTags"}
    unknown_aliases = {(region, account) for operation, _, account, region in gaps if operation == "ListAliases"}
    for arn in arns:
        if tuple(arn.split(":", 5)[3:5]) in unknown_aliases:
            aliases.pop(arn)
    for arn, key, value in connection.execute(
        text(
            "SELECT t.resource_arn, t.tag_key, t.tag_value FROM access_requested r JOIN tag t ON t.resource_arn = r.key_arn "
            "WHERE t.valid_to IS NULL"
        )
    ):
        tags[arn][key] = value
    for arn in unknown_tags:
        if not tags.get(arn):
            tags.pop(arn, None)
    for arn, name in connection.execute(
        text(
            "SELECT target_key_arn, alias_name FROM alias WHERE valid_to IS NULL AND target_key_arn IN "
            "(SELECT key_arn FROM access_requested)"
        )
    ):
        if arn in aliases:
            aliases[arn].append(name)
    return tags, aliases


_ASSIGN = (
    "DROP TABLE IF EXISTS access_assigned",
    # A policy version that is not new gets another analysis from this run on, if another input has changed.
    """
    CREATE TEMPORARY TABLE access_assigned AS
    SELECT c.key_arn, c.fresh, CASE c.fresh WHEN 1 THEN p.valid_from ELSE :run END AS valid_from, p.valid_to,
      v.analysis_id, v.content_hash
    FROM access_pending c JOIN key_policy p ON p.version_id = c.version_id {join}
    UNION ALL
    SELECT c.key_arn, c.fresh, CASE c.fresh WHEN 1 THEN p.valid_from ELSE :run END, p.valid_to,
      v.analysis_id, v.content_hash
    FROM access_pending c JOIN key_policy p ON p.version_id = c.version_id
    JOIN access_single v ON v.version_id = c.version_id
    """,
    "CREATE INDEX access_judged_key ON access_assigned (key_arn)",
    """
    DELETE FROM access_assigned WHERE fresh = 0 AND EXISTS
      (SELECT 1 FROM key_analysis k WHERE k.key_arn = access_assigned.key_arn AND k.valid_to IS NULL
        AND k.analysis_id = access_assigned.analysis_id)
    """,
    # The first new analysis of a key closes its predecessor.
    """
    DELETE FROM key_analysis WHERE valid_to IS NULL AND key_arn IN (SELECT key_arn FROM access_assigned)
      AND valid_from >= (SELECT min(j.valid_from) FROM access_assigned j WHERE j.key_arn = key_analysis.key_arn)
    """,
    """
    UPDATE key_analysis SET valid_to =
      (SELECT min(j.valid_from) FROM access_assigned j WHERE j.key_arn = key_analysis.key_arn)
    WHERE valid_to IS NULL AND key_arn IN (SELECT key_arn FROM access_assigned)
    """,
    """
    INSERT INTO key_analysis (key_arn, analysis_id, valid_from, valid_to, content_hash)
    SELECT key_arn, analysis_id, valid_from, valid_to, content_hash FROM access_assigned
    """,
)
