"""Key policies: which versions are new to us, which question each of them is, and which analysis each key gets.

The database finds the distinct questions and spreads the answers over the keys; only the few keys whose policy looks at their
own ARN, tags or aliases are handled one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, RowMapping, Table, Text, insert, text

from models.hashing import content_hash
from models.store.staging import stage
from models.tables.access_analysis import AccessPolicy
from models.versioned import Base
from reports.access.analysis.runner import Question
from reports.access.engine.analysis_key import ENGINE, denies, looks_at, organization_key
from reports.access.engine.model import KeyFacts, Organization
from reports.access.engine.policy_analysis import cache_key
from reports.access.engine.policy_parser import Policy, parse

_PLACE = ("policy_hash", "account_id", "head", "manager", "key_spec", "key_usage", "origin")


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"])


_ALIKE = _temporary(
    "access_alike",
    Column("policy_hash", LargeBinary(16), primary_key=True),
    *(Column(name, Text, primary_key=True) for name in _PLACE[1:]),
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
class Since:
    """What was looked at before: the last versions of the tables, and what else there was."""

    policy: int = 0
    metadata: int = 0
    organization: bool = True
    """Whose accounts are whose is as it was."""


@dataclass(slots=True)
class Asked:
    """The policies to judge, by analysis id: each analysis once."""

    questions: dict[bytes, Question] = field(default_factory=dict)
    hashes: dict[bytes, bytes] = field(default_factory=dict)
    """Analysis id to the policy's hash."""
    versions: int = 0


def ask(connection: Connection, organization: Organization, since: Since) -> Asked:
    """Find what has to be judged; leaves in temporary tables which key gets which analysis, for :func:`spread`."""
    _learn(connection, since)
    _collect(connection, since)
    asked = Asked()
    policies = _Policies(connection)
    alike, single = [], []
    for row in connection.execute(text(_distinct(connection))).mappings():
        arn = f"{row['head']}:kms::{row['account_id']}:key/-"
        facts = _facts(arn, row, None, None)
        digest = _asked(asked, policies, row["policy_hash"], facts, organization)
        alike.append((*(row[name] for name in _PLACE), digest, content_hash([digest.hex()])))
    for version, policy_hash, facts in _singles(connection):
        digest = _asked(asked, policies, policy_hash, facts, organization)
        single.append((version, digest, content_hash([digest.hex()])))
    stage(connection, _ALIKE, alike)
    stage(connection, _SINGLE, single)
    asked.versions = connection.execute(text("SELECT count(*) FROM access_changing")).scalar_one()
    return asked


def spread(connection: Connection, run_id: int) -> int:
    """Give each key its analysis, as history; returns the rows written. Comes after :func:`ask`."""
    steps = [statement.format(join=_join(connection)) for statement in _SPREAD]
    written = 0
    for statement in steps:
        bound = {"run": run_id} if ":run" in statement else {}
        found = connection.execute(text(statement), bound, execution_options={"preserve_rowcount": True})
        if "INTO key_analysis" in statement or "UPDATE key_analysis" in statement:
            written += max(found.rowcount, 0)
    return written


