"""The sections of the report `vendor`: the keys that one vendor uses, how, and what depends on it."""

from __future__ import annotations

from functools import cached_property

from reports.html.overview_report import OverviewReport
from reports.html.tables import DataTable
from reports.mart.rows import Row


class VendorReport(OverviewReport):
    """The data of the template."""

    tables = ("vendor_keys", "vendor_paths", "checks", "references", "changes", "coverage", "gaps")

    @cached_property
    def figures(self) -> Row:
        """The key figures of the vendor."""
        return next(iter(self.rows("vendor_figures")), {})

    @cached_property
    def vendor_keys(self) -> DataTable:
        """The keys that the vendor can use or should be able to use."""
        return self.data_table("vendor_keys", services=self._services)
