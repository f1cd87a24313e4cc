"""The settings of kmsledger: one YAML file, loaded into frozen models. `config.example.yaml` documents every setting.

All problems of a file are reported at once, each with line, column, key path, found value and expected value. Messages contain
no secrets: passwords, external IDs, headers of metrics, and addresses and secrets of webhooks and chats are hidden, passwords in
URLs are masked.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails

from models.errors import UserError
from models.safe_text import masked_url
from models.settings.crawl import CrawlSettings
from models.settings.delivery import ChatSettings, WebhookSettings
from models.settings.delivery import MailSettings as MailSettings
from models.settings.nightly import CoverageSettings, MetricsSettings, NightlySettings
from models.settings.report import ReportSettings
from models.settings.rules import OwnerSettings, RuleSettings, Threshold
from models.settings.types import (
    AccountId,
    AnyText,
    DatabaseUrl,
    ExternalId,
    FilePath,
    Flag,
    Group,
    OneOrMore,
    OuId,
    Region,
    RoleArn,
    RoleName,
    SessionName,
    Text,
    Unset,
    Url,
    invalid,
    seconds,
    validation_error,
    whole,
)
from models.settings.vendors import VendorSettings
from models.settings.yaml_loader import KeyPath, Position, Problem, Source, key_text, quoted, read
from models.settings_path import DefaultSettingsPath

_HIDDEN = (
    ("mail", "password"),
    ("role", "external_id"),
    ("webhooks", "url"),
    ("webhooks", "secret"),
    ("chat", "url"),
    ("metrics", "otlp", "headers"),
)
_EXPECTED = {
    "missing": "a value; this setting has no default",
    "tuple_type": "a list (- item, one a line; [] for none)",
    "mapping_type": "a mapping (key: value; {} for none)",
    "dict_type": "a mapping (key: value; {} for none)",
    "too_short": "a list of at least one item",
}


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, Mapping) else getattr(data, key, None)


def _items(data: Any, key: str) -> Sequence[Any]:
    items = _get(data, key)
    return items if isinstance(items, list | tuple) else ()


def _repeated(items: Sequence[Any]) -> list[int]:
    return [index for index, item in enumerate(items) if isinstance(item, str) and item in items[:index]]


def _overlap(included: Sequence[Any], excluded: Sequence[Any]) -> list[int]:
    texts = {item for item in included if isinstance(item, str)}
    return [index for index, item in enumerate(excluded) if isinstance(item, str) and item in texts]


class SettingsError(UserError):
    """Invalid settings. `problems` contains all problems by position; the text has one line for each."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.line, problem.column, problem.key))
        more = len(self.problems) - 1
        plural = "s" if more > 1 else ""
        rest = f" (and {more} more problem{plural}; kmsledger config check lists all)" if more else ""
        super().__init__(f"{self.problems[0]}{rest}")
        self.args = (self.problems,)  # the arguments of __init__, so that the error survives pickling

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class AwsSettings(Group):
    """Connection to AWS. `region` is the home region, for STS and Organizations. Timeouts are in seconds."""

    profile: Annotated[Text | None, Unset] = None
    region: Region = "us-east-1"
    endpoint_url: Annotated[Url | None, Unset] = None
    endpoints: Mapping[Text, Url] = Field(default_factory=dict)
    use_fips: Flag = False
    use_dualstack: Flag = False
    ca_bundle: Annotated[FilePath | None, Unset] = None
    connect_timeout: Annotated[float, seconds(600)] = 5
    read_timeout: Annotated[float, seconds(3600)] = 30

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield endpoint variants that do not exist: of a custom endpoint, and FIPS in China."""
        for variant in ("use_fips", "use_dualstack"):
            if data.get("endpoint_url") and data.get(variant) in (True, "true"):
                yield validation_error((variant,), "false, since endpoint_url is set")
        if str(data.get("region", "")).startswith("cn-") and data.get("use_fips") in (True, "true"):
            yield validation_error(("use_fips",), "false, since AWS has no FIPS endpoints in China")


class AccountEntry(Group):
    """An account of a list; in YAML an ID, or a mapping with id and name."""

    id: AccountId
    name: Annotated[Text | None, Unset] = None


def _entry(value: Any) -> Any:
    return {"id": value} if value is None or isinstance(value, str) else value


class AccountFilter(Group):
    """Criteria for accounts: ID, OU (including everything below), tag (key and accepted values), name (shell pattern)."""

    accounts: tuple[AccountId, ...] = ()
    ous: tuple[OuId, ...] = ()
    tags: Mapping[str, Annotated[tuple[AnyText, ...], Field(min_length=1), OneOrMore]] = Field(default_factory=dict)
    names: tuple[Text, ...] = ()


class OrganizationSettings(Group):
    """The accounts to read: those of the organization or a list, filtered by `include`, then by `exclude`."""

    source: Literal["organizations", "list"] = "organizations"
    reader_role: Annotated[RoleArn | None, Unset] = None
    accounts: tuple[Annotated[AccountEntry, BeforeValidator(_entry)], ...] = ()
    include: AccountFilter = Field(default_factory=dict, validate_default=True)
    exclude: AccountFilter = Field(default_factory=dict, validate_default=True)

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield contradictory filters, an unused list of accounts, and a missing list of accounts."""
        include, exclude = data.get("include"), data.get("exclude")
        for kind, what in (("accounts", "account"), ("ous", "OU"), ("names", "name pattern")):
            for index in _overlap(_items(include, kind), _items(exclude, kind)):
                yield validation_error(("exclude", kind, index), f"each {what} included or excluded, not both")
        accounts = _items(data, "accounts")
        listed = data.get("source", "organizations") == "list"
        if listed and not accounts:
            yield validation_error(
                ("accounts",) if "accounts" in data else ("source",), "accounts, since source is list"
            )
        if not listed and accounts and data.get("source", "organizations") == "organizations":
            yield validation_error(("accounts",), 'no accounts, since source is organizations (or "source: list")')
        if listed:
            for side, part in (("include", include), ("exclude", exclude)):
                for kind in ("ous", "tags"):
                    if _get(part, kind):
                        yield validation_error(
                            (side, kind), f"no {kind}, since source is list and only Organizations has them"
                        )
        ids = [_get(account, "id") or account for account in accounts]
        for index in _repeated(ids):
            yield validation_error(("accounts", index), "each account once")


