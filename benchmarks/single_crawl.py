"""``python -m benchmarks.single_crawl settings.yaml``: runs one crawl, as a process to be measured."""

from __future__ import annotations

import sys
from pathlib import Path

from crawler import crawl
from crawler.progress import Progress
from models.settings import load


def main() -> int:
    """Crawl and return the exit code of the command."""
    return crawl.crawl(load(Path(sys.argv[1])), "benchmark", Progress(live=False)).exit_code


if __name__ == "__main__":
    sys.exit(main())
