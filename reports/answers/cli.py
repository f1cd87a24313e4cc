"""Commands that answer questions about access and change."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from models.cli_groups import LazyCommand, LazyGroup
from models.cli_options import AS_OF, CONFIG, MART, configured_mart, format_option

INCOMPLETE = 3
"""The exit code of an answer of which a part is unknown."""
FORMAT = format_option("table", "json", "csv", about="json has every field; csv has one row per item of the answer.")
_EVENT = (
    *("run_id", "at", "kind", "severity", "account_id", "account_name", "region", "key_arn", "resource_arn", "subject"),
    *("sentence", "before", "after", "until_run", "details"),
)
_KEY = ("key_arn", "key_name", "key_state", "role")
_PRINCIPAL = (
    *("principal", "kind", "account_id", "account_name", "party", "access", "answer", "sentence", "reason"),
    *("operations", "ways", "resource_ways"),
)
_ACCESSIBLE_KEY = ("key_arn", "key_alias", "account_id", "account_name", "region", "key_state", "protects")
_WAY = (
    *("access", "principal", "path", "via", "operations", "scope", "needs_iam", "answer", "identity_policies"),
    *("reason", "sentence"),
)
_DENIAL = ("cause", "fix_in", "where", "statement", "certain", "since_run")
_CALL = ("account_id", "region", "role", "action", "subject", "key_alias", "message")
_VENDOR = (
    *("party", "access", "party_accounts", "key_arn", "key_alias", "account_id", "account_name", "region", "key_state"),
    *("principals", "operations", "paths", "scopes", "protects", "protected", "last_used_at", "last_use"),
    *("fallback_paths", "since_run", "since"),
)


class Answer(Protocol):
    """What a question returns: for programs, and for people."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""

    def lines(self) -> Sequence[str]:
        """For people."""


