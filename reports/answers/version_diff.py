"""The details of changes: versions of one fact that follow each other, field by field.

Read from schema ``ledger`` of the catalog in use, whether it holds the whole history or two moments of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import orjson

from models.tables.keys import KeyGrant, KeyMetadata, KeyRotation
from reports.answers.policy_diff import policy_details
from reports.mart.change_event import Detail, Event

_STATE = ("state", "enabled", "deletion_date", "pending_window_days")
_STATE_KINDS = frozenset({"key_state", "deletion_scheduled", "deletion_cancelled"})
_GRANT_KINDS = frozenset({"grant_added", "grant_changed", "grant_removed"})
_NAMES = {
    "xks_key_id": "key id in the external key store",
    "next_rotation_at": "next rotation",
    "on_demand_started_at": "rotation on demand, started",
    "period_days": "days between rotations",
    "custom_key_store_id": "custom key store",
    "multi_region_type": "multi-Region type",
    "multi_region": "multi-Region",
    "primary_arn": "primary",
    "replica_arns": "replicas",
    "material_expires_at": "key material expires",
    "key_material_id": "key material",
    "deletion_date": "deletion date",
    "pending_window_days": "waiting period in days",
    "created_at": "created",
}
_JSON = frozenset({"replica_arns", "algorithms", "operations", "constraints"})

Rows = list[dict[str, Any]]
Place = tuple[int, str]
"""A run and the ARN that something happened to then."""


class Pairs:
    """The details by run and key; `keys` limits what is read to some keys."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, keys: Sequence[str] | None) -> None:
        self._duck = duck
        self._keys = None if keys is None else list(keys)
        self.metadata = self._fields(KeyMetadata.value_columns(), "key_metadata")
        self.rotation = self._fields(KeyRotation.value_columns(), "key_rotation")
        self.policies = {
            (row["run_id"], row["key_arn"]): policy_details(row["old"], row["new"]) for row in self._policies()
        }
        self._grants = self._all_grants()

    def attach(self, events: Iterable[Event]) -> list[Event]:
        """Give the events their details, and add an event for metadata that no sentence tells of."""
        told = list(events)
        policies: dict[Place, Event] = {}
        for event in told:
            at = (event.run_id, event.key_arn or "")
            if event.event_type in _STATE_KINDS:
                event.details += [one for field, one in self.metadata.get(at, {}).items() if field in _STATE]
            elif event.event_type == "metadata_changed" and event.resource_arn is None:
                event.details += [one for field, one in self.metadata.get(at, {}).items() if field not in _STATE]
            elif event.event_type == "rotation_changed":
                event.details += self.rotation.get(at, {}).values()
            elif event.event_type in _GRANT_KINDS:
                event.details += self._grant(event)
            elif event.event_type == "policy_changed":
                policies[at] = event
            elif event.event_type == "policy_opened":
                policies.setdefault(at, event)
        for at, event in policies.items():  # one comparison, below the most general of the sentences
            event.details += self.policies.get(at, [])
        return told

    def untold(self, events: Iterable[Event]) -> list[tuple[Place, list[Detail]]]:
        """Changes of metadata that none of the events (with their details) tells."""
        told: dict[Place, set[str]] = defaultdict(set)
        for event in events:
            told[event.run_id, event.key_arn or ""] |= {detail.name for detail in event.details}
        left = (
            (at, [one for one in found.values() if one.name not in told[at]]) for at, found in self.metadata.items()
        )
        return [(at, details) for at, details in left if details]

    def _fields(self, columns: tuple[str, ...], table: str) -> dict[Place, dict[str, Detail]]:
        names = [name for name in columns if name != "key_arn"]
        listed = ", ".join(f'o."{name}" AS "o_{name}", n."{name}" AS "n_{name}"' for name in names)
        differ = " OR ".join(f'o."{name}" IS DISTINCT FROM n."{name}"' for name in names)
        rows = self._rows(
            f"""
            SELECT n.valid_from AS run_id, n.key_arn, {listed}
            FROM internal.{table} n
            JOIN internal.{table} o ON o.key_arn = n.key_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
            WHERE n.valid_to IS DISTINCT FROM n.valid_from AND ({differ}){self._only("n")}
            """
        )
        return {(row["run_id"], row["key_arn"]): _changed(row, names) for row in rows}

    def _policies(self) -> Rows:
        return self._rows(
            f"""
            SELECT n.valid_from AS run_id, n.key_arn, x.received AS old, y.received AS new
            FROM internal.key_policy n
            JOIN internal.key_policy o ON o.key_arn = n.key_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
            JOIN internal.policy_document x ON x.policy_hash = o.policy_hash
            JOIN internal.policy_document y ON y.policy_hash = n.policy_hash
            WHERE n.valid_to IS DISTINCT FROM n.valid_from AND o.policy_hash <> n.policy_hash{self._only("n")}
            """
        )

    def _all_grants(self) -> dict[tuple[int, str, str], list[tuple[str, list[Detail]]]]:
        """By run, key and what happened: the grants, each with the end of its sentence."""
        began = self._rows(f"SELECT *, valid_from AS run_id FROM internal.key_grant g WHERE true{self._only('g')}")
        ended = {
            (row["valid_to"], row["key_arn"], row["grant_id"]): row for row in began if row["valid_to"] is not None
        }
        found: dict[tuple[int, str, str], list[tuple[str, list[Detail]]]] = defaultdict(list)
        names = [name for name in KeyGrant.value_columns() if name not in {"key_arn", "grant_id"}]
        for row in sorted(began, key=lambda one: one["grant_id"]):
            if row["valid_to"] == row["valid_from"]:
                continue
            before = ended.pop((row["run_id"], row["key_arn"], row["grant_id"]), None)
            details = [Detail("grant", "stated", after=row["grant_id"])]
            if before is None:
                details += _stated(row)
            else:
                both = {f"o_{name}": before[name] for name in names} | {f"n_{name}": row[name] for name in names}
                details += _changed(both, names).values()
            kind = "grant_added" if before is None else "grant_changed"
            found[row["run_id"], row["key_arn"], kind].append((_grant_text(row), details))
        for (run_id, key_arn, grant_id), row in sorted(ended.items()):
            details = [Detail("grant", "stated", after=grant_id), *_stated(row)]
            found[run_id, key_arn, "grant_removed"].append((_grant_text(row), details))
        return found

    def _grant(self, event: Event) -> list[Detail]:
        """The ledger of changes does not name the grant; grants with the same words have the same sentence."""
        found = self._grants.get((event.run_id, event.key_arn or "", event.event_type), [])
        place = next((place for place, (end, _) in enumerate(found) if event.message.endswith(end)), None)
        return [] if place is None else found.pop(place)[1]

    def _only(self, alias: str) -> str:
        return "" if self._keys is None else f" AND {alias}.key_arn IN (SELECT unnest($keys))"

    def _rows(self, query: str) -> Rows:
        return rows(self._duck, query, {} if self._keys is None else {"keys": self._keys})