class RegionSettings(Group):
    """The regions to read. Source `ec2` calls each member account, `account` calls centrally, at 5 calls a second."""

    source: Literal["account", "ec2"] = "ec2"
    include: tuple[Region, ...] = ()
    exclude: tuple[Region, ...] = ()

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield regions that are both included and excluded."""
        for index in _overlap(_items(data, "include"), _items(data, "exclude")):
            yield validation_error(("exclude", index), "each region included or excluded, not both")


def _session_tags(value: Any) -> Any:
    if isinstance(value, Mapping):
        if len(value) > 50:
            raise invalid("at most 50 session tags")
        if any(len(key) > 128 or key.lower().startswith("aws:") for key in value if isinstance(key, str)):
            raise invalid("tag keys of at most 128 characters that do not begin with aws:")
        if any(len(text) > 256 for text in value.values() if isinstance(text, str)):
            raise invalid("tag values of at most 256 characters")
    return value


class RoleSettings(Group):
    """The role assumed in every account. `session_duration` is in seconds."""

    renamed: ClassVar[Mapping[str, str]] = {"duration": "session_duration"}

    name: RoleName = "KmsInventoryReadOnly"
    external_id: Annotated[ExternalId | None, Unset] = None
    session_name: SessionName = "kmsledger"
    source_identity: Annotated[SessionName | None, Unset] = None
    session_tags: Annotated[Mapping[str, AnyText], BeforeValidator(_session_tags)] = Field(default_factory=dict)
    session_duration: Annotated[int, whole(900, 43_200, "seconds")] = 3600
    session_policy: Flag = True


class PartySettings(Group):
    """A known party outside the organization, such as a vendor, and its accounts."""

    name: Text
    accounts: Annotated[tuple[AccountId, ...], Field(min_length=1)]


class LogSettings(Group):
    """Level and format of the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class FileSettings(Group):
    """Access to the files that kmsledger writes: its user's only, or also reading by a group."""

    group: Annotated[Text | None, Unset] = None


