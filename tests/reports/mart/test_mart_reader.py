"""Opening the mart is cheap: commands that only read it do not load the libraries of the crawler and the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = {"sqlalchemy", "alembic", "mako", "jinja2", "pydantic", "boto3", "botocore", "pycurl"}


@pytest.mark.parametrize(
    "arguments",
    [["sql", "SELECT 1"], ["findings"], ["cookbook", "keys-by-type"], ["rules", "run", "key-rotation"]],
    ids=lambda arguments: arguments[0],
)
def test_commands_that_read_the_mart_start_fast(arguments: list[str], sample_mart: Path) -> None:
    """With --mart, a query loads neither SQLAlchemy nor the settings' pydantic models."""
    program = (
        "import sys, json, kmsledger\n"
        f"sys.argv = ['kmsledger', *{[*arguments, '--mart', str(sample_mart)]!r}]\n"
        "try:\n"
        "    kmsledger.main()\n"
        "finally:\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stderr.splitlines()[-1])} & HEAVY
    # The rules come from the settings.
    assert loaded <= ({"pydantic"} if arguments[0] == "rules" else set())
