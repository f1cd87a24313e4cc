"""The image: its instructions run without a container, and its command crawls with a root file system that it cannot change."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from tests import containerfile

ROOT = Path(__file__).resolve().parent.parent
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
SETTINGS = "/etc/kmsledger"
STATE = "/var/lib/kmsledger"
BASE_COMMANDS = ("python", "python3")


def as_user(user: str, python: str) -> dict[str, Any]:
    """The options of a process of the image's user, as far as the tests may change the user and it can run this Python."""
    if os.geteuid() != 0:
        return {}
    number, _, group = user.partition(":")
    options: dict[str, Any] = {"user": int(number), "group": int(group), "extra_groups": []}
    try:
        subprocess.run([python, "-c", "import ensurepip, venv"], check=True, capture_output=True, cwd="/", **options)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return options


def base_python(user: str) -> str:
    """A Python that the image's user can run; the Python of the tests if there is none."""
    own = f"{sys.base_prefix}/bin/python3"
    return next((path for path in (own, "/usr/bin/python3") if as_user(user, path)), own)


def files(root: Path, besides: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files, except those below one directory."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if not path.is_relative_to(besides) and not path.is_dir()
    }


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike that of pytest; files are created as in an image."""
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix="kmsledger-image-") as name:
            Path(name).chmod(0o755)
            yield Path(name)
    finally:
        os.umask(umask)


def context(directory: Path, wheel: Path) -> Path:
    """A build context as `make dist` leaves it: the lock and the wheel."""
    path = directory / "context"
    (path / "dist").mkdir(parents=True)
    shutil.copy(ROOT / "requirements-runtime.lock", path)
    shutil.copy(wheel, path / "dist")
    return path


def build(directory: Path, wheel: Path) -> tuple[containerfile.Image, dict[str, Any]]:
    """Run the instructions; returns the image, and the options of its processes."""
    instructions = containerfile.read(CONTAINERFILE)
    (user,) = (each.text for each in instructions if each.name == "USER")
    python = base_python(user)
    commands = directory / "base"
    commands.mkdir()
    for name in BASE_COMMANDS:
        (commands / name).write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (commands / name).chmod(0o755)
    mapped = containerfile.directories(instructions) | {SETTINGS}
    image = containerfile.Image(directory / "image", context(directory, wheel), commands, mapped)
    image.build(instructions)
    return image, as_user(user, python)


@pytest.mark.deep  # installs all packages
def test_the_image_is_built_and_runs_with_a_read_only_root(directory: Path, built_wheel: Path) -> None:
    """All steps succeed; its command then crawls and reports as its user, changes only the volume, and is healthy."""
    image, options = build(directory, built_wheel)
    state = Path(image.inside(STATE))
    assert image.volumes == {STATE}
    assert image.user.split(":")[0] != "0"
    settings = yaml.safe_load(image.inside((ROOT / "deploy" / "kmsledger.yaml").read_text(encoding="utf-8")))
    world = preset("tiny", accounts=2, regions=("us-east-1",), opt_in=(), adversarial=False, keys_per_account_region=2)
    with FakeAws(world) as fake:
        settings |= {
            "aws": {"endpoint_url": fake.url},
            "role": {"external_id": fake.world.parameters.external_id},
            "crawl": {"processes": 1, "quota_share_percent": 100},
            "database": f"sqlite:///{state}/kmsledger.db",
        }
        path = Path(image.inside(SETTINGS))
        path.mkdir(parents=True)
        (path / "kmsledger.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        environment = {**image.environment(), **fake.environment(), "TMPDIR": str(state)}
        before = files(image.root, state)

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            program = shutil.which(command[0], path=environment["PATH"])
            assert program
            assert program.startswith(str(image.root))
            return subprocess.run(
                [program, *map(image.inside, command[1:])],
                cwd=image.inside(image.workdir),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                **options,
            )

        done = run(*image.commands["ENTRYPOINT"], *image.commands["CMD"])
        assert done.returncode in {0, 1, 3}, done.stderr
        assert "run 1 " in done.stdout
        health = run(*image.commands["HEALTHCHECK"])
        assert health.returncode in {0, 3}, health.stdout
    assert files(image.root, state) == before
    assert {"kmsledger.db", "kmsledger.duckdb", "reports"} <= {entry.name for entry in state.iterdir()}
    assert not (image.root / "opt/kmsledger/bin/pip").exists()


def test_the_build_context_has_only_what_is_copied() -> None:
    """.dockerignore excludes everything that no instruction copies, such as settings and ledgers of the checkout."""
    copied = {
        source
        for each in containerfile.read(CONTAINERFILE)
        if each.name == "COPY" and "from" not in each.options
        for source in each.words()[:-1]
    }
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines[1:]} == copied


def test_the_packages_of_the_image_are_those_of_the_lock() -> None:
    """The lock of a service has the versions and hashes of the lock that is tested, and none of the development tools."""

    def pins(name: str) -> dict[str, tuple[str, list[str]]]:
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")
        found = re.findall(r"^([\w.-]+)==(\S+)(.*)$", text, re.MULTILINE)
        return {package: (version, sorted(re.findall(r"--hash=(\S+)", rest))) for package, version, rest in found}

    everything, service = pins("requirements.lock"), pins("requirements-runtime.lock")
    assert service.items() <= everything.items()
    assert {"psycopg", "distributed", "apprise", "opentelemetry-sdk", "boto3"} <= service.keys()
    assert not {"pytest", "moto", "mypy", "hatchling"} & service.keys()
    assert all(hashes and all(each.startswith("sha256:") for each in hashes) for _, hashes in service.values())
