"""Settings: all problems are reported at once with their position, and secrets are never shown."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import UserError
from models.settings import (
    AccountEntry,
    AwsSettings,
    OrganizationSettings,
    RegionSettings,
    Settings,
    SettingsError,
    load,
)
from models.settings.yaml_loader import Problem
from tests.models.settings.settings_writer import MAIL, Writer

ROOT = Path(__file__).parents[3]


@pytest.fixture
def read(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


WEBHOOK_SECRET = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="
TEN_MISTAKES = """\
database: mysql://ledger:hunter2@db/kms
aws:
  region: eu-west1
  use_fips: yes
organization:
  reader_role: arn:aws:iam::12345:role/Reader
  include:
    accounts: [012345678901]
  exclude:
    accounts:
      - 012345678901
role:
  externalid: hunter2
  session_duration: 3600
  session_duration: 60
crawl:
  concurrency: many
mail:
  host: ${SMTP_HOST}
  sender: a@example.org
  recipients: []
"""


def test_ten_problems_are_reported_at_once(read: Writer) -> None:
    """Ten problems of ten kinds are one error, sorted by position, and none shows a secret."""
    with pytest.raises(SettingsError) as caught:
        read(TEN_MISTAKES)
    assert [(p.line, p.column, p.key) for p in caught.value.problems] == [
        (1, 11, "database"),
        (3, 11, "aws.region"),
        (4, 13, "aws.use_fips"),
        (6, 16, "organization.reader_role"),
        (11, 9, "organization.exclude.accounts[0]"),
        (13, 3, "role.externalid"),
        (15, 3, "role.session_duration"),
        (17, 16, "crawl.concurrency"),
        (19, 9, "mail.host"),
        (21, 15, "mail.recipients"),
    ]
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, UserError)
    assert caught.value.message.endswith("(and 9 more problems; kmsledger config check lists all)")


def test_a_problem_has_a_stable_format(tmp_path: Path) -> None:
    """Editors and scripts can parse FILE:LINE:COLUMN: KEY: found X, expected Y."""
    file = tmp_path / "config.yaml"
    file.write_text("crawl:\n  max_attempts: 21\n")
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    expected = "a whole number from 1 to 20 (attempts for each call)"
    assert caught.value.problems == [Problem(str(file), 2, 17, "crawl.max_attempts", '"21"', expected)]
    assert str(caught.value) == f'{file}:2:17: crawl.max_attempts: found "21", expected {expected}'
    assert caught.value.message == str(caught.value)


def test_settings_and_errors_can_be_pickled(read: Writer) -> None:
    """A worker process can pass the settings and the error to another process."""
    with pytest.raises(SettingsError) as caught:
        read("nonsense: 1\nlog: {level: loud}")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  (made here)
    assert (copy.problems, copy.message) == (caught.value.problems, caught.value.message)
    made = read(f"{MAIL}, username: u, password: p}}")
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301  (made here)


@pytest.mark.parametrize(
    ("region", "meant"),
    [
        ("eu-west1", "eu-west-1"), ("us_east_1", "us-east-1"), ("US-EAST-1", "us-east-1"), ("us-esat-1", "us-east-1"),
        ("eu-centrl-1", "eu-central-1"), ("us-east-1a", "us-east-1"), ("Frankfurt", None), ("eu", None), ("*", None),
    ],
)  # fmt: skip
def test_an_invalid_region_gets_a_suggestion(read: Writer, region: str, meant: str | None) -> None:
    """An invalid region is rejected with the most similar one."""
    answer = f'expected a region; did you mean "{meant}"?' if meant else "expected a region such as eu-west-1"
    assert answer in read.problem(f"regions: {{include: ['{region}']}}")


def test_regions_of_every_partition_and_new_regions_are_accepted(read: Writer) -> None:
    """A new AWS region needs no new release."""
    regions = ("us-gov-west-1", "cn-northwest-1", "us-isob-east-1", "eusc-de-east-1", "ap-southeast-9", "xy-central-1")
    assert read(f"regions: {{include: [{', '.join(regions)}]}}").regions.include == regions


@pytest.mark.parametrize(
    "partition", ["aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"]
)
def test_role_arns_of_every_partition_are_accepted(read: Writer, partition: str) -> None:
    """The reader role can be in any partition and under a path."""
    arn = f"arn:{partition}:iam::012345678901:role/team/sub/Reader"
    assert read(f"organization: {{reader_role: '{arn}'}}").organization.reader_role == arn


@pytest.mark.parametrize(
    "arn",
    [
        "Reader", "arn:aws:iam::012345678901:user/x", "arn:aws:iam::12345678901:role/x",
        "arn:azure:iam::012345678901:role/x",
        "arn:aws:sts::012345678901:assumed-role/x/y", "arn:aws:iam::012345678901:role/",
        "arn:aws:iam:us-east-1:012345678901:role/x",
    ],
)  # fmt: skip
def test_other_arns_are_rejected(read: Writer, arn: str) -> None:
    """Users, sessions, short account IDs and unknown partitions are not role ARNs."""
    assert "expected a role ARN" in read.problem(f"organization: {{reader_role: '{arn}'}}")


def test_the_role_is_a_name(read: Writer) -> None:
    """A name or a path with a name is accepted; an ARN is rejected with the reason."""
    assert read("role: {name: audit/kms/Reader}").role.name == "audit/kms/Reader"
    assert "this is an ARN" in read.problem("role: {name: 'arn:aws:iam::012345678901:role/x'}")
    assert "leave out the leading /" in read.problem("role: {name: /audit/x}")
    assert "expected a role name" in read.problem("role: {name: 'a b'}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("role: {session_name: x}", "2 to 64 letters"),
        ("role: {source_identity: 'a b'}", "2 to 64 letters"),
        ("role: {session_duration: 899}", "from 900 to 43200 (seconds)"),
        ("role: {session_tags: {'aws:x': y}}", "do not begin with aws:"),
        ("crawl: {transport: http}", "'curl' or 'boto3'"),
        ("rules: {fail_on: urgent}", "'critical', 'high', 'medium', 'low', 'info' or 'never'"),
        ("report: {list_limit: 9}", "from 10 to 100000 (rows)"),
        ('report: {title: "a\\nb"}', "a text on one line"),
        ("report: {time_zone: Mars/Olympus}", "the name of a time zone such as Europe/Berlin"),
        ("report: {time_zone: /etc/localtime}", "the name of a time zone such as Europe/Berlin"),
        ("report: {directory: ~/x}", "write ${HOME} instead"),
        ("aws: {endpoint_url: localhost:4566}", "a URL such as"),
        ("aws: {endpoints: {kms: 'https://u:hunter2@h'}}", "without user name and password"),
        ("aws: {endpoints: {kms: 'http://h:99999'}}", "a URL such as"),
        ("aws: {endpoint_url: 'http://h', use_fips: true}", "false, since endpoint_url is set"),
        ("aws: {region: cn-north-1, use_fips: true}", "false, since AWS has no FIPS endpoints in China"),
        ("organization: {include: {ous: [ou-1]}}", "an OU or root id"),
        ("organization: {include: {tags: {a: []}}}", "a list of at least one item"),
        ("organization: {source: list}", "accounts, since source is list"),
        ("organization: {source: list, accounts: []}", "accounts, since source is list"),
        ("organization: {accounts: [012345678901]}", "no accounts, since source is organizations"),
        ("organization: {source: list, accounts: [012345678901], include: {ous: [r-abcd]}}", "no ous, since source is"),
        ("organization: {source: list, accounts: [012345678901, {id: 012345678901}]}", "each account once"),
        ("organization: {include: {ous: [r-abcd]}, exclude: {ous: [r-abcd]}}", "each OU included or excluded"),
        ("regions: {include: [eu-west-1], exclude: [eu-west-1]}", "each region included or excluded"),
        ("known_external_parties: [{name: v, accounts: []}]", "a list of at least one item"),
        ("known_external_parties: [{accounts: [012345678901]}]", "a value; this setting has no default"),
        ("known_external_parties: [&v {name: v, accounts: [012345678901]}, *v]", "each party once"),
        (f"{MAIL}, username: u}}", "a password together with the user name"),
        (f"{MAIL}, password: hunter2}}", "a user name together with the password"),
        (f"{MAIL}, port: 65536}}", "from 1 to 65535"),
        (f"{MAIL}, subject: '{{sender}}'}}", "whose only placeholders are {title}, {summary}, {status} and {date}"),
        (f"{MAIL}, subject: '{{status'}}", "whose only placeholders are {title}, {summary}, {status} and {date}"),
        (f"{MAIL}, subject: '{{status.x}}'}}", "whose only placeholders are {title}, {summary}, {status} and {date}"),
        (MAIL.replace("h.example", "h.example:25") + "}", "without scheme and port"),
        (MAIL.replace("a@example.org", "KMS <a@example.org>") + "}", "write the address alone"),
        (MAIL.replace("b@", "b@example.org, B@") + "}", "each recipient once"),
        ("mail: {host: h, sender: a@example.org}", "a value; this setting has no default"),
        (f"{MAIL}, routes: [{{recipients: [c@example.org]}}]}}", "in each route, or a severity"),
        (f"{MAIL}, routes: [{{account: 012345678901, owner: x, recipients: [c@example.org]}}]}}", "one of account, ou,"),
        (f"{MAIL}, routes: [{{owner: x, recipients: []}}]}}", "a list of at least one item"),
        (f"{MAIL}, ses: {{region: eu-west-1}}}}", "either host (SMTP) or ses (Amazon SES)"),
        (MAIL.replace("host: h.example, ", "") + "}", "either host (SMTP) or ses (Amazon SES)"),
        (MAIL.replace("host: h.example", "ses: {region: eu-west1}") + "}", 'did you mean "eu-west-1"?'),
        (f"webhooks: [{{name: a b, url: 'https://h/', secret: {WEBHOOK_SECRET}}}]", "1 to 60 letters, digits or"),
        (f"webhooks: [{{name: a, url: 'http://h.example/hunter2', secret: {WEBHOOK_SECRET}}}]", "an https:// URL"),
        (f"webhooks: [{{name: a, url: 'https://h/ü-hunter2', secret: {WEBHOOK_SECRET}}}]", "an https:// URL in ASCII"),
        ("webhooks: [{name: a, url: 'https://h/hunter2', secret: hunter2}]", "whsec_ followed by 24 to 64 random bytes"),
        ("webhooks: [{name: a, url: 'https://h/', secret: whsec_hunter2}]", "whsec_ followed by 24 to 64 random bytes"),
        ("chat: [&c {name: a, url: 'slack://hunter2'}, *c]", "each chat once"),
        ('chat: [{name: a, url: "slack://hunter2\\n"}]', "a text on one line that is not empty"),
        (f"webhooks: [&w {{name: a, url: 'https://h/', secret: {WEBHOOK_SECRET}}}, *w]", "each webhook once"),
    ],
)  # fmt: skip
def test_an_invalid_value_gets_the_expected_form(read: Writer, line: str, expected: str) -> None:
    """Each validation error states the expected value."""
    problem = read.problem(line)
    assert expected in problem.partition(", expected ")[2]
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("line", "key", "current"),
    [
        ("crawl: {attempts: 3}", "crawl.attempts", "max_attempts"),
        ("crawl: {retry_percent: 3}", "crawl.retry_percent", "retry_budget_percent"),
        ("crawl: {quota_percent: 3}", "crawl.quota_percent", "quota_share_percent"),
        ("crawl: {empty_regions_days: 3}", "crawl.empty_regions_days", "empty_region_rescan_days"),
        ("crawl: {last_use: {per_night: 3}}", "crawl.last_use.per_night", "max_keys_per_run"),
        ("crawl: {last_use: {every_days: 3}}", "crawl.last_use.every_days", "interval_days"),
        ("crawl: {last_use: {minutes: 3}}", "crawl.last_use.minutes", "max_minutes"),
        ("role: {duration: 900}", "role.duration", "session_duration"),
        ("parties: []", "parties", "known_external_parties"),
        (f"{MAIL}, attach_report: true}}", "mail.attach_report", "attachment"),
    ],
)
def test_a_renamed_setting_is_reported_with_its_current_name(read: Writer, line: str, key: str, current: str) -> None:
    """A former key is an unknown key; the error gives the current name."""
    expected = f'{key}: found an unknown key, expected "{current}", the new name of this setting'
    assert read.problem(line).endswith(expected)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ledger:hunter2@db/kms", "postgres://ledger:hunter2@db/kms", "postgresql+psycopg://ledger:hunter2@db/kms",
        "postgresql://ledger:hunt/er2@db/kms", "postgresql://ledger:hunter2@db:port/kms", "postgresql://",
        "postgres:/ledger:hunter2@db", "host=db password=hunter2", "postgresql://db:x/kms?password=hunter2",
        "sqlite://", "sqlite:///", "'sqlite:///:memory:'", "sqlite:///x?mode=ro", "kmsledger.db", "''",
    ],
)  # fmt: skip
def test_other_databases_are_rejected_without_their_password(read: Writer, url: str) -> None:
    """The error names both forms and masks the password, even in an invalid URL."""
    problem = read.problem(f"database: {url}")
    assert "sqlite:///FILE" in problem
    assert "postgresql://" in problem.partition(", expected ")[2]
    assert "hunt" not in problem


def test_paths_are_relative_to_the_file(read: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths, including defaults, do not depend on the working directory; absolute paths stay."""
    made = read(
        "database: sqlite:///data/k.db\naws: {ca_bundle: ../ca.pem}\nrules: {directories: [mine, /opt/rules]}\n"
        f"{MAIL}, ca_bundle: ca.pem}}"
    )
    base = read.file.parent
    assert made.database == f"sqlite:///{base}/data/k.db"
    assert made.aws.ca_bundle == base.parent / "ca.pem"
    assert made.rules.directories == (base / "mine", Path("/opt/rules"))
    assert made.mail
    assert made.mail.ca_bundle == base / "ca.pem"
    assert (made.report.directory, made.report.mart) == (base / "reports-out", base / "kmsledger.duckdb")
    assert read("database: sqlite:////var/lib/k.db").database == "sqlite:////var/lib/k.db"
    assert read("{}").database == f"sqlite:///{base}/kmsledger.db"
    monkeypatch.chdir(base)
    assert load(Path("config.yaml"), {}).report.directory == base / "reports-out"


