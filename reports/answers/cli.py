"""The commands for access and change queries."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from models.cli_groups import LazyCommand, LazyGroup
from models.cli_options import AS_OF, CONFIG, MART, configured_mart, format_option

INCOMPLETE = 3
"""The exit code if a part of the answer is unknown."""
FORMAT = format_option("table", "json", "csv", about="json has every field; csv has one row per item.")
_EVENT = (
    *(
        "run_id",
        "occurred_at",
        "event_type",
        "severity",
        "account_id",
        "account_name",
        "region",
        "key_arn",
        "resource_arn",
        "subject",
    ),
    *("message", "before", "after", "until_run", "details"),
)
_KEY = ("key_arn", "key_name", "key_state", "role")
_PRINCIPAL = (
    *("principal", "principal_type", "account_id", "account_name", "party", "access", "answer", "message", "reason"),
    *("operations", "access_paths", "resource_access_paths"),
)
_ACCESSIBLE_KEY = ("key_arn", "key_alias", "account_id", "account_name", "region", "key_state", "dependent_count")
_ACCESS_PATH = (
    *(
        "access",
        "principal",
        "path",
        "source_id",
        "operations",
        "conditions",
        "needs_iam",
        "answer",
        "identity_policies",
    ),
    *("reason", "message"),
)
_DENIAL = ("cause", "fix_in", "where", "statement", "certain", "since_run")
_CALL = ("account_id", "region", "role", "action", "subject", "key_alias", "message")
_VENDOR = (
    *("party", "access", "party_accounts", "key_arn", "key_alias", "account_id", "account_name", "region", "key_state"),
    *("principals", "operations", "paths", "conditions", "dependent_count", "dependents", "last_used_at", "last_use"),
    *("fallback_paths", "since_run", "since"),
)


class Result(Protocol):
    """The result of a query."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""

    def to_text(self) -> str:
        """Text for a terminal."""


