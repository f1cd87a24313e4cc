"""Limits of users' rules: no rule outlives its time, exceeds its memory, or blocks a run."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import UserError
from models.settings import Settings
from reports.mart.build import DraftMart, mart_builder
from reports.mart.connection import connect
from reports.mart.errors import OverLimitError
from reports.rules.loader import Rule, RuleError, parse_rule
from reports.rules.own_rules import OwnRules
from reports.rules.runner import evaluate_rules
from tests.reports.ledger_builder import LedgerBuilder
from tests.reports.mart.test_sql_limits import COMMAND, ENDLESS, LARGE, LONG, MEMORY, Done, has_ended, run
from tests.reports.sample_ledger import IRELAND, SHOP

TEXT = """\
-- id: own-rule
-- title: Keys have a description
-- severity: low
-- why: So.
-- fix: So.
SELECT key_arn AS resource_arn, account_id, region, key_arn, verdict_of(description = 'x', ({value})::VARCHAR) AS verdict
FROM keys
"""
LARGE_TEXT = LARGE["text"]


def rule(value: str, name: str = "own-rule") -> Rule:
    return parse_rule(f"{name}.sql", TEXT.replace("own-rule", name).format(value=value))


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DraftMart]:
    """A mart of two keys, not yet published."""
    folder = tmp_path_factory.mktemp("draft")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.key(SHOP, IRELAND, "k1", description="x")
    world.key(SHOP, IRELAND, "k2", description="y")
    world.crawl()
    with mart_builder(world.url, folder / "mart.duckdb", Settings()) as mart:
        yield mart


def results(draft: DraftMart) -> list[tuple[object, ...]]:
    query = "SELECT rule_id, status, reason, resources FROM memory.main.result ORDER BY ALL"
    return draft.duck.execute(query).fetchall()


def test_rules_in_a_process_of_their_own_give_the_same_results(draft: DraftMart) -> None:
    """Problems and counts are those of rules in this process, also of rules about waivers; no file is left."""
    text = TEXT.replace("own-rule", "own-waivers").format(value="(SELECT count(*) FROM waivers)")
    rules = [rule("'So.'"), parse_rule("own-waivers.sql", text)]
    evaluate_rules(draft.duck, draft.as_of, rules)
    expected = results(draft)
    files = set(draft.path.parent.iterdir())
    assert len(expected) == 4
    evaluate_rules(draft.duck, draft.as_of, rules, OwnRules(draft.released, 60, 500_000_000).run)
    assert results(draft) == expected
    assert set(draft.path.parent.iterdir()) == files


@pytest.mark.parametrize(
    ("value", "memory", "cause"),
    [
        (ENDLESS, 500_000_000, "was stopped after 2 seconds"),
        (LARGE_TEXT, 50_000_000, "needs more memory than its limit"),
    ],
)
def test_a_bomb_is_named_with_what_happens_to_other_rules(
    value: str, memory: int, cause: str, draft: DraftMart
) -> None:
    """The error names the rule's file, the setting and the fate of the other rules; exit code 4, and no file is left."""
    files = set(draft.path.parent.iterdir())
    rules = [rule("'So.'", "a-rule"), rule(value)]
    with pytest.raises(OverLimitError) as caught:
        evaluate_rules(draft.duck, draft.as_of, rules, OwnRules(draft.released, 2, memory).run)
    message = str(caught.value)
    assert message.startswith(f"own-rule.sql: rule own-rule {cause}: ")
    assert ("rules.timeout" if value == ENDLESS else "rules.memory_limit") in message
    assert "other rules are discarded, and the old mart is untouched" in message
    assert caught.value.exit_code == 4
    assert set(draft.path.parent.iterdir()) == files
    assert draft.duck.execute("SELECT count(*) FROM keys").fetchone() == (2,)


def test_an_invalid_rule_is_the_same_error_as_before(draft: DraftMart) -> None:
    """An error of a rule in the other process names its file; exit code 2."""
    with pytest.raises(RuleError, match=r"^own-rule\.sql: rule own-rule failed: ") as caught:
        evaluate_rules(draft.duck, draft.as_of, [rule("SELECT nothing")], OwnRules(draft.released, 60, 500_000_000).run)
    assert caught.value.exit_code == 2