def test_short_forms_are_accepted(read: Writer) -> None:
    """An account can be an ID or a mapping, and a tag can have one value or several."""
    made = read("organization:\n  include: {tags: {env: prod, tier: [a, '']}}\n").organization
    assert made.include.tags == {"env": ("prod",), "tier": ("a", "")}
    entries = "organization: {source: list, accounts: [012345678901, {id: 012345678902, name: no}, {id: 012345678903}]}"
    assert [(account.id, account.name) for account in read(entries).organization.accounts] == [
        ("012345678901", None), ("012345678902", "no"), ("012345678903", None),
    ]  # fmt: skip


def test_secrets_are_in_no_representation(read: Writer) -> None:
    """Neither repr nor str of the settings, a group or an error shows a secret."""
    made = read(
        "database: 'postgresql://ledger:hunter2@db/kms?sslpassword=hunter2'\nrole: {external_id: hunter2}\n"
        f"{MAIL}, username: u, password: hunter2}}\n"
        f"webhooks: [{{name: a, url: 'https://h.example/hunter2', secret: {WEBHOOK_SECRET}}}]\n"
        "chat: [{name: a, url: 'slack://hunter2'}]"
    )
    assert made.role.external_id
    assert made.role.external_id.get_secret_value() == "hunter2"
    shown = f"{made!r} {made} {made.role!r} {made.mail!r} {made.webhooks!r} {made.chat!r} {list(made.summary())}"
    assert "hunter2" not in shown
    assert WEBHOOK_SECRET not in shown
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"database": "x:hunter2@", "role": {"external_id": "hunter2 "}})
    assert "hunter2" not in str(caught.value)


