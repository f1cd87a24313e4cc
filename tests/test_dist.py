"""What `make dist` writes for a release: the wheel, and the bill of materials of what a service installs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = re.sub(r"\\\n", "", (ROOT / "requirements-runtime.lock").read_text(encoding="utf-8"))


def recipe() -> list[str]:
    """The arguments of the command in the Makefile that writes the bill of materials."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    command = re.search(r"-m (cyclonedx_py .*?) --output-file", makefile)
    assert command
    return shlex.split(command[1])


def write(path: Path) -> None:
    """Run the command of the Makefile with another output file."""
    command = [sys.executable, "-W", "ignore", "-m", *recipe(), "--output-file", str(path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dist") / "sbom.json"
    write(path)
    return path


@pytest.mark.deep  # the tool validates what it writes against the schema
def test_the_sbom_lists_the_packages_of_the_lock(written: Path) -> None:
    """The bill of materials is valid CycloneDX with name, version and hashes of every locked package, and describes kmsledger."""
    document = json.loads(written.read_bytes())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    main = document["metadata"]["component"]
    assert (document["bomFormat"], main["name"], main["version"]) == ("CycloneDX", project["name"], project["version"])
    locked = {
        (name, version): set(re.findall(r"--hash=sha256:(\w+)", rest))
        for name, version, rest in re.findall(r"^([\w.-]+)==(\S+)(.*)$", LOCK, re.MULTILINE)
    }
    listed = {
        (component["name"], component["version"]): {
            each["content"] for reference in component["externalReferences"] for each in reference.get("hashes", ())
        }
        for component in document["components"]
    }
    assert listed == locked
    assert all(component["purl"].startswith("pkg:pypi/") for component in document["components"])


@pytest.mark.deep  # as above
def test_equal_locks_give_equal_files(written: Path, tmp_path: Path) -> None:
    """A release can be checked: the same lock gives the same bytes, without a time or a random number."""
    write(tmp_path / "second.json")
    assert (tmp_path / "second.json").read_bytes() == written.read_bytes()