class Settings(Group):
    """All settings. Relative paths are resolved against the directory of the file."""

    renamed: ClassVar[Mapping[str, str]] = {"parties": "known_external_parties"}

    database: DatabaseUrl = "sqlite:///kmsledger.db"
    aws: AwsSettings = Field(default_factory=dict, validate_default=True)
    organization: OrganizationSettings = Field(default_factory=dict, validate_default=True)
    regions: RegionSettings = Field(default_factory=dict, validate_default=True)
    role: RoleSettings = Field(default_factory=dict, validate_default=True)
    crawl: CrawlSettings = Field(default_factory=dict, validate_default=True)
    nightly: NightlySettings = Field(default_factory=dict, validate_default=True)
    coverage: CoverageSettings = Field(default_factory=dict, validate_default=True)
    rules: RuleSettings = Field(default_factory=dict, validate_default=True)
    vendors: VendorSettings = Field(default_factory=dict, validate_default=True)
    known_external_parties: tuple[PartySettings, ...] = ()
    owners: tuple[OwnerSettings, ...] = ()
    report: ReportSettings = Field(default_factory=dict, validate_default=True)
    mail: MailSettings | None = None
    webhooks: tuple[WebhookSettings, ...] = ()
    chat: tuple[ChatSettings, ...] = ()
    metrics: MetricsSettings = Field(default_factory=dict, validate_default=True)
    files: FileSettings = Field(default_factory=dict, validate_default=True)
    log: LogSettings = Field(default_factory=dict, validate_default=True)

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield parties and receivers with the same name, which reports and the delivery log could not distinguish."""
        for group, what in (("known_external_parties", "party"), ("webhooks", "webhook"), ("chat", "chat")):
            names = [_get(item, "name") for item in _items(data, group)]
            for index in _repeated(names):
                yield validation_error((group, index, "name"), f"each {what} once")

    def with_executor(self, executor: str) -> "Settings":
        """A copy of the settings with another, valid crawl.executor."""
        return self._with("crawl", executor=executor)

    def for_nightly_run(self) -> "Settings":
        """A copy of the settings whose crawl ends early enough for the stages after it."""
        seconds = min(self.crawl.run_deadline, self.nightly.deadline - self.nightly.reserve)
        return self._with("crawl", run_deadline=seconds)

    def with_min_coverage(self, percent: int | None) -> "Settings":
        """A copy of the settings with another coverage.min_percent, if one is given."""
        return self if percent is None else self._with("coverage", min_percent=percent)

    def with_fail_on(self, severity: Threshold | None) -> "Settings":
        """A copy of the settings with another rules.fail_on, if one is given."""
        return self if severity is None else self._with("rules", fail_on=severity)

    def _with(self, group: str, **values: Any) -> "Settings":
        return self.model_copy(update={group: getattr(self, group).model_copy(update=values)})

    def summary(self) -> Iterator[str]:
        """Yield a short summary of the settings, without secrets."""
        organization, regions = self.organization, self.regions
        if organization.source == "list":
            accounts = f"a list of {len(organization.accounts)}"
        else:
            accounts = f"AWS Organizations, read with {organization.reader_role or 'the base credentials'}"
        if organization.include != AccountFilter() or organization.exclude != AccountFilter():
            accounts += " (filtered)"
        chosen = ", ".join(regions.include) or "all that are enabled"
        excluded = f" except {', '.join(regions.exclude)}" if regions.exclude else ""
        recipients = len(self.mail.recipients) if self.mail else 0
        plural = "" if recipients == 1 else "s"
        yield f"database: {masked_url(self.database)}"
        yield f"accounts: {accounts}"
        yield f"role:     {self.role.name}"
        yield f"regions:  {chosen}{excluded}"
        server = (self.mail.host or "Amazon SES") if self.mail else ""
        yield f"mail:     {f'{recipients} recipient{plural} through {server}' if self.mail else 'none'}"
        for label, channels in (("webhooks", self.webhooks), ("chat", self.chat)):
            if channels:
                yield f"{label + ':':<9} {', '.join(channel.name for channel in channels)}"

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the fields of repr(), with the password of the database masked."""
        for name, value in super().__repr_args__():
            yield name, masked_url(value) if name == "database" and isinstance(value, str) else value