class _Policies:
    """Policy texts and what they look at, fetched in one go when the first is needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._texts: dict[bytes, str] = {}
        self._parsed: dict[bytes, Policy] = {}

    def text(self, policy_hash: bytes) -> str:
        if not self._texts:
            query = (
                "SELECT policy_hash, received FROM policy_document WHERE policy_hash IN "
                "(SELECT policy_hash FROM access_changing)"
            )
            self._texts = {bytes(digest): received for digest, received in self._connection.execute(text(query))}
        return self._texts[policy_hash]

    def policy(self, policy_hash: bytes) -> Policy:
        if policy_hash not in self._parsed:
            self._parsed[policy_hash] = parse(self.text(policy_hash))
        return self._parsed[policy_hash]


def _asked(asked: Asked, policies: _Policies, policy_hash: Any, facts: KeyFacts, organization: Organization) -> bytes:
    digest = bytes(policy_hash)
    policy = policies.policy(digest)
    identity = [ENGINE, digest.hex(), cache_key(policy, facts), organization_key(policy, facts, organization)]
    analysis_id = content_hash(identity)
    if analysis_id not in asked.questions:
        asked.questions[analysis_id] = Question(analysis_id, policies.text(digest), facts)
        asked.hashes[analysis_id] = digest
    return analysis_id


def _facts(arn: str, row: RowMapping, tags: Mapping[str, str] | None, aliases: Sequence[str] | None) -> KeyFacts:
    return KeyFacts(
        arn,
        arn.split(":", 5)[4],
        row["manager"] or None,
        tags,
        None if aliases is None else tuple(sorted(aliases)),
        row["key_spec"] or None,
        row["key_usage"] or None,
        row["origin"] or None,
    )


_OF_METADATA = """
SELECT p.version_id, p.key_arn, p.policy_hash FROM key_policy p
WHERE p.valid_to IS NULL AND p.key_arn IN (SELECT key_arn FROM key_metadata WHERE version_id > :metadata)
"""
_OF_LOOKS = """
SELECT p.version_id, p.key_arn, p.policy_hash FROM key_policy p
JOIN access_policy a ON a.policy_hash = p.policy_hash AND a.context_inputs LIKE '%{word}%'
WHERE p.valid_to IS NULL
"""


def _learn(connection: Connection, since: Since) -> None:
    """Read what policies look at that we have not seen."""
    query = (
        "SELECT policy_hash, received FROM policy_document WHERE policy_hash IN "
        "(SELECT policy_hash FROM key_policy WHERE version_id > :after) "
        "AND policy_hash NOT IN (SELECT policy_hash FROM access_policy)"
    )
    rows = []
    for digest, received in connection.execute(text(query), {"after": since.policy}):
        policy = parse(received)
        looks = looks_at(policy)
        rows.append(
            {"policy_hash": bytes(digest), "context_inputs": " ".join(looks), "deny_scope": denies(policy).value}
        )
    if rows:
        connection.execute(insert(Base.metadata.tables[AccessPolicy.__tablename__]), rows)


def _collect(connection: Connection, since: Since) -> None:
    """The policy versions to judge: new ones, and open ones of which something else may have changed."""
    connection.execute(text("DROP TABLE IF EXISTS access_changing"))
    connection.execute(
        text(
            "CREATE TEMPORARY TABLE access_changing AS SELECT version_id, key_arn, policy_hash, 1 AS fresh FROM key_policy "
            "WHERE version_id > :after"
        ),
        {"after": since.policy},
    )
    if since.policy:
        found = connection.scalars(text("SELECT DISTINCT context_inputs FROM access_policy")).all()
        words = (
            {word for looks in found for word in looks.split()}
            - {"key"}
            - ({"organization"} if since.organization else set())
        )
        again = [_OF_METADATA, *(_OF_LOOKS.format(word=word) for word in sorted(words))]
        connection.execute(
            text(
                f"INSERT INTO access_changing SELECT version_id, key_arn, policy_hash, 0 FROM ({' UNION '.join(again)}) AS q "
                "WHERE version_id + 0 <= :after"
            ),
            {"after": since.policy, "metadata": since.metadata},
        )
    connection.execute(text("CREATE UNIQUE INDEX access_changing_version ON access_changing (version_id)"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE access_changing"))


def _place(connection: Connection) -> dict[str, str]:
    """What decides who is alike, by column, from ``c`` (changing) and ``m`` (metadata)."""
    find = "strpos" if connection.dialect.name == "postgresql" else "instr"
    return {
        "account_id": f"substr(c.key_arn, {find}(c.key_arn, '\\:key/') - 12, 12)",
        "head": f"substr(c.key_arn, 1, {find}(c.key_arn, '\\:kms\\:') - 1)",
    } | {name: f"coalesce(m.{name}, '')" for name in ("manager", "key_spec", "key_usage", "origin")}


_METADATA = "LEFT JOIN key_metadata m ON m.key_arn = c.key_arn AND m.valid_to IS NULL"
_ORDINARY = (
    "a.context_inputs NOT LIKE '%key%' AND a.context_inputs NOT LIKE '%tags%' AND a.context_inputs NOT LIKE '%aliases%'"
)


def _distinct(connection: Connection) -> str:
    columns = ", ".join(f"{expression} AS {name}" for name, expression in _place(connection).items())
    return (
        f"SELECT DISTINCT c.policy_hash, {columns} FROM access_changing c "
        f"JOIN access_policy a ON a.policy_hash = c.policy_hash AND {_ORDINARY} {_METADATA}"
    )


def _join(connection: Connection) -> str:
    same = " AND ".join(f"v.{name} = {expression}" for name, expression in _place(connection).items())
    return f"{_METADATA} JOIN access_alike v ON v.policy_hash = c.policy_hash AND {same}"


def _singles(connection: Connection) -> Iterator[tuple[int, bytes, KeyFacts]]:
    """Policy versions whose key matters, with what is known of it."""
    found = connection.execute(
        text(
            "SELECT c.version_id, c.key_arn, c.policy_hash, a.context_inputs, m.manager, m.key_spec, m.key_usage, m.origin "
            "FROM access_changing c JOIN access_policy a ON a.policy_hash = c.policy_hash "
            f"AND NOT ({_ORDINARY}) {_METADATA}"
        )
    ).mappings()
    rows = found.all()
    arns = {row["key_arn"] for row in rows if row["context_inputs"] != "key"}
    tags, aliases = attributes(connection, arns)
    for row in rows:
        arn = row["key_arn"]
        yield row["version_id"], bytes(row["policy_hash"]), _facts(arn, row, tags.get(arn), aliases.get(arn))


def attributes(
    connection: Connection, key_arns: Iterable[str]
) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Tags and aliases of keys; a key whose tags or aliases are not known is left out."""
    wanted = sorted(key_arns)
    if not wanted:
        return {}, {}
    tags: dict[str, dict[str, str]] = {arn: {} for arn in wanted}
    aliases: dict[str, list[str]] = {arn: [] for arn in wanted}
    chosen = _temporary("access_wanted", Column("key_arn", Text, primary_key=True))
    stage(connection, chosen, [(arn,) for arn in wanted])
    gaps = connection.execute(
        text(
            "SELECT operation, subject, account_id, region FROM gap WHERE valid_to IS NULL AND service = 'kms' "
            "AND operation IN ('ListResourceTags', 'ListAliases')"
        )
    ).all()
    untagged = {subject for operation, subject, _, _ in gaps if operation == "ListResourceTags"}
    unnamed = {(region, account) for operation, _, account, region in gaps if operation == "ListAliases"}
    for arn in wanted:
        if tuple(arn.split(":", 5)[3:5]) in unnamed:
            aliases.pop(arn)
    for arn, key, value in connection.execute(
        text(
            "SELECT t.resource_arn, t.tag_key, t.tag_value FROM access_wanted w JOIN tag t ON t.resource_arn = w.key_arn "
            "WHERE t.valid_to IS NULL"
        )
    ):
        tags[arn][key] = value
    for arn in untagged:
        if not tags.get(arn):
            tags.pop(arn, None)
    for arn, name in connection.execute(
        text(
            "SELECT target_key_arn, alias_name FROM alias WHERE valid_to IS NULL AND target_key_arn IN "
            "(SELECT key_arn FROM access_wanted)"
        )
    ):
        if arn in aliases:
            aliases[arn].append(name)
    return tags, aliases


