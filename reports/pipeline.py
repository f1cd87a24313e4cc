"""Composes the stages that follow a crawl: access analysis, mart, rules, findings, reports, mail."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from models.console import complain, say
from models.errors import Collected, UserError
from models.output_file import OutputError
from models.process_memory import release_memory
from models.settings import Settings
from models.settings.delivery import RouteSettings
from models.stages import stage
from models.store.engine import opened as opened_ledger
from models.store.engine import translate_errors
from reports.access.analysis.stage import analyze_access
from reports.answers.coverage_gate import check_coverage
from reports.html import publication
from reports.html.registry import REPORTS, Report, find, limit, write
from reports.html.summary import summary
from reports.mart.build import DraftMart, MartInfo, build, mart_builder
from reports.mart.connection import connect
from reports.mart.errors import QueryError
from reports.mart.extension import Extension
from reports.mart.mart_reader import open_mart
from reports.metrics.nightly_metrics import check as check_metrics
from reports.notify import chat, delivery, failure_notice
from reports.notify.delivery import Request
from reports.notify.message import Attachment
from reports.rules import findings
from reports.rules.extension import RuleTables
from reports.rules.finding_history import record
from reports.rules.framework_loader import check_frameworks
from reports.rules.loader import Rule, load_rules
from reports.rules.own_rules import OwnRules
from reports.rules.runner import evaluate_rules
from reports.rules.waivers import load_waivers
from reports.vendors.assignments import load_assignments
from reports.vendors.evaluate import VendorChecks

if TYPE_CHECKING:
    from reports.rules.testing.runner import Report as ExampleReport

MAILED = "overview"
"""The report that is delivered."""

_PENDING = Request()

DONE, FINDINGS, FAILED = 0, 1, 4

log = logging.getLogger(__name__)


class NoRunError(UserError):
    """A report is to be delivered, but the mart has no run."""

    exit_code = 2


def check_settings(settings: Settings) -> None:
    """Validate everything that the settings refer to, before a crawl: rules, waivers, vendor profiles, frameworks, chats.

    Raises a UserError with exit code 2 and all invalid references.
    """
    errors = Collected()
    with errors:
        load_waivers(settings, load_rules(settings))
    with errors:
        load_assignments(settings)
    with errors:
        check_frameworks(settings)
    with errors:
        chat.check(settings.chat)
    with errors:
        check_metrics(settings)
    errors.reraise()


def refresh(settings: Settings, run_id: int | None = None) -> MartInfo:
    """Analyze access, rebuild the mart for a run (by default the latest that ended), run the rules and store the findings.

    The mart has the results of all rules; the ledger keeps the history of problems and counts. Findings of deleted or
    disabled rules are closed. The new mart is published at the end: until then, readers see the old one.
    """
    with stage("access"):
        analyze_access(settings)
    with stage("mart"), draft_mart(settings, as_of=run_id) as mart:
        with stage("rules"):
            run_rules(mart, settings)
            store_findings(mart, settings)
        return mart.info()


def build_mart(settings: Settings, path: Path, *, as_of: int | str | None = None) -> MartInfo:
    """Build a mart without running the rules: its findings are those that the ledger has."""
    return build(settings.database, path, settings, as_of=as_of, extensions=_extensions(settings, load_rules(settings)))


def draft_mart(settings: Settings, *, as_of: int | None = None) -> AbstractContextManager[DraftMart]:
    """The configured mart, complete but for the results of the rules; published when the block ends without an error."""
    extensions = _extensions(settings, load_rules(settings))
    return mart_builder(settings.database, settings.report.mart, settings, as_of=as_of, extensions=extensions)


def _extensions(settings: Settings, rules: Sequence[Rule]) -> tuple[Extension, ...]:
    return RuleTables(settings, rules), VendorChecks(settings)


def run_rules(mart: DraftMart, settings: Settings) -> None:
    """Run the rules in force, users' rules within their limits; the mart then has their results."""
    own = OwnRules(mart.released, settings.rules.timeout, settings.rules.memory_limit)
    rules = load_rules(settings)
    mart.with_enough_memory(lambda: evaluate_rules(mart.duck, mart.as_of, rules, own.run))


def store_findings(mart: DraftMart, settings: Settings) -> None:
    """Write changed problems and counts into the ledger's history and into the mart."""
    with opened_ledger(settings.database, must_exist=True) as engine:

        def store() -> None:
            with translate_errors(engine), engine.begin() as connection:
                record(mart.duck, connection, mart.as_of)

        mart.with_enough_memory(store)
    release_memory()  # that of the ledger's transaction
    mart.with_enough_memory(mart.apply_findings)


def check_examples(
    rules: Iterable[Rule], *, with_gaps: bool = False, schema_of: Path | None = None
) -> list[ExampleReport]:
    """Run the examples of rules against an example mart, which is built in the same way as any mart (see there: schema_of)."""
    from reports.rules.testing.runner import run_examples

    def build_example(settings: Settings, rules: Sequence[Rule]) -> None:
        analyze_access(settings)
        extensions = _extensions(settings, rules)
        build(settings.database, settings.report.mart, settings, extensions=extensions, schema_of=schema_of)

    return run_examples(rules, build_example, with_gaps=with_gaps)


def coverage_exit(settings: Settings) -> int:
    """The exit code for the coverage of the mart's run: 0, 3 for gaps, 4 below ``coverage.min_percent``; prints why."""
    with connect(settings.report.mart) as mart:
        coverage = check_coverage(mart, settings.coverage.min_percent, settings.coverage.max_consecutive_gaps)
    see = ": see `kmsledger coverage`" if coverage.incomplete else ""
    if coverage.exit_code == FAILED:
        complain(f"{coverage.message}{see}")
    else:
        say(f"{coverage.message}{see}")
    return coverage.exit_code