def test_an_interruption_ends_the_rules(draft: DraftMart) -> None:
    """Ctrl-C ends the other process at once."""
    timer = threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        evaluate_rules(draft.duck, draft.as_of, [rule(ENDLESS)], OwnRules(draft.released, 300, 500_000_000).run)
    assert time.monotonic() - began < 60
    assert draft.duck.execute("SELECT count(*) FROM keys").fetchone() == (2,)


def test_a_signal_of_another_process_is_no_limit(draft: DraftMart) -> None:
    """A rule that another process ends does not count as one that needs too much memory."""

    def terminate() -> None:
        (process,) = multiprocessing.active_children()
        process.terminate()

    timer = threading.Timer(2, terminate)
    timer.start()
    with pytest.raises(
        UserError, match=r"^own-rule\.sql: another process ended rule own-rule with SIGTERM: "
    ) as caught:
        evaluate_rules(draft.duck, draft.as_of, [rule(ENDLESS)], OwnRules(draft.released, 300, 500_000_000).run)
    assert not isinstance(caught.value, OverLimitError)
    assert draft.duck.execute("SELECT count(*) FROM keys").fetchone() == (2,)


@pytest.fixture
def config(sample_settings: Settings, tmp_path: Path) -> Path:
    """Settings with a directory of rules, and a copy of the sample's ledger and mart."""
    ledger, mart = sample_settings.database.removeprefix("sqlite:///"), sample_settings.report.mart
    return installed(tmp_path, Path(ledger), mart)


def installed(folder: Path, original_ledger: Path, original_mart: Path) -> Path:
    """The settings of copies of a ledger and a mart, with a directory of rules."""
    ledger, mart = folder / "ledger.db", folder / "mart.duckdb"
    shutil.copy(original_ledger, ledger)
    shutil.copy(original_mart, mart)
    (folder / "rules").mkdir()
    config = folder / "kmsledger.yaml"
    rules = {"directories": [str(folder / "rules")], "timeout": 1, "memory_limit": f"{MEMORY}MB"}
    config.write_text(
        json.dumps({"database": f"sqlite:///{ledger}", "report": {"mart": str(mart)}, "rules": rules}), encoding="utf-8"
    )
    return config


def run_with(config: Path, value: str, *arguments: str) -> Done:
    (config.parent / "rules" / "own-rule.sql").write_text(TEXT.format(value=value), encoding="utf-8")
    return run(*arguments, "--config", str(config), errors=config.with_name("errors"))


FAST = ("a function that does not return", "text")
LIMITED = [name for name in (*LONG, *LARGE) if "SELECT *" not in (LONG | LARGE)[name]]