def test_secrets_are_hidden_in_problems(read: Writer) -> None:
    """An invalid secret is not repeated in the error."""
    for line in ("role: {external_id: 'hunter2 !'}", f'{MAIL}, username: u, password: "hunter2\\n"}}'):
        assert "found (hidden), expected " in read.problem(line)
        assert "hunter2" not in read.problem(line)


def test_headers_of_metrics_are_secret(read: Writer) -> None:
    """Headers can come from the environment; neither the settings nor an error about one show a value or a misplaced key."""
    endpoint = "endpoint: 'http://127.0.0.1:4318/v1/metrics'"
    made = read(f"metrics: {{otlp: {{{endpoint}, headers: {{Authorization: 'Bearer ${{TOKEN}}'}}}}}}", TOKEN="hunter2")
    assert made.metrics.otlp.headers["Authorization"].get_secret_value() == "Bearer hunter2"
    assert "hunter2" not in f"{made!r} {made} {made.metrics!r} {list(made.summary())}"
    for headers in (
        '{Authorization: "hunter2\\nX: y"}',
        "{'Bearer hunter2': x}",
        "{Authorization: ' hunter2'}",
        "{Content-Type: hunter2}",
        "{a: hunter2, A: hunter2}",
        "hunter2",
    ):
        problem = read.problem(f"metrics: {{otlp: {{{endpoint}, headers: {headers}}}}}")
        assert "metrics.otlp.headers" in problem
        assert "hunter2" not in problem
    unencrypted = "metrics: {otlp: {endpoint: 'http://collector/v1/metrics', headers: {a: b}}}"
    assert "an https:// URL, since headers are set" in read.problem(unencrypted)
    assert "a URL such as" in read.problem("metrics: {otlp: {endpoint: 'http://[::1/v1/metrics', headers: {a: b}}}")
    assert read("metrics: {otlp: {endpoint: 'http://localhost/v1/metrics', headers: {a: b}}}").metrics.otlp.headers