def publish(settings: Settings, run_id: int) -> int:
    """Write the reports of the mart's run and deliver them; returns the exit code of the whole nightly run.

    The most severe outcome decides: a failed delivery or too little coverage (4), then gaps (3), then findings at or above
    ``rules.fail_on`` (1). A failed delivery leaves crawl and reports intact; `kmsledger mail` repeats what failed.
    """
    coverage = coverage_exit(settings)
    with stage("reports"):
        written = write(REPORTS, settings.report.mart, settings.report.directory, settings)
        for path in written:
            say(f"report: {path}")
        published = publish_reports(written, settings)
    with stage("delivery"):
        delivered = not delivery.recipients(settings) or deliver(settings, run_id, written, published=published)
        if not delivered:
            failure_notice.report_undelivered(settings, run_id)
    if not (published and delivered):
        return FAILED
    return coverage or (FINDINGS if failing(settings) else DONE)


def send_missing(settings: Settings, request: Request) -> bool:
    """Write the report of the mart's run and deliver it to pending recipients; returns whether all of them received it.

    A dry run keeps nothing that it writes.
    """
    delivery.check(settings, request)
    with connect(settings.report.mart) as mart:
        row = mart.execute("SELECT max(run_id) FROM runs").fetchone()
    if row is None or row[0] is None:
        raise NoRunError("there is no run to report: run `kmsledger crawl` first")
    with TemporaryDirectory() as temporary:
        directory = Path(temporary) if request.dry_run else settings.report.directory
        written = write([find(MAILED)], settings.report.mart, directory, settings)
        published = request.dry_run or publish_reports(written, settings)
        return deliver(settings, int(row[0]), written, request, published=published) and published


def publish_reports(written: Sequence[Path], settings: Settings) -> bool:
    """Copy the reports to `report.publish`, if it is set; returns whether they are there, and prints why not."""
    if settings.report.publish is None:
        return True
    try:
        copies = publication.publish(written, settings.report.publish, settings)
    except OutputError as error:
        complain(error.message)
        return False
    for path in copies:
        say(f"published: {path}")
    return True


def failing(
    settings: Settings,
    fail_on: str | None = None,
    as_of: str | None = None,
    *,
    report: Report | None = None,
    subject: str | None = None,
) -> int:
    """The number of failed findings at or above a severity, by default ``rules.fail_on``, without waived ones.

    Only those of the subject, for a report that has one.
    """
    with open_mart(settings.report.mart, as_of)[0] as mart:
        if report:
            limit(mart, report, subject)
        return findings.failing(mart, fail_on or settings.rules.fail_on)


def deliver(
    settings: Settings, run_id: int, written: Sequence[Path], request: Request = _PENDING, *, published: bool = True
) -> bool:
    """Deliver the report among the `written` files, and those of the routes; returns whether every recipient has theirs now.

    The report about the organization is linked only if it is `published`; those of routes are attached, and never published.
    """
    with connect(settings.report.mart) as mart:
        content = summary(mart, settings)
    name = f"kmsledger-{MAILED}-run{run_id}.html"
    path = next(path for path in written if path.name == name)
    base = settings.report.base_url if published else None
    url = "" if base is None else f"{base.rstrip('/')}/{name}"
    attachment = Attachment(name, "text/html", path.read_bytes(), url or str(settings.report.directory / name))
    content = replace(content, report=MAILED, report_url=url)
    complete = delivery.deliver(content, settings, (attachment,), request)
    for route in settings.mail.routes if settings.mail else ():
        only = request.only & frozenset(route.recipients)
        if request.only and not only:
            continue
        of_route = replace(request, only=only)
        try:
            # Without results of rules it is unknown whether anything fails: the report says so, and is sent.
            if route.severity and content.is_evaluated and not _has_failures(route, settings):
                say(f"no mail to {', '.join(route.recipients)}: no failure is {route.severity} or more severe")
            elif route.subject is None:
                recipients = delivery.routed(settings, route.recipients)
                complete &= delivery.deliver(content, recipients, (attachment,), of_route)
            else:
                complete &= _deliver_route(route, route.subject, settings, path.parent, of_route)
        except QueryError as error:
            complain(f"no mail to {', '.join(route.recipients)}: {error.message}")
            complete = False
    return complete


def _has_failures(route: RouteSettings, settings: Settings) -> bool:
    if route.subject is None:
        return failing(settings, route.severity) > 0
    kind, name = route.subject
    return failing(settings, route.severity, report=find(kind, name), subject=name) > 0


def _deliver_route(
    route: RouteSettings, about: tuple[str, str], settings: Settings, directory: Path, request: Request
) -> bool:
    """Deliver the report about the subject of a route to its recipients; returns whether all of them have it now."""
    kind, subject = about
    report = find(kind, subject)
    path, _ = write([report], settings.report.mart, directory, settings, subject=subject)
    with open_mart(settings.report.mart, stored=True)[0] as mart:
        content = summary(mart, settings, limit(mart, report, subject))
    name = path.stem.removeprefix("kmsledger-").removesuffix(f"-run{content.run_id}")
    attachment = Attachment(path.name, "text/html", path.read_bytes(), str(settings.report.directory / path.name))
    return delivery.deliver(
        replace(content, report=name),
        delivery.routed(settings, route.recipients),
        (attachment,),
        request,
    )