@pytest.fixture(scope="module")
def trivial_rule(sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A rule on demand that ends."""
    ledger = sample_settings.database.removeprefix("sqlite:///")
    config = installed(tmp_path_factory.mktemp("trivial-rule"), Path(ledger), sample_settings.report.mart)
    done = run_with(config, "'So.'", "rules", "run", "own-rule", "--format", "csv")
    assert done.code == 0, done
    return done


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.deep) for name in LIMITED]
)
def test_a_rule_on_demand_ends_at_its_limits(name: str, config: Path, trivial_rule: Done) -> None:
    """`rules run` ends within two seconds of its time limit and ten percent of its memory: one sentence, exit code 4."""
    limits = ("--timeout", "1" if name in LONG else "120", "--memory-limit", f"{MEMORY}MB", "--format", "csv")
    done = run_with(config, (LONG | LARGE)[name], "rules", "run", "own-rule", *limits)
    assert done.code == 4, done
    assert done.errors.count("\n") == 1
    assert "rule own-rule" in done.errors
    assert ("stopped after 1 seconds" if name in LONG else "more memory than its limit") in done.errors
    assert done.peak <= trivial_rule.peak + MEMORY * 1.1
    if name in LONG:
        assert done.seconds <= 1 + 2 + 5 * trivial_rule.seconds  # start-up takes longer on a busy machine


@pytest.mark.deep
def test_the_examples_of_a_rule_end_at_their_limit(config: Path) -> None:
    """`rules test` ends at its time limit, too: one sentence, exit code 4."""
    example = "- name: x\n  expect: {k1: pass}\n  keys:\n    - {id: k1}\n"
    (config.parent / "rules" / "own-rule.examples.yaml").write_text(example, encoding="utf-8")
    done = run_with(config, ENDLESS, "rules", "test", "own-rule", "--timeout", "5")
    assert done.code == 4, done
    assert done.errors.count("\n") == 1
    assert "the test was stopped after 5 seconds" in done.errors


@pytest.fixture(scope="module")
def trivial_run(sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A rebuild of the mart with a rule that ends, and this mart."""
    folder = tmp_path_factory.mktemp("trivial")
    ledger = sample_settings.database.removeprefix("sqlite:///")
    config = installed(folder, Path(ledger), sample_settings.report.mart)
    done = run_with(config, "'So.'", "mart")
    assert done.code == 0, done
    with connect(folder / "mart.duckdb") as mart:
        results = mart.execute("SELECT count(*) > 0 FROM rule_results WHERE rule_id = 'own-rule'").fetchone()
    assert results == (True,)
    return done, folder / "mart.duckdb"


SORT = LARGE["sort"].replace("9000000", "1000000").replace("8999999", "999999")
"""A sort of 1 GB, which spills to the disk until its bookkeeping exceeds a limit of 100 MB."""


@pytest.mark.deep
@pytest.mark.parametrize(
    ("name", "value", "memory"),
    [*((name, (LONG | LARGE)[name], MEMORY) for name in FAST), ("sort", SORT, 100)],
    ids=[*FAST, "sort"],
)
def test_a_bomb_does_not_block_a_run(
    name: str, value: str, memory: int, config: Path, trivial_run: tuple[Done, Path]
) -> None:
    """The rebuild of the mart ends with one sentence that names the rule's file, exit code 4, and the old mart."""
    trivial, built = trivial_run
    mart = config.with_name("mart.duckdb")
    shutil.copy(built, mart)
    before = mart.read_bytes()
    text = config.read_text(encoding="utf-8").replace(f"{MEMORY}MB", f"{memory}MB")
    config.write_text(
        text.replace('"timeout": 1', '"timeout": 120' if name in LARGE else '"timeout": 1'), encoding="utf-8"
    )
    done = run_with(config, value, "mart")
    assert done.code == 4, done
    *logged, sentence = done.errors.splitlines()
    assert all(" INFO " in line for line in logged)
    assert sentence.startswith(f"kmsledger: {config.parent}/rules/own-rule.sql: rule own-rule ")
    assert ("stopped after 1 seconds" if name in LONG else "more memory than its limit") in sentence
    assert done.peak <= trivial.peak + memory * 1.1
    if name in LONG:
        assert done.seconds <= 3 * trivial.seconds + 3
    assert mart.read_bytes() == before
    assert not [path for path in mart.parent.iterdir() if ".new" in path.name]


@pytest.mark.deep
def test_a_killed_run_leaves_no_orphan(config: Path) -> None:
    """Kill -9 of the command ends the process of the rules, too, before its time limit."""
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"timeout": 1', '"timeout": 600'), encoding="utf-8")
    (config.parent / "rules" / "own-rule.sql").write_text(TEXT.format(value=ENDLESS), encoding="utf-8")
    with subprocess.Popen([COMMAND, "mart", "--config", str(config)], stderr=subprocess.DEVNULL) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (spawned := [child for child in children.read_text().split() if b"spawn_main" in command_of(child)]):
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(2)
        process.kill()
    assert has_ended(int(spawned[0]))


def command_of(process_id: str) -> bytes:
    return Path(f"/proc/{process_id}/cmdline").read_bytes()