def _print(answer: Answer, output_format: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    if output_format == "csv":
        from reports.mart.result_writers import write_csv

        write_csv(sys.stdout, columns, ([row[column] for column in columns] for row in rows))
    elif output_format == "json":
        from reports.mart.change_event import dumped

        click.echo(dumped(answer.plain()))
    else:
        click.echo("\n".join(answer.lines()))


@click.command()
@CONFIG
@MART
@click.option("--from", "start", metavar="RUN|DATE", help="Earlier run. [default: the run before the later one]")
@click.option("--to", "end", metavar="RUN|DATE", help="Later run. [default: the last run]")
@click.option("--key", metavar="KEY", help="Only this key and its dependents: a key ARN, key ID or alias.")
@click.option("--account", metavar="ACCOUNT", help="Only this account: its ID or name.")
@FORMAT
def diff(
    *,
    config_path: Path,
    mart_path: Path | None,
    start: str | None,
    end: str | None,
    key: str | None,
    account: str | None,
    output_format: str,
) -> None:
    """Compare two runs: the net result, not each step between them.

    A run is given by its number, or by a date or time (UTC; a date means its end). What one of the runs could not read is
    listed as unknown and is not compared. Differences do not affect the exit code.

    JSON has `from` and `to` (runs), `only` (the filters), `differences` (each with kind, severity, sentence, account, region,
    key, resource, before, after and details) and `not_known`. CSV has the differences.
    """
    from reports.answers.run_diff import diff as compare

    difference = compare(mart_path or configured_mart(config_path), start, end, key=key, account=account)
    document = difference.plain()
    _print(difference, output_format, _EVENT, document["differences"])
    if output_format == "csv" and document["not_known"]:
        click.echo(f"{len(document['not_known'])} unknown items were not compared: --format json lists them", err=True)


@click.command()
@CONFIG
@MART
@FORMAT
@click.argument("key")
def history(*, config_path: Path, mart_path: Path | None, output_format: str, key: str) -> None:
    """Show the change history of KEY: a key ARN, key ID or alias.

    The history has the first facts, each change with its details, what could not be read and why, the keys that its aliases
    pointed at before and after, and the resources that started or stopped using it. For an alias, it covers every key that
    the alias has pointed at.

    CSV has one row per event.
    """
    from reports.answers.key_history import history as key_history

    result = key_history(mart_path or configured_mart(config_path), key)
    events = (event for each in result.plain()["keys"] for event in each["events"])
    _print(result, output_format, _EVENT, events)


@click.command("who-can")
@CONFIG
@MART
@AS_OF
@FORMAT
@click.argument("operation")
@click.argument("target")
def who_can(
    *, config_path: Path, mart_path: Path | None, as_of: str | None, output_format: str, operation: str, target: str
) -> None:
    """Show who can perform OPERATION on TARGET: each principal once, with every access path.

    OPERATION is a KMS operation (decrypt, kms:GenerateDataKey ..., in any letter case), `use` for any use of the key, or
    `administer` for changing the key or who may use it. TARGET is a key (ARN, ID, alias), a secret, a database, a cache or a
    bucket (name or ARN). For a secret, `decrypt` and `use` mean reading the secret.

    Exit codes: 0 answered; 2 no such operation or target, or an ambiguous one; 3 answered, but part of the answer is unknown.

    JSON has `format`, `as_of`, `question`, `what`, `what_type`, `operations`, `notes`, and `keys`: each with key_arn, key_name,
    key_state, role, `unknown` and `holders` (principal, kind, account_id, account_name, party, access, answer, sentence, reason,
    operations, ways, resource_ways). CSV has one row per key and principal, and one per reason that something is unknown.
    """
    from reports.answers.who_can import who_can as answer_who_can

    answer = answer_who_can(mart_path or configured_mart(config_path), operation, target, as_of=as_of)
    keys = answer.plain()["keys"]
    unknown = dict.fromkeys(_PRINCIPAL) | {"answer": "unknown"}
    rows = (
        {**principal, **{name: key[name] for name in _KEY}}
        for key in keys
        for principal in (*key["holders"], *(unknown | {"reason": reason} for reason in key["unknown"]))
    )
    _print(answer, output_format, (*_KEY, *_PRINCIPAL), rows)
    if not answer.known:
        raise click.exceptions.Exit(INCOMPLETE)


@click.command("what-can")
@CONFIG
@MART
@AS_OF
@FORMAT
@click.argument("principal")
def what_can(
    *, config_path: Path, mart_path: Path | None, as_of: str | None, output_format: str, principal: str
) -> None:
    """Show which keys PRINCIPAL can use in the organization, by which access paths, and the dependents of those keys.

    PRINCIPAL is an account (ID or name), the ARN or name of a user or role, the ARN of a session, or a service. Where IAM was
    collected, the policies of users and roles are evaluated. Keys that anyone can use are counted, not listed.

    Exit codes: 0 answered; 2 no such principal, or an ambiguous one; 3 answered, but part of the answer is unknown.

    JSON has `format`, `as_of`, `who`, `kind`, `not_known`, `public_keys`, and `keys`: each with key_arn, key_alias, account_id,
    account_name, region, key_state, protects, protected and `ways`: the columns of view key_access, with answer and
    identity_policies. CSV has one row per key and access path.
    """
    from reports.answers.accessible_keys import access as accessible_keys

    answer = accessible_keys(mart_path or configured_mart(config_path), principal, as_of=as_of)
    rows = (
        {name: way.get(name) for name in _WAY} | {name: key[name] for name in _ACCESSIBLE_KEY}
        for key in answer.plain()["keys"]
        for way in key["ways"]
    )
    _print(answer, output_format, (*_ACCESSIBLE_KEY, *_WAY), rows)
    if not answer.known:
        raise click.exceptions.Exit(INCOMPLETE)


@click.command()
@CONFIG
@MART
@AS_OF
@FORMAT
def denials(*, config_path: Path, mart_path: Path | None, as_of: str | None, output_format: str) -> None:
    """Show the crawler's denied calls, why they were denied, and the statement that allows them.

    Each statement names its policy: the key policy (where it does not delegate to IAM), a policy of the role, a trust policy,
    or a service control policy. Calls that one statement fixes are grouped.

    Exit codes: 0 no call was denied, 3 calls were denied.

    JSON has `format`, `as_of`, `other_gaps`, and `denials`: each with cause, cause_text, fix_in, role, actions, accounts,
    subjects, since_run, fix (where, statement, certain) and denied (the single calls). CSV has one row per call.
    """
    from models.settings import RoleSettings, load
    from reports.answers.denials import denials as denied_calls

    settings = load(config_path) if mart_path is None else None
    role = settings.role.name if settings else RoleSettings().name
    answer = denied_calls(mart_path or configured_mart(config_path), as_of=as_of, role_name=role)
    rows = ({**denial, **denial["fix"], **call} for denial in answer.plain()["denials"] for call in denial["denied"])
    _print(answer, output_format, (*_CALL, *_DENIAL), rows)
    if answer.denials:
        raise click.exceptions.Exit(INCOMPLETE)


@click.group(
    cls=LazyGroup,
    sections={
        "Commands": {"check": LazyCommand("reports.vendors.cli", "check", "Check keys against vendor profiles.")}
    },
    invoke_without_command=True,
)
@CONFIG
@MART
@AS_OF
@FORMAT
@click.pass_context
def vendors(
    context: click.Context, config_path: Path, mart_path: Path | None, as_of: str | None, output_format: str
) -> None:
    """Show which parties outside the organization can do what with which key.

    For each party and key: its operations, access paths and conditions, the key's dependents, when the key was last used, and
    for each access path whether access remains without it.

    JSON has `format`, `as_of` and `vendors`: the columns of view vendors, as in CSV.
    """
    if context.invoked_subcommand is not None:
        return
    from reports.answers.vendors import vendors as external_parties

    answer = external_parties(mart_path or configured_mart(config_path), as_of=as_of)
    _print(answer, output_format, _VENDOR, answer.plain()["vendors"])