def load(path: Path, env: Mapping[str, str] = os.environ) -> Settings:
    """Load the settings file at `path`; `env` provides the values of `${NAME}`. Raises SettingsError with all problems.

    Without a file at the default path, which no option names, the settings are the defaults.
    """
    if isinstance(path, DefaultSettingsPath) and not path.exists():
        path.report_missing()
        return Settings.model_validate({}, context={"base": str(path.absolute().parent)})
    source = read(path, env)
    problems = list(source.problems)
    if source.values is not None:
        base = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120  (as written: links are not followed)
        try:
            settings = Settings.model_validate(source.values, context={"base": base})
        except ValidationError as error:
            problems += validation_problems(source, error)
        else:
            if not problems:
                return settings
    raise SettingsError(problems)  # outside the except, because a chained error would contain the values


def validation_problems(source: Source, error: ValidationError, at: KeyPath = ()) -> Iterator[Problem]:
    """Yield the problems of a validation error; `at` is the key path of the validated value in the file."""
    for details in error.errors(include_url=False, include_input=False):
        problem = _problem(source, (*at, *details["loc"]), details["type"], _expected(details))
        if problem is not None:
            yield problem


def _expected(details: ErrorDetails) -> str:
    if details["type"] == "literal_error":
        return f"{details['ctx']['expected']}"
    own = details.get("ctx", {}).get("expected")
    return _EXPECTED.get(details["type"]) or (own if isinstance(own, str) else details["msg"])


def _problem(source: Source, location: KeyPath, kind: str, expected: str) -> Problem | None:
    path = location
    while path not in source.positions:  # validators see more levels than the file: a bare account ID has no key "id"
        path = path[:-1]
    if any(path[:end] in source.reported for end in range(len(path) + 1)):
        return None
    position = source.positions[path]
    if kind == "missing":
        line, column = source.keys.get(path, (position.line, position.column))
        return Problem(source.file, line, column, key_text(location), "nothing", expected)
    if kind == "unknown_key":
        # A key that is not a plain name may be a secret with a misplaced colon or quote.
        line, column = source.keys[path]
        named = re.fullmatch(r"[\w.-]{1,40}", str(path[-1])) is not None
        shown = path if named else path[:-1]
        return Problem(source.file, line, column, key_text(shown), "an unknown key", expected)
    found = "an empty list" if kind == "too_short" else _found(position, path, expected)
    return Problem(source.file, position.line, position.column, key_text(path), found, expected)


def _found(position: Position, path: KeyPath, expected: str) -> str:
    if position.kind == "nothing":
        return f"nothing ({position.written})" if position.written else "nothing"
    if position.kind != "text":
        return f"a {position.kind}"
    names = tuple(part for part in path if isinstance(part, str))
    if any(names[: len(hidden)] == hidden for hidden in _HIDDEN):
        return "(hidden)"
    if expected.startswith(("a list", "a mapping")):
        return "a text"
    origin = " (filled from the environment)" if "${" in position.written else ""
    return quoted(masked_url(position.written)) + origin
