"""The files of deploy/ pass the linters of the programs that read them, and do what their comments say."""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import containerfile
from tests.cloudformation_lint import cloudformation_lint

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
UNITS = ("kmsledger.service", "kmsledger-failure.service", "kmsledger.timer")
OLDEST_KUBERNETES = "1.27"
"""The first version in which `timeZone` of a CronJob is stable."""
CRON_FIELDS = re.compile(
    r"(?P<minute>[0-5]?\d) (?P<hour>1?\d|2[0-3]) \* \* \* (?P<user>[a-z]+) (?P<command>.+)",
)


def run(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a linter; `make tools` installs those that are packages of Debian."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin", **(env or {})}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def manifests() -> dict[str, dict[str, Any]]:
    """The Kubernetes objects by their kind."""
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "cronjob.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def pod() -> dict[str, Any]:
    """The pod of the CronJob."""
    spec: dict[str, Any] = manifests()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def image() -> dict[str, str]:
    """The instructions of the image's last stage."""
    return {each.name: each.text for each in containerfile.read(DEPLOY / "Containerfile")}


def test_the_containerfile_passes_hadolint() -> None:
    """Hadolint and its shellcheck report nothing, not even about style."""
    done = run("hadolint", "--failure-threshold", "style", DEPLOY / "Containerfile")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_notices_a_mistake(tmp_path: Path) -> None:
    """The check can fail: a base without a version is reported."""
    path = tmp_path / "Containerfile"
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    path.write_text(re.sub(r"FROM \$\{BASE\}", "FROM docker.io/library/python", text), encoding="utf-8")
    assert "DL3006" in run("hadolint", path).stdout


@pytest.mark.deep  # loads the schemas of all regions
def test_the_scheduled_task_passes_cfn_lint() -> None:
    """cfn-lint reports nothing about the template."""
    text = (DEPLOY / "ecs" / "scheduled-task.yaml").read_text(encoding="utf-8")
    found = cloudformation_lint(text, "I")
    assert [str(each) for each in found] == []


def test_the_readme_sets_parameters_of_the_template() -> None:
    """The command in the README sets every parameter of the scheduled task that has no default, and no other."""
    text = (DEPLOY / "ecs" / "scheduled-task.yaml").read_text(encoding="utf-8")
    section = text[text.index("\nParameters:\n") : text.index("\nConditions:\n")]
    parameters = dict(re.findall(r"^  (\w+):\n((?:    .*\n)+)", section, re.MULTILINE))
    assert len(parameters) > 8
    required = {name for name, body in parameters.items() if "Default:" not in body}
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    command = next(line for line in readme.splitlines() if "ecs/scheduled-task.yaml" in line and "deploy" in line)
    assert set(re.findall(r"(\w+)=\.\.\.", command)) == required


def test_the_secrets_of_the_task_are_those_of_the_settings() -> None:
    """ECS injects the variables that the settings in deploy/ name, and the password of PostgreSQL."""
    text = (DEPLOY / "ecs" / "scheduled-task.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"\$\{(\w+)", (DEPLOY / "kmsledger.yaml").read_text(encoding="utf-8")))
    assert set(re.findall(r"\$\{SecretArn\}:(\w+)::", text)) == named | {"PGPASSWORD"}


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, "latest"])
def test_the_manifests_are_valid(version: str) -> None:
    """Each object has only the fields of the Kubernetes API, in the oldest supported version and the newest known."""
    # Its import takes seconds of each test process.
    from kubernetes_validate import latest_version, validate

    objects = manifests()
    assert set(objects) == {"ServiceAccount", "PersistentVolumeClaim", "NetworkPolicy", "CronJob"}
    for document in objects.values():
        validate(document, latest_version() if version == "latest" else version, strict=True)


def test_the_pod_meets_the_restricted_security_standard() -> None:
    """The pod is as the Pod Security Standard "restricted" requires, has a read-only root, and no token of Kubernetes."""
    spec = pod()
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]} == {
        "configMap",
        "persistentVolumeClaim",
        "emptyDir",
    }


def test_all_schedulers_use_the_image_alike() -> None:
    """User, volume, command and settings file of the image are those that Kubernetes and ECS set."""
    stage, spec = image(), pod()
    user, group = map(int, stage["USER"].split(":"))
    security = spec["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (user, group, group)
    (container,) = spec["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[stage["VOLUME"]] == "state"
    assert container["args"] == [*yaml.safe_load(stage["ENTRYPOINT"]), *yaml.safe_load(stage["CMD"])]
    assert Path(container["args"][-1]).parent.as_posix() in mounts
    template = (DEPLOY / "ecs" / "scheduled-task.yaml").read_text(encoding="utf-8")
    assert f'User: "{user}:{group}"' in template
    assert f'PosixUser: {{Uid: "{user}", Gid: "{group}"}}' in template
    assert f"ContainerPath: {stage['VOLUME']}}}" in template
    assert "ReadonlyRootFilesystem: true" in template


def shell(program: str) -> list[str]:
    """The CronJob's command around a program."""
    (container,) = pod()["containers"]
    return [*container["command"], "/bin/sh", "-c", program]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 0), (2, 2), (3, 0), (4, 4), (137, 137)])
