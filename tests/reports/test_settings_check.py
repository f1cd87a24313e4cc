"""Settings of rules, waivers, vendors and frameworks are checked before a crawl, and by `config check`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.command import run

MISTAKES = {
    "an unknown rule": ("rules: {parameters: {no-such-rule: {days: '1'}}}", "no-such-rule"),
    "an unknown parameter": ("rules: {parameters: {key-rotation: {days: '1'}}}", "days"),
    "a directory of rules that is not there": ("rules: {directories: [no-such-directory]}", "no-such-directory"),
    "an unknown framework": ("report: {frameworks: [cis]}", "no framework is named 'cis'"),
    "an unknown vendor": ("vendors: {profiles: {nobody: {keys: [alias/a]}}}", "nobody"),
    "a waiver of an unknown rule": ("rules: {waivers: [waivers.yaml]}", "no-rule"),
}
WAIVERS = "- {rule: no-rule, resource: '*', reason: none, owner: shop, expires: 2027-01-01}\n"


@pytest.mark.parametrize("command", [["config", "check"], ["nightly"], ["crawl"]], ids=" ".join)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_before_the_crawl(tmp_path: Path, command: list[str], mistake: str) -> None:
    """Exit code 2 and one sentence with the cause; no run starts, and no ledger is created."""
    settings, said = MISTAKES[mistake]
    (tmp_path / "waivers.yaml").write_text(WAIVERS, encoding="utf-8")
    (tmp_path / "kmsledger.yaml").write_text(settings + "\n", encoding="utf-8")
    done = run(*command, env=os.environ, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "kmsledger.db").exists()
