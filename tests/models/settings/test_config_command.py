"""The example settings file, and the command that checks a settings file."""

import re
import typing
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from models.cli import config, db
from models.settings import (
    MailSettings,
    Settings,
    SettingsError,
    load,
)
from models.settings.rules import Threshold
from models.severities import SEVERITIES, THRESHOLDS
from reports.vendors.profile import Severity
from tests.models.settings.settings_writer import MAIL

ROOT = Path(__file__).parents[3]
EXAMPLE_ENV = {
    "KMSLEDGER_EXTERNAL_ID": "of-the-example",
    "KMSLEDGER_MAIL_PASSWORD": "of-the-example",
    "KMSLEDGER_CHAT_URL": "json://localhost",
    "KMSLEDGER_WEBHOOK_SECRET": "whsec_b2YtdGhlLWV4YW1wbGUtb2YtdGhlLWV4YW1wbGU=",
}


def groups(model: type[BaseModel] = Settings) -> set[type[BaseModel]]:
    """`model` and all models below it."""
    models = {model}
    for info in model.model_fields.values():
        todo: list[Any] = [info.annotation]
        while todo:
            kind = todo.pop()
            todo += [part for part in typing.get_args(kind) if part is not NoneType]
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                models |= groups(kind)
    return models


def test_every_group_is_frozen_and_closed() -> None:
    """No group can be changed after loading or accepts unknown keys."""
    for group in groups():
        assert group.model_config.get("frozen") is True
        assert group.model_config.get("extra") == "forbid"


def uncommented() -> str:
    """The example with all groups that have no default."""
    text = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
    for name in ("known_external_parties", "owners", "mail", "webhooks", "chat"):
        before, start, rest = text.partition(f"\n# {name}:\n")
        assert start, name
        group, _, after = rest.partition("\n# -----")
        text = f"{before}\n{name}:\n{re.sub(r'^# ', '', group, flags=re.MULTILINE)}\n# -----{after}"
    return text


def test_the_example_passes_the_check_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied without a change and without environment variables, the example is valid, and its values are the defaults."""
    for name in EXAMPLE_ENV:
        monkeypatch.delenv(name, raising=False)
    copy = tmp_path / "kmsledger.yaml"
    copy.write_bytes((ROOT / "config.example.yaml").read_bytes())
    result = CliRunner().invoke(config, ["check", "--config", str(copy)])
    assert (result.exit_code, result.stderr) == (0, "")
    empty = tmp_path / "empty.yaml"
    empty.write_text("{}")
    assert load(copy, {}) == load(empty, {})


def test_the_example_is_valid_and_has_the_defaults(tmp_path: Path) -> None:
    """With all groups uncommented, the defaults in config.example.yaml are the defaults of the program."""
    copy = tmp_path / "kmsledger.yaml"
    copy.write_text(uncommented(), encoding="utf-8")
    empty = tmp_path / "empty.yaml"
    empty.write_text(f"{{{MAIL}}}}}")
    made, plain = load(copy, EXAMPLE_ENV), load(empty, {})
    assert made.role.external_id
    assert made.mail
    assert made.mail.routes
    assert plain.mail
    assert made.known_external_parties
    assert made.owners
    assert made.webhooks
    assert made.chat
    own = {"host", "username", "password", "sender", "recipients", "routes"}
    assert made.mail.model_dump(exclude=own) == plain.mail.model_dump(exclude=own)
    assert made.role.model_dump(exclude={"external_id"}) == plain.role.model_dump(exclude={"external_id"})
    apart = {"mail", "webhooks", "chat", "known_external_parties", "owners", "role"}
    assert made.model_dump(exclude=apart) == plain.model_dump(exclude=apart)


def test_the_example_documents_every_setting() -> None:
    """config.example.yaml has every setting, with a comment."""
    text = uncommented()
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.BaseLoader)
    missing = []

    def walk(model: type[BaseModel], mapping: yaml.Node, path: str) -> None:
        written = {key.value: (key, value) for key, value in mapping.value}
        for name, info in model.model_fields.items():
            if name not in written:
                missing.append(path + name)
                continue
            key, value = written[name]
            above = [line.strip() for line in lines[: key.start_mark.line] if line.strip()]
            pair = {"password", *(("accounts", "ous", "tags", "names") if ".exclude." in path else ())}
            if name not in pair and not above[-1].startswith("#"):
                missing.append(f"{path}{name}: a comment")
            for group in (
                part for part in (info.annotation, *typing.get_args(info.annotation)) if part is not NoneType
            ):
                if isinstance(group, type) and issubclass(group, BaseModel):
                    inner = value.value[0] if isinstance(value, yaml.SequenceNode) else value
                    if isinstance(inner, yaml.MappingNode):
                        walk(group, inner, f"{path}{name}.")

    assert node is not None
    walk(Settings, node, "")
    assert missing == []
    assert "id: 123456789012" in text, "the mapping form of an account"
    assert set(yaml.load(text, Loader=yaml.BaseLoader)["mail"]) == set(MailSettings.model_fields)  # noqa: S506  (text only)


def test_check_prints_every_problem(tmp_path: Path) -> None:
    """`config check` exits with 2 and prints each problem and their number on standard error."""
    file = tmp_path / "c.yaml"
    file.write_text("log: {level: loud}\ncrawl: {max_attempts: 0}\n")
    result = CliRunner().invoke(config, ["check", "--config", str(file)])
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second, count = result.stderr.splitlines()
    assert first.startswith(f"{file}:1:14: log.level: ")
    assert second.startswith(f"{file}:2:23: crawl.max_attempts: ")
    assert count == "2 problems"


def test_check_prints_a_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config check` reads ./kmsledger.yaml and prints a summary without secrets."""
    (tmp_path / "kmsledger.yaml").write_text(
        "database: postgresql://ledger:hunter2@db/kms\nregions: {include: [eu-west-1], exclude: [eu-west-2]}\n"
        f"organization: {{source: list, accounts: [012345678901]}}\n{MAIL}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(config, ["check"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "database: postgresql://ledger:***@db/kms",
        "accounts: a list of 1",
        "role:     KmsInventoryReadOnly",
        "regions:  eu-west-1 except eu-west-2",
        "mail:     1 recipient through h.example",
    ]


def test_severities_are_the_same_everywhere() -> None:
    """Settings, profiles, commands and reports use the same severities in the same order."""
    assert typing.get_args(Threshold) == THRESHOLDS
    assert typing.get_args(Severity) == SEVERITIES


def test_without_a_settings_file_the_defaults_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that needs settings uses the defaults in the current directory, and says on standard error where it looked."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(db, ["upgrade"])
    assert result.exit_code == 0, result.output
    assert f"no settings file {tmp_path}/kmsledger.yaml: using the defaults" in result.stderr
    assert (tmp_path / "kmsledger.db").exists()
    assert result.stdout.startswith("sqlite:///")


@pytest.mark.parametrize("arguments", [("check",), ("check", "--config", "kmsledger.yaml")])
def test_the_check_of_a_missing_file_fails(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config check` checks a file, so a missing one is a problem, which `kmsledger init` fixes."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(config, arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "kmsledger.yaml: the file does not exist: create it (`kmsledger init`), or correct the path",
        "1 problem",
    ]


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --config the file must exist, even if its name is the default."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(db, ["upgrade", "--config", "kmsledger.yaml"])
    assert isinstance(result.exception, SettingsError)
    assert not list(tmp_path.iterdir())