def rows(duck: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None) -> Rows:
    """The rows of a query as dictionaries."""
    cursor = duck.execute(query, values or {})
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def named(column: str) -> str:
    """What people call a column."""
    return _NAMES.get(column, column.replace("_", " "))


def read(column: str, raw: Any) -> Any:
    """A value of the ledger; lists and objects are kept as JSON text there."""
    if raw is None or column not in _JSON:
        return raw
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw


def _changed(row: dict[str, Any], names: Iterable[str]) -> dict[str, Detail]:
    return {
        name: Detail(named(name), "changed", read(name, row[f"o_{name}"]), read(name, row[f"n_{name}"]))
        for name in names
        if row[f"o_{name}"] != row[f"n_{name}"]
    }


def _stated(grant: dict[str, Any]) -> list[Detail]:
    """What the sentence does not say of a grant."""
    shown = ("name", "retiring_principal", "retiring_service_principal", "issuing_account", "constraints", "created_at")
    return [Detail(named(name), "stated", after=read(name, grant[name])) for name in shown if grant[name] is not None]


def _grant_text(grant: dict[str, Any]) -> str:
    """The end of a grant's sentence, as deltas/20_policies.sql writes it."""
    grantee = grant["grantee_service_principal"] or grant["grantee_principal"] or "nobody named"
    return f" for {grantee}: {', '.join(read('operations', grant['operations']))}."
