"""The details of changes: consecutive versions of a fact, compared field by field.

Reads schema ``internal`` of the catalog in use, which holds either the full history or two runs of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import orjson

from models.tables.keys import KeyGrant, KeyMetadata, KeyRotation
from reports.answers.change_event import Detail, Event
from reports.answers.policy_diff import policy_details
from reports.mart.rows import Row, rows

_STATE = ("state", "enabled", "deletion_date", "pending_window_days")
_STATE_EVENTS = frozenset({"key_state", "deletion_scheduled", "deletion_cancelled"})
_GRANT_EVENTS = frozenset({"grant_added", "grant_changed", "grant_removed"})
_LABELS = {
    "xks_key_id": "key ID in the external key store",
    "next_rotation_at": "next rotation",
    "on_demand_started_at": "on-demand rotation started",
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

RunKey = tuple[int, str]
"""A run and the ARN of a key that changed in it."""


class VersionDiffs:
    """The details of changes by run and key; ``keys`` limits them to some keys."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, keys: Sequence[str] | None) -> None:
        self._duck = duck
        self._keys = None if keys is None else list(keys)
        self.metadata = self._fields(KeyMetadata.value_columns(), "key_metadata")
        self.rotation = self._fields(KeyRotation.value_columns(), "key_rotation")
        self.policies = {
            (row["run_id"], row["key_arn"]): policy_details(row["old"], row["new"]) for row in self._policies()
        }
        self._grants = self._grant_details()

    def add_details(self, events: Iterable[Event]) -> list[Event]:
        """The events with their details."""
        detailed = list(events)
        policies: dict[RunKey, Event] = {}
        for event in detailed:
            run_key = (event.run_id, event.key_arn or "")
            if event.event_type in _STATE_EVENTS:
                event.details += [detail for name, detail in self.metadata.get(run_key, {}).items() if name in _STATE]
            elif event.event_type == "metadata_changed" and event.resource_arn is None:
                event.details += [
                    detail for name, detail in self.metadata.get(run_key, {}).items() if name not in _STATE
                ]
            elif event.event_type == "rotation_changed":
                event.details += self.rotation.get(run_key, {}).values()
            elif event.event_type in _GRANT_EVENTS:
                event.details += self._take_grant(event)
            elif event.event_type == "policy_changed":
                policies[run_key] = event
            elif event.event_type == "policy_opened":
                policies.setdefault(run_key, event)
        for run_key, event in policies.items():  # once per run and key, on the most general event
            event.details += self.policies.get(run_key, [])
        return detailed

    def unreported(self, events: Iterable[Event]) -> list[tuple[RunKey, list[Detail]]]:
        """Metadata changes that are in the details of none of the events."""
        reported: dict[RunKey, set[str]] = defaultdict(set)
        for event in events:
            reported[event.run_id, event.key_arn or ""] |= {detail.name for detail in event.details}
        remaining = (
            (run_key, [detail for detail in details.values() if detail.name not in reported[run_key]])
            for run_key, details in self.metadata.items()
        )
        return [(run_key, details) for run_key, details in remaining if details]

    def _fields(self, columns: tuple[str, ...], table: str) -> dict[RunKey, dict[str, Detail]]:
        rows = self._rows(
            f"""
            SELECT n.valid_from AS run_id, n.key_arn, o AS old, n AS new
            FROM internal.{table} n
            JOIN internal.{table} o ON o.key_arn = n.key_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
            WHERE n.valid_to IS DISTINCT FROM n.valid_from{self._key_filter("n")}
            """
        )
        return {(row["run_id"], row["key_arn"]): _changed_fields(row["old"], row["new"], columns) for row in rows}

    def _policies(self) -> list[Row]:
        return self._rows(
            f"""
            SELECT n.valid_from AS run_id, n.key_arn, x.received AS old, y.received AS new
            FROM internal.key_policy n
            JOIN internal.key_policy o ON o.key_arn = n.key_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
            JOIN internal.policy_document x ON x.policy_hash = o.policy_hash
            JOIN internal.policy_document y ON y.policy_hash = n.policy_hash
            WHERE n.valid_to IS DISTINCT FROM n.valid_from AND o.policy_hash <> n.policy_hash{self._key_filter("n")}
            """
        )

    def _grant_details(self) -> dict[tuple[int, str, str], list[tuple[str, list[Detail]]]]:
        """By run, key and event type: the grants, each with the end of its message and its details."""
        versions = self._rows(
            f"SELECT *, valid_from AS run_id FROM internal.key_grant g WHERE true{self._key_filter('g')}"
        )
        ended = {
            (row["valid_to"], row["key_arn"], row["grant_id"]): row for row in versions if row["valid_to"] is not None
        }
        by_event: dict[tuple[int, str, str], list[tuple[str, list[Detail]]]] = defaultdict(list)
        for row in sorted(versions, key=lambda version: version["grant_id"]):
            if row["valid_to"] == row["valid_from"]:
                continue
            before = ended.pop((row["run_id"], row["key_arn"], row["grant_id"]), None)
            details = [Detail("grant", "stated", after=row["grant_id"])]
            if before is None:
                details += _grant_fields(row)
            else:
                details += _changed_fields(before, row, KeyGrant.value_columns()).values()
            event_type = "grant_added" if before is None else "grant_changed"
            by_event[row["run_id"], row["key_arn"], event_type].append((_grant_text(row), details))
        for (run_id, key_arn, grant_id), row in sorted(ended.items()):
            details = [Detail("grant", "stated", after=grant_id), *_grant_fields(row)]
            by_event[run_id, key_arn, "grant_removed"].append((_grant_text(row), details))
        return by_event

    def _take_grant(self, event: Event) -> list[Detail]:
        """The details of the grant of an event, which has no grant ID: grants are matched by message, each used once."""
        grants = self._grants.get((event.run_id, event.key_arn or "", event.event_type), [])
        index = next((index for index, (end, _) in enumerate(grants) if event.message.endswith(end)), None)
        return [] if index is None else grants.pop(index)[1]

    def _key_filter(self, alias: str) -> str:
        return "" if self._keys is None else f" AND {alias}.key_arn IN (SELECT unnest($keys))"

    def _rows(self, query: str) -> list[Row]:
        return rows(self._duck, query, {} if self._keys is None else {"keys": self._keys})


def label(column: str) -> str:
    """The label of a column in details."""
    return _LABELS.get(column, column.replace("_", " "))


def read(column: str, raw: Any) -> Any:
    """A value of the ledger, which stores lists and objects as JSON text."""
    if raw is None or column not in _JSON:
        return raw
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw


def _changed_fields(old: Row, new: Row, names: Iterable[str]) -> dict[str, Detail]:
    return {
        name: Detail(label(name), "changed", read(name, old[name]), read(name, new[name]))
        for name in names
        if old[name] != new[name]
    }


def _grant_fields(grant: dict[str, Any]) -> list[Detail]:
    """The fields of a grant that the event's message does not contain."""
    names = ("name", "retiring_principal", "retiring_service_principal", "issuing_account", "constraints", "created_at")
    return [Detail(label(name), "stated", after=read(name, grant[name])) for name in names if grant[name] is not None]


def _grant_text(grant: dict[str, Any]) -> str:
    """The end of a grant's message, as change_queries/20_policies.sql writes it."""
    grantee = grant["grantee_service_principal"] or grant["grantee_principal"] or "nobody named"
    return f" for {grantee}: {', '.join(read('operations', grant['operations']))}."