def test_the_job_succeeds_with_findings_and_gaps(code: int, expected: int) -> None:
    """Findings and partial coverage are a success of the Kubernetes job, all other exit codes remain."""
    assert run(*shell(f"exit {code}")).returncode == expected


@pytest.mark.parametrize(("code", "expected"), [(3, 0), (4, 4)])
def test_the_job_passes_the_signal_on_and_waits(tmp_path: Path, code: int, expected: int) -> None:
    """A pod that is stopped sends SIGTERM to the run, and ends when the run has saved its state."""
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    program = f"trap 'sleep 0.2; touch {saved}; exit {code}' TERM; touch {ready}; while :; do sleep 0.05; done"
    process = subprocess.Popen(shell(program), start_new_session=True)
    try:
        while not ready.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == expected
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert saved.exists()


def installed_units(directory: Path) -> list[Path]:
    """Copies of the units whose command exists."""
    command = directory / "kmsledger"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8").replace("/opt/kmsledger/bin/kmsledger", str(command))
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in UNITS]


def test_the_units_pass_systemd_analyze(tmp_path: Path) -> None:
    """`systemd-analyze verify` reports nothing, units that the units name included."""
    units = installed_units(tmp_path)
    done = run("systemd-analyze", "verify", "--man=no", *units, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_analyze_notices_a_mistake(tmp_path: Path) -> None:
    """The check can fail: an unknown setting is reported."""
    units = installed_units(tmp_path)
    units[0].write_text(units[0].read_text(encoding="utf-8").replace("NoNewPrivileges=", "NoNewPrivilege="))
    done = run("systemd-analyze", "verify", "--man=no", *units, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    assert "NoNewPrivilege" in done.stderr


def test_the_service_is_confined(tmp_path: Path) -> None:
    """Systemd rates the exposure of the service below 2 of 10."""
    service = installed_units(tmp_path)[0]
    done = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", service)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_STATUS": "4"},
            "kmsledger failed on HOST: exit-code, exit code 4; see journalctl -u kmsledger.service",
        ),
        ({}, "kmsledger failed on HOST: failed, exit code unknown; see journalctl -u kmsledger.service"),
    ],
)
def test_a_failure_is_one_line_and_one_mail(tmp_path: Path, variables: dict[str, str], expected: str) -> None:
    """The failure unit writes one line with a priority, and mails the same line if there is a mail server."""
    service = (DEPLOY / "kmsledger.service").read_text(encoding="utf-8")
    assert "OnFailure=kmsledger-failure.service\n" in service
    unit = (DEPLOY / "kmsledger-failure.service").read_text(encoding="utf-8").replace("\\\n", "")
    start = re.search(r"^ExecStart=/bin/sh -c '(.*)'$", unit, re.MULTILINE)
    assert start
    script = start[1].replace("\\n", "\n").replace("%H", "HOST").replace("%%", "%").replace("$$", "$")
    mailer, mail = tmp_path / "sendmail", tmp_path / "mail"
    environment = {"PATH": os.environ["PATH"], **variables}
    without = subprocess.run(
        ["/bin/sh", "-c", script.replace("/usr/sbin/sendmail", str(mailer))],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert without.stdout == f"<2>{expected}\n"
    mailer.write_text(f"#!/bin/sh\ncat >{mail}\n")
    mailer.chmod(0o755)
    subprocess.run(["/bin/sh", "-c", script.replace("/usr/sbin/sendmail", str(mailer))], env=environment, check=True)
    assert mail.read_text() == f"To: root\nSubject: {expected}\n\n{expected}\n"


def test_logrotate_rotates_the_log(tmp_path: Path) -> None:
    """Logrotate accepts the file; it renames the log and creates a new one that only the service can read."""
    log, rules = tmp_path / "kmsledger.log", tmp_path / "rules"
    text = (DEPLOY / "kmsledger.logrotate").read_text(encoding="utf-8")
    assert "/var/lib/kmsledger/kmsledger.log" in (DEPLOY / "kmsledger.cron").read_text(encoding="utf-8")
    text = text.replace("/var/lib/kmsledger/kmsledger.log", str(log))
    user, group = getpass.getuser(), grp.getgrgid(os.getegid()).gr_name
    rules.write_text(text.replace("kmsledger kmsledger", f"{user} {group}"), encoding="utf-8")
    rules.chmod(0o644)
    log.write_text("first\n")
    for _ in range(2):
        done = run("logrotate", "--force", "--state", tmp_path / "state", rules)
        assert (done.returncode, done.stderr) == (0, "")
        with log.open("a") as file:
            file.write("next\n")
    assert log.read_text() == "next\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.glob("kmsledger.log.*")} == {"kmsledger.log.1", "kmsledger.log.2.gz"}


def test_the_crontab_is_valid() -> None:
    """The entry has a daily time, a user and a command without unescaped percent signs that the shell can parse."""
    lines = (DEPLOY / "kmsledger.cron").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not re.match(r"#|[A-Z]+=", line)]
    (entry,) = (CRON_FIELDS.fullmatch(line) for line in entries)
    assert entry
    assert entry["user"] == "kmsledger"
    assert not re.search(r"(?<!\\)%", entry["command"])
    assert run("/bin/sh", "-n", "-c", entry["command"]).returncode == 0