_SPREAD = (
    "DROP TABLE IF EXISTS access_judged",
    """
    CREATE TEMPORARY TABLE access_judged AS
    SELECT c.version_id, c.key_arn, c.fresh, p.valid_from, p.valid_to, v.analysis_id, v.content_hash
    FROM access_changing c JOIN key_policy p ON p.version_id = c.version_id {join}
    UNION ALL
    SELECT c.version_id, c.key_arn, c.fresh, p.valid_from, p.valid_to, v.analysis_id, v.content_hash
    FROM access_changing c JOIN key_policy p ON p.version_id = c.version_id
    JOIN access_single v ON v.version_id = c.version_id
    """,
    "CREATE INDEX access_judged_key ON access_judged (key_arn)",
    # A new policy ends what was concluded from the one before it, when it was first seen.
    """
    DELETE FROM key_analysis WHERE valid_to IS NULL AND key_arn IN (SELECT key_arn FROM access_judged WHERE fresh = 1)
      AND valid_from >=
      (SELECT min(j.valid_from) FROM access_judged j WHERE j.key_arn = key_analysis.key_arn AND j.fresh = 1)
    """,
    """
    UPDATE key_analysis SET valid_to =
      (SELECT min(j.valid_from) FROM access_judged j WHERE j.key_arn = key_analysis.key_arn AND j.fresh = 1)
    WHERE valid_to IS NULL AND key_arn IN (SELECT key_arn FROM access_judged WHERE fresh = 1)
    """,
    """
    INSERT INTO key_analysis (key_arn, analysis_id, valid_from, valid_to, content_hash)
    SELECT key_arn, analysis_id, valid_from, valid_to, content_hash FROM access_judged WHERE fresh = 1
    """,
    # The same policy with another conclusion: something else that it looks at has changed in this run.
    """
    DELETE FROM key_analysis WHERE valid_to IS NULL AND valid_from >= :run
      AND key_arn IN (SELECT key_arn FROM access_judged WHERE fresh = 0)
      AND analysis_id <> (SELECT j.analysis_id FROM access_judged j WHERE j.fresh = 0 AND j.key_arn = key_analysis.key_arn)
    """,
    """
    UPDATE key_analysis SET valid_to = :run WHERE valid_to IS NULL
      AND key_arn IN (SELECT key_arn FROM access_judged WHERE fresh = 0)
      AND analysis_id <> (SELECT j.analysis_id FROM access_judged j WHERE j.fresh = 0 AND j.key_arn = key_analysis.key_arn)
    """,
    """
    INSERT INTO key_analysis (key_arn, analysis_id, valid_from, valid_to, content_hash)
    SELECT j.key_arn, j.analysis_id, :run, NULL, j.content_hash FROM access_judged j
    WHERE j.fresh = 0 AND NOT EXISTS
      (SELECT 1 FROM key_analysis k WHERE k.key_arn = j.key_arn AND k.valid_to IS NULL)
    """,
)
