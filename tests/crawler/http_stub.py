"""A scripted organization of two accounts over HTTP, for whole crawls."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from crawler.aws.errors import AwsError
from crawler.aws.transport_boto3 import Credentials
from demo import request_parser
from tests.crawler.scripted_aws import Answer, RecordedCall, Result, aws_error

MANAGEMENT, MEMBER = "123456789012", "111122223333"
IRELAND, VIRGINIA = "eu-west-1", "us-east-1"
ACCOUNTS = (MANAGEMENT, MEMBER)
REGIONS = (IRELAND, VIRGINIA)
SCOPES = {(account, region) for account in ACCOUNTS for region in REGIONS}
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"


def account_of(call: RecordedCall) -> str:
    """Return the account whose credentials signed a call."""
    return call.credentials.access_key.removeprefix("ASIA") if call.credentials.access_key[:4] == "ASIA" else MANAGEMENT


def key_of(account: str, region: str) -> str:
    """Return the ARN of a scope's only key."""
    return f"arn:aws:kms:{region}:{account}:key/{KEY_ID}"


def _keys(call: RecordedCall) -> Result:
    return {"Keys": [{"KeyId": KEY_ID, "KeyArn": key_of(account_of(call), call.region)}], "Truncated": False}


def _described(call: RecordedCall) -> Result:
    return {
        "KeyMetadata": {
            "KeyId": KEY_ID,
            "Arn": call["KeyId"],
            "KeyManager": "CUSTOMER",
            "KeyState": "Enabled",
            "Enabled": True,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "CreationDate": 1767225600.0,
            "KeySpec": "SYMMETRIC_DEFAULT",
            "Origin": "AWS_KMS",
        }
    }


def _secrets(call: RecordedCall) -> Result:
    arn = f"arn:aws:secretsmanager:{call.region}:{account_of(call)}:secret:orders"
    secret = {"ARN": arn, "Name": "orders", "KmsKeyId": KEY_ID, "PrimaryRegion": call.region}
    return {"SecretList": [secret]}


def answers() -> dict[str, Answer]:
    """Return the responses of the organization: a key and a secret encrypted with it in each of four scopes."""
    prefix = f"arn:aws:organizations::{MANAGEMENT}:account/o-example"
    accounts = [
        {"Id": account, "Arn": f"{prefix}/{account}", "Name": f"account {account}", "State": "ACTIVE"}
        for account in ACCOUNTS
    ]
    regions = [{"RegionName": region, "RegionOptStatus": "ENABLED_BY_DEFAULT"} for region in REGIONS]
    return {
        "kms:GetKeyLastUsage": {"KeyLastUsage": {}, "TrackingStartDate": 1767225600.0, "KeyCreationDate": 1767225600.0},
        "sts:GetCallerIdentity": {"Arn": f"arn:aws:iam::{MANAGEMENT}:user/crawler", "Account": MANAGEMENT},
        "sts:AssumeRole": {},
        "organizations:DescribeOrganization": {"Organization": {"Id": "o-example", "MasterAccountId": MANAGEMENT}},
        "organizations:ListAccounts": {"Accounts": accounts},
        "organizations:ListRoots": {"Roots": [{"Id": "r-abcd", "Name": "Root"}]},
        "organizations:ListOrganizationalUnitsForParent": {"OrganizationalUnits": []},
        "organizations:ListAccountsForParent": {"Accounts": accounts},
        "account:ListRegions": {"Regions": regions},
        "kms:ListAliases": {"Aliases": []},
        "kms:ListKeys": _keys,
        "kms:DescribeKey": _described,
        "kms:GetKeyPolicy": {"Policy": "{}"},
        "kms:ListGrants": {"Grants": []},
        "kms:ListResourceTags": {"Tags": []},
        "kms:GetKeyRotationStatus": {"KeyRotationEnabled": True},
        "kms:ListKeyRotations": {"Rotations": []},
        "kms:DescribeCustomKeyStores": {"CustomKeyStores": []},
        "secretsmanager:ListSecrets": _secrets,
        "secretsmanager:GetResourcePolicy": {},
        "secretsmanager:DescribeSecret": {"ReplicationStatus": [{"Region": "eu-central-1", "Status": "InSync"}]},
    }


@dataclass
class StubServer:
    """The responses of the server and the calls it received. A response may block: each request has a thread."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=answers)
    calls: list[RecordedCall] = field(default_factory=list)

    def listed_scopes(self) -> set[tuple[str, str]]:
        """Return account and region of every ListKeys call."""
        return {(account_of(call), call.region) for call in self.calls if call.name == "kms:ListKeys"}

    def stall(self, account: str, region: str, operation: str = "kms:ListKeys") -> threading.Event:
        """Block an operation of one scope until the returned event is set."""
        usual, released = self.answers[operation], threading.Event()

        def blocked(call: RecordedCall) -> Result:
            if (account_of(call), call.region) == (account, region):
                released.wait(60)
            return usual(call) if callable(usual) else usual

        self.answers[operation] = blocked
        return released

    def answer(self, request: request_parser.Request) -> request_parser.Response:
        """The answer to one request."""
        form = dict(parse_qsl(request.body.decode()))
        params = form if "Action" in form else json.loads(request.body or b"{}")
        credentials = Credentials(request.access_key, "", None)
        call = RecordedCall(f"{request.service}:{request.operation}", request.region, params, credentials)
        self.calls.append(call)
        answer = self.answers.get(call.name, aws_error("UnknownOperationException"))
        result = answer(call) if callable(answer) else answer
        if isinstance(result, AwsError):
            return request_parser.error(request, result.code, result.message, 400)
        if isinstance(result, BaseException):
            raise result
        if request.service == "sts":
            return request_parser.Response(
                200, [("Content-Type", "text/xml")], _sts(request.operation, dict(result), form).encode()
            )
        body = json.dumps(result).encode()
        return request_parser.Response(200, [("Content-Type", "application/x-amz-json-1.1")], body)


def _sts(operation: str, values: dict[str, Any], form: dict[str, str]) -> str:
    if operation == "AssumeRole":
        account = form["RoleArn"].split(":")[4]
        fields = {"AccessKeyId": f"ASIA{account}", "SecretAccessKey": "x", "SessionToken": "x"}
        values = {"Credentials": {**fields, "Expiration": "2099-01-01T00:00:00Z"}}
    return f"<{operation}Response><{operation}Result>{_xml(values)}</{operation}Result></{operation}Response>"


def _xml(values: dict[str, Any]) -> str:
    parts = ((name, _xml(value) if isinstance(value, dict) else value) for name, value in values.items())
    return "".join(f"<{name}>{value}</{name}>" for name, value in parts)


class Server(ThreadingHTTPServer):
    """Accepts many concurrent connections."""

    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serving() -> Iterator[StubServer]:
    """Run the server until the block ends."""
    stub = StubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            """Handle a call; all stubbed APIs use POST."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path, _, query = self.path.partition("?")
            answer = stub.answer(request_parser.parse("POST", path, query, headers, body))
            try:
                self.send_response(answer.status)
                for name, value in [*answer.headers, ("Content-Length", str(len(answer.body)))]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                self.close_connection = True  # the client disconnected

        def log_message(self, *_: object) -> None:
            """Do not log."""

    with Server(("127.0.0.1", 0), Handler) as server:
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
