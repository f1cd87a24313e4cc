"""The log of the workers of a Dask cluster, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CRAWL = """
import asyncio
from crawler.scheduler import create_scheduler
from crawler.spec import Scope
from crawler.worker import ScopeTask, Worker, WorkerConfig
from models.logging_setup import set_up
from models.settings import AwsSettings, RegionSettings, RoleSettings
from models.settings.crawl import CrawlSettings

async def crawl(scheduler):
    await scheduler.crawl(ScopeTask(Scope("111122223333", "eu-west-1"), 60.0))

if __name__ == "__main__":
    set_up("debug", "FORMAT", 7)
    aws = AwsSettings(endpoint_url="http://127.0.0.1:9", connect_timeout=2)
    crawl_settings = CrawlSettings(max_attempts=2, executor="dask://local")
    worker = Worker(WorkerConfig(aws, RoleSettings(), crawl_settings, RegionSettings()))
    with create_scheduler(worker, 1, {}, log_level="debug") as scheduler:
        asyncio.run(crawl(scheduler))
    worker.client.close()
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_lines_of_a_dask_worker_have_the_format_of_the_crawl(log_format: str, tmp_path: Path) -> None:
    """What our code logs in a worker process has the configured level and format, and the run."""
    program = tmp_path / "crawl.py"
    program.write_text(CRAWL.replace("FORMAT", log_format), encoding="utf-8")
    credentials = {"AWS_ACCESS_KEY_ID": "AKIAOWN", "AWS_SECRET_ACCESS_KEY": "own-secret"}
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, **credentials, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = [line for line in done.stderr.splitlines() if "retrying" in line]
    assert lines, done.stderr
    for line in lines:
        if log_format == "json":
            record = json.loads(line)
            assert (record["logger"], record["level"], record["run_id"]) == ("crawler.aws.client", "debug", 7)
        else:
            assert " DEBUG run 7: " in line