def _print(result: Result, output_format: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    if output_format == "csv":
        from reports.mart.result_writers import write_csv

        write_csv(sys.stdout, columns, ([row[column] for column in columns] for row in rows))
    elif output_format == "json":
        from reports.mart.change_event import to_json

        click.echo(to_json(result.to_dict()))
    else:
        click.echo(result.to_text())


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
    """Compare two runs: the net differences, not each step between them.

    A run is a number, or a date or time (UTC; a date means its end). Facts that one of the runs could not read are listed as
    unknown and not compared. Differences do not affect the exit code.

    JSON has `from` and `to` (runs), `filters`, `differences` (each with event_type, severity, message, account, region, key,
    resource, before, after and details) and `unknown`. CSV has the differences.
    """
    from reports.answers.run_diff import diff as compare

    result = compare(mart_path or configured_mart(config_path), start, end, key=key, account=account)
    document = result.to_dict()
    _print(result, output_format, _EVENT, document["differences"])
    if output_format == "csv" and document["unknown"]:
        click.echo(f"{len(document['unknown'])} unknown items were not compared: --format json lists them", err=True)


@click.command()
@CONFIG
@MART
@FORMAT
@click.argument("key")
def history(*, config_path: Path, mart_path: Path | None, output_format: str, key: str) -> None:
    """Show the change history of KEY: a key ARN, key ID or alias.

    The history has the first facts, each change with its details, what could not be read and why, all targets of the key's
    aliases, and the resources that started or stopped using it. For an alias, it has every key that the alias pointed at.

    CSV has one row per event.
    """
    from reports.answers.key_history import history as key_history

    result = key_history(mart_path or configured_mart(config_path), key)
    events = (event for each_key in result.to_dict()["keys"] for event in each_key["events"])
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
    """Show who can perform OPERATION on TARGET: each principal once, with all its access paths.

    OPERATION is a KMS operation (decrypt, kms:GenerateDataKey ..., in any letter case), `use` for any use of the key, or
    `administer` for changing the key or who may use it. TARGET is a key (ARN, ID, alias), a secret, a database, a cache or a
    bucket (name or ARN). For a secret, `decrypt` and `use` mean reading the secret.

    Exit codes: 0 answered; 2 unknown or ambiguous operation or target; 3 answered, but a part of the answer is unknown.

    JSON has `format`, `as_of`, `question`, `target`, `target_type`, `operations`, `notes`, and `keys`: each with key_arn,
    key_name, key_state, role, `unknown` and `principals` (principal, principal_type, account_id, account_name, party, access,
    answer, message, reason, operations, access_paths, resource_access_paths). An answer is yes, conditional (on IAM policies
    that were not collected), unknown or unused (no such principal exists). CSV has one row per key and principal, and one per
    reason that something is unknown.
    """
    from reports.answers.who_can import who_can as find_principals

    answer = find_principals(mart_path or configured_mart(config_path), operation, target, as_of=as_of)
    keys = answer.to_dict()["keys"]
    unknown = dict.fromkeys(_PRINCIPAL) | {"answer": "unknown"}
    rows = (
        {**principal, **{name: key[name] for name in _KEY}}
        for key in keys
        for principal in (*key["principals"], *(unknown | {"reason": reason} for reason in key["unknown"]))
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
    """Show which keys PRINCIPAL can use in the organization, with the access paths and the dependents of each key.

    PRINCIPAL is an account (ID or name), the ARN or name of a user or role, the ARN of a session, or a service. Where IAM was
    collected, the policies of users and roles are evaluated. Keys that anyone can use are counted, not listed.

    Exit codes: 0 answered; 2 unknown or ambiguous principal; 3 answered, but a part of the answer is unknown.

    JSON has `format`, `as_of`, `principal`, `principal_type`, `unknown`, `public_keys`, and `keys`: each with key_arn, key_alias,
    account_id, account_name, region, key_state, dependent_count, dependents and `access_paths` (the columns of view key_access,
    with answer and identity_policies). CSV has one row per key and access path.
    """
    from reports.answers.accessible_keys import accessible_keys

    answer = accessible_keys(mart_path or configured_mart(config_path), principal, as_of=as_of)
    rows = (
        {name: path.get(name) for name in _ACCESS_PATH} | {name: key[name] for name in _ACCESSIBLE_KEY}
        for key in answer.to_dict()["keys"]
        for path in key["access_paths"]
    )
    _print(answer, output_format, (*_ACCESSIBLE_KEY, *_ACCESS_PATH), rows)
    if not answer.known:
        raise click.exceptions.Exit(INCOMPLETE)


@click.command()
@CONFIG
@MART
@AS_OF
@FORMAT
def denials(*, config_path: Path, mart_path: Path | None, as_of: str | None, output_format: str) -> None:
    """Show the crawler's denied calls, why they were denied, and the statement that allows them.

    Each fix names the policy that the statement belongs in: a key policy that does not delegate to IAM, a policy of the role,
    a trust policy, or a service control policy. Calls that one statement fixes are grouped.

    Exit codes: 0 no call was denied, 3 calls were denied.

    JSON has `format`, `as_of`, `other_gaps`, and `denials`: each with cause, cause_text, fix_in, role, actions, accounts,
    subjects, since_run, fix (where, statement, certain) and denied (the individual calls). CSV has one row per call.
    """
    from models.settings import RoleSettings, load
    from reports.answers.denials import denials as denied_calls

    settings = load(config_path) if mart_path is None else None
    role = settings.role.name if settings else RoleSettings().name
    answer = denied_calls(mart_path or configured_mart(config_path), as_of=as_of, role_name=role)
    rows = ({**denial, **denial["fix"], **call} for denial in answer.to_dict()["denials"] for call in denial["denied"])
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
    """Show the external parties that can use keys of the organization, and their operations.

    For each party and key: operations, access paths and conditions, the key's dependents, its last use, and for each access
    path whether access remains without it.

    JSON has `format`, `as_of` and `vendors`: the columns of view vendors, as in CSV.
    """
    if context.invoked_subcommand is not None:
        return
    from reports.answers.vendors import vendors as external_parties

    answer = external_parties(mart_path or configured_mart(config_path), as_of=as_of)
    _print(answer, output_format, _VENDOR, answer.to_dict()["vendors"])
