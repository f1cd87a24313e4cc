"""The files of deploy/: settings that are valid and work for a service that can write in one directory only."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from crawler.cli import permissions
from models import settings

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
STATE = "/var/lib/kmsledger"
SECRETS = {"KMSLEDGER_EXTERNAL_ID": "id-of-the-organization", "KMSLEDGER_MAIL_PASSWORD": "secret"}
TEMPLATES = {"all": "organization", "member": "member-role", "management": "crawler", "reader": "reader-role"}
"""Names of templates and modules by role."""


@pytest.mark.parametrize("with_mail", [False, True])
def test_the_settings_of_a_service_are_valid(tmp_path: Path, with_mail: bool) -> None:
    """All files of the service are below its state directory; the mail section is valid when it is uncommented."""
    text = (DEPLOY / "kmsledger.yaml").read_text(encoding="utf-8")
    if with_mail:
        start = text.index("# mail:")
        text = text[:start] + re.sub(r"^# ", "", text[start:], flags=re.MULTILINE)
    path = tmp_path / "kmsledger.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = settings.load(path, SECRETS)
    assert loaded.database == f"sqlite:///{STATE}/kmsledger.db"
    assert loaded.report.mart.parent == loaded.report.directory.parent == Path(STATE)
    assert (loaded.mail is not None) == with_mail


def test_the_readme_names_every_secret_of_the_settings() -> None:
    """Each variable in the settings is in the README's file of secrets, in a form that systemd and a shell read alike."""
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "kmsledger.yaml").read_text(encoding="utf-8")))
    lines = re.findall(r"^    (\w+)=(.+)$", (DEPLOY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert used == {name for name, _ in lines} == set(SECRETS)
    assert all(shlex.split(value) == [value.strip("'")] for _, value in lines)


def test_both_schedulers_run_the_same_command() -> None:
    """The timer and cron start the unattended run with the same settings, and accept the same exit codes as a success."""
    command = "/opt/kmsledger/bin/kmsledger nightly --config /etc/kmsledger/kmsledger.yaml"
    service = (DEPLOY / "kmsledger.service").read_text(encoding="utf-8")
    cron = (DEPLOY / "kmsledger.cron").read_text(encoding="utf-8")
    assert f"ExecStart={command}\n" in service
    assert f" {command} " in cron
    assert "SuccessExitStatus=1 3\n" in service
    assert " 0|1|3) ;;" in cron


@pytest.mark.parametrize("role", TEMPLATES)
@pytest.mark.parametrize(
    ("output_format", "path"),
    [("cloudformation", "cloudformation/{}.yaml"), ("terraform", "terraform/{}/main.tf")],
)
def test_templates_are_those_that_the_command_prints(
    output_format: str, path: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Templates and modules follow from the declared operations; `make templates` writes them after a change."""
    monkeypatch.chdir(tmp_path)  # where no settings file is
    result = CliRunner().invoke(permissions, ["--format", output_format, "--role", role], catch_exceptions=False)
    assert (DEPLOY / path.format(TEMPLATES[role])).read_text(encoding="utf-8") == result.stdout


def test_every_template_is_checked() -> None:
    """No template or module is left from an earlier version."""
    files = {
        file.relative_to(DEPLOY).as_posix()
        for folder in ("cloudformation", "terraform")
        for file in (DEPLOY / folder).rglob("*.*")
    }
    names = TEMPLATES.values()
    assert files == {f"cloudformation/{name}.yaml" for name in names} | {f"terraform/{name}/main.tf" for name in names}
