"""An external party or vendor as the subject of a report."""

from __future__ import annotations

import duckdb

from reports.html.subjects.subject import OWN_CATALOG, Subject, about_keys, matching, slug
from reports.mart.connection import quoted

_NAMES = """
SELECT vendor, profile FROM vendor_checks WHERE vendor IS NOT NULL
UNION SELECT party, party FROM vendors
UNION SELECT name, name FROM internal.known_party
"""


def find_vendor(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The vendor with a name, or with a profile of this name: a known party, or any other party that can use a key.

    Raises QueryError with close names if there is none.
    """
    vendors = {name: vendor for vendor, profile in connection.execute(_NAMES).fetchall() for name in (profile, vendor)}
    query = "SELECT party FROM vendors UNION SELECT vendor FROM vendor_checks"
    return vendor(vendors[matching("vendor", text, sorted(vendors), query)])


def vendor(name: str) -> Subject:
    """A vendor: the keys that it can use or that its profiles select, and what is known about them."""
    value = quoted(name)

    def selects(whole: str) -> dict[str, str]:
        every = (
            f"SELECT key_arn FROM {whole}vendors WHERE party = {value} "
            f"UNION SELECT key_arn FROM {whole}vendor_checks WHERE vendor = {value} AND key_arn IS NOT NULL"
        )
        keys = f"(FROM {OWN_CATALOG}.internal.subject_key)" if whole else f"({every})"
        return ({"internal.subject_key": every} if whole else {}) | about_keys(
            whole,
            keys,
            vendors=f"v.party = {value}",
            effective_access=f"v.party = {value} AND v.access IN ('vendor', 'external')",
            vendor_checks=f"v.vendor = {value}",
            # Where nothing could be read, the vendor may have access too.
            coverage="true",
            accounts="true",
        )

    return Subject("vendor", name, slug(name), selects, counts_passes=False)
