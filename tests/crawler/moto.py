"""Runs moto in a separate process, with a small organization."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from demo.server import ROOT_ACCESS_KEY

START_TIMEOUT_S = 60.0
UNITS = {"Production": "Root", "Web": "Production", "Sandbox": "Root"}
ACCOUNTS = {
    "web-shop": ("Web", "prod"),
    "lab-1": ("Sandbox", "test"),
    "lab-0": ("Sandbox", "test"),
    "other": ("Root", "x"),
}


@contextmanager
def served_organization() -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    """Yield the endpoint, account ids by name and OU ids by name; the environment holds the management account's keys."""
    keys = {"AWS_ACCESS_KEY_ID": ROOT_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "secret"}
    previous = {name: os.environ.get(name) for name in keys}
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "demo.server", "--port", "0", "--port-file", str(port_file)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            os.environ.update(keys)
            try:
                url = f"http://127.0.0.1:{_port(server, port_file)}"
                yield (url, *_create_organization(url))
            finally:
                for name, value in previous.items():
                    os.environ.pop(name)
                    if value is not None:
                        os.environ[name] = value
                server.terminate()


def _port(server: subprocess.Popen[bytes], port_file: Path) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        if port_file.exists() and (text := port_file.read_text().strip()):
            return int(text)
        time.sleep(0.05)
    raise RuntimeError("the demo server did not start")


def _create_organization(url: str) -> tuple[dict[str, str], dict[str, str]]:
    client = boto3.client("organizations", region_name="us-east-1", endpoint_url=url)
    client.create_organization(FeatureSet="ALL")
    units = {"Root": client.list_roots()["Roots"][0]["Id"]}
    for name, parent in UNITS.items():
        response = client.create_organizational_unit(ParentId=units[parent], Name=name)
        units[name] = response["OrganizationalUnit"]["Id"]
    accounts = {}
    for name, (unit, stage) in ACCOUNTS.items():
        tags = [{"Key": "stage", "Value": stage}]
        response = client.create_account(AccountName=name, Email=f"{name}@example.com", Tags=tags)
        accounts[name] = response["CreateAccountStatus"]["AccountId"]
        if unit != "Root":
            client.move_account(AccountId=accounts[name], SourceParentId=units["Root"], DestinationParentId=units[unit])
    client.close_account(AccountId=accounts["lab-0"])
    return accounts, units