def test_the_endpoint_of_metrics_has_a_path(read: Writer) -> None:
    """An endpoint without the path of the metrics is an error, because the collector would answer 404; empty is not set."""
    for url in ("http://127.0.0.1:4318", "https://collector.example/", "collector:4318", "http://u:p@h/v1/metrics"):
        assert "metrics.otlp.endpoint" in read.problem(f"metrics: {{otlp: {{endpoint: '{url}'}}}}")
    assert read("metrics: {otlp: {endpoint: '${COLLECTOR:-}'}}").metrics.otlp.endpoint is None


def test_settings_are_frozen_and_closed() -> None:
    """Settings cannot be changed; misspelled keyword arguments and contradictions are rejected, too."""
    made = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        made.database = "x"
    with pytest.raises(ValidationError, match="did you mean"):
        AwsSettings(regoin="eu-west-1")  # type: ignore[call-arg]  # what is tested
    with pytest.raises(ValidationError, match="not both"):
        RegionSettings(include=("eu-west-1",), exclude=("eu-west-1",))
    organization = OrganizationSettings(source="list", accounts=(AccountEntry(id="012345678901"),))
    assert Settings(organization=organization).organization is organization


def test_settings_import_no_heavy_libraries() -> None:
    """Loading settings imports no database, AWS or rendering library."""
    heavy = ("sqlalchemy", "boto3", "botocore", "duckdb", "jinja2", "rich", "click", "alembic")
    code = f"import sys, models.settings; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
