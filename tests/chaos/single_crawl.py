"""Crawl once, or resume an interrupted run, in a process that a test can kill."""

from __future__ import annotations

import sys
from pathlib import Path

from crawler import crawl
from crawler.aws import client
from crawler.progress import Progress
from crawler.writer import NothingToResumeError
from models.settings import load


def main(settings_file: str, *, resume: bool) -> None:
    """Crawl like the command."""
    # Shorter retry delays; their length is not tested here.
    client.BASE_DELAY, client.MAXIMUM_DELAY = 0.02, 0.3
    settings = load(Path(settings_file))
    try:
        result = crawl.crawl(settings, "test", Progress(live=False), resume=resume)
    except NothingToResumeError:
        result = crawl.crawl(settings, "test", Progress(live=False))
    print(result.run_id, result.calls)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(sys.argv[1], resume=len(sys.argv) > 2)
