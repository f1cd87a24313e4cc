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
    "an unknown resource type": (
        "crawl: {resource_types: ['AWS::S3::Bukket']}",
        "crawl.resource_types: unknown resource type AWS::S3::Bukket: did you mean AWS::S3::Bucket?",
    ),
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


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """`config check` reports every wrong reference once, and how many there are; `crawl` reports the same."""
    (tmp_path / "kmsledger.yaml").write_text(
        "rules:\n  disable: [no-rule-1, no-rule-2]\n  parameters: {key-rotation: {days: '1', weeks: '1'}}\n"
        "report: {frameworks: [cis, nist]}\ncrawl: {resource_types: [x, y]}\n"
        "vendors: {profiles: {nobody: {}, cerby: {parameters: {rolle: x}}}}\n",
        encoding="utf-8",
    )
    checked = run("config", "check", env=os.environ, cwd=tmp_path)
    assert checked.returncode == 2
    *problems, count = checked.stderr.splitlines()
    mentioned = ["type x", "type y", "no-rule-1", "no-rule-2", "days", "weeks", "nobody", "rolle", "'cis'", "'nist'"]
    assert len(problems) == len(mentioned)
    assert all(name in problem for name, problem in zip(mentioned, problems, strict=True)), checked.stderr
    assert count == "10 problems"
    crawled = run("crawl", env=os.environ, cwd=tmp_path)
    assert crawled.returncode == 2
    assert crawled.stderr == "kmsledger: " + "\n".join(problems) + "\n"
