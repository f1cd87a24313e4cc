"""The AWS endpoint of the demo: it records calls, injects errors, and returns the errors of AWS."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from demo import request_parser
from demo.organization import World
from demo.server import EMPTY_LISTINGS, AwsServer

pytestmark = pytest.mark.deep  # moto

START_TIMEOUT_S = 30.0

# boto3 service, method, arguments → signing name, operation
CALLS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("kms", "list_keys", {}, "kms", "ListKeys"),
    ("secretsmanager", "list_secrets", {}, "secretsmanager", "ListSecrets"),
    ("organizations", "describe_organization", {}, "organizations", "DescribeOrganization"),
    ("sts", "get_caller_identity", {}, "sts", "GetCallerIdentity"),
    ("iam", "list_roles", {}, "iam", "ListRoles"),
    ("rds", "describe_db_instances", {}, "rds", "DescribeDBInstances"),
    ("elasticache", "describe_replication_groups", {}, "elasticache", "DescribeReplicationGroups"),
    ("ec2", "describe_volumes", {}, "ec2", "DescribeVolumes"),
    ("sqs", "list_queues", {}, "sqs", "ListQueues"),
    ("cloudtrail", "describe_trails", {}, "cloudtrail", "DescribeTrails"),
    ("cloudwatch", "list_metrics", {}, "monitoring", "ListMetrics"),
    ("s3", "list_buckets", {}, "s3", "ListBuckets"),
    ("s3", "list_buckets", {"MaxBuckets": 1000}, "s3", "ListBuckets"),
    ("s3", "get_bucket_encryption", {"Bucket": "northwind-finance"}, "s3", "GetBucketEncryption"),
    ("s3", "get_bucket_location", {"Bucket": "northwind-finance"}, "s3", "GetBucketLocation"),
    ("s3", "get_bucket_lifecycle_configuration", {"Bucket": "nobody"}, "s3", "GetBucketLifecycleConfiguration"),
    ("s3", "head_bucket", {"Bucket": "northwind-finance"}, "s3", "HeadBucket"),
    ("s3", "list_objects_v2", {"Bucket": "northwind-finance"}, "s3", "ListObjectsV2"),
    ("s3", "get_object", {"Bucket": "northwind-finance", "Key": "a/b c"}, "s3", "GetObject"),
    ("lambda", "list_functions", {}, "lambda", "ListFunctions"),
    ("eks", "describe_cluster", {"name": "none"}, "eks", "DescribeCluster"),
    ("efs", "describe_file_systems", {}, "elasticfilesystem", "DescribeFileSystems"),
    ("opensearch", "list_domain_names", {}, "es", "ListDomainNames"),
    ("sesv2", "list_email_identities", {}, "ses", "ListEmailIdentities"),
    ("account", "list_regions", {}, "account", "ListRegions"),
]


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_recorded_under_its_name(
    aws_server: AwsServer, demo_world: World, call: tuple[str, str, dict[str, Any], str, str]
) -> None:
    """JSON, CBOR, query and REST requests are recorded with service, operation, region and account."""
    service, method, arguments, signed, operation = call
    client = aws_server.session(region="eu-west-1").client(service)
    mark = aws_server.mark()
    with contextlib.suppress(ClientError):  # the response of moto does not matter
        getattr(client, method)(**arguments)
    recorded = aws_server.calls_since(mark)[-1]
    assert (recorded.service, recorded.operation, recorded.region) == (signed, operation, "eu-west-1")
    assert recorded.account == demo_world.management


def test_a_member_is_recorded_under_its_own_account(aws_server: AwsServer, demo_world: World) -> None:
    """A call is recorded under the account whose role signed it."""
    lab = demo_world.accounts["lab"]
    mark = aws_server.mark()
    identity = aws_server.session(lab).client("sts").get_caller_identity()
    call = aws_server.calls_since(mark)[-1]
    assert identity["Account"] == call.account == lab
    assert call.access_key.startswith("ASIA")
    assert call.outcome == "answered"


FAULTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("kms", "describe_key", {"KeyId": "abc"}, "DescribeKey"),
    ("sts", "get_caller_identity", {}, "GetCallerIdentity"),
    ("rds", "describe_db_instances", {}, "DescribeDBInstances"),
    ("ec2", "describe_volumes", {}, "DescribeVolumes"),
    ("s3", "get_bucket_encryption", {"Bucket": "northwind-finance"}, "GetBucketEncryption"),
    ("lambda", "list_functions", {}, "ListFunctions"),
    ("cloudwatch", "list_metrics", {}, "ListMetrics"),
    ("route53", "list_hosted_zones", {}, "ListHostedZones"),
]


@pytest.mark.parametrize(("service", "method", "arguments", "operation"), FAULTS)
def test_a_fault_uses_the_protocol_of_its_service(
    no_faults: AwsServer, service: str, method: str, arguments: dict[str, Any], operation: str
) -> None:
    """The client parses code, message and status of an injected error in every protocol."""
    message = "not <you> & not here"
    signed = {"cloudwatch": "monitoring"}.get(service, service)
    no_faults.fault(signed, operation, code="AccessDenied", message=message, status=403)
    with pytest.raises(ClientError) as refusal:
        getattr(no_faults.session().client(service), method)(**arguments)
    answer = refusal.value.response
    assert (answer["Error"]["Code"], answer["Error"]["Message"]) == ("AccessDenied", message)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert no_faults.calls[-1].outcome == "injected"


def test_a_fault_applies_only_to_matching_calls(no_faults: AwsServer, demo_world: World) -> None:
    """Region, account, matched text and number of times restrict a fault."""
    lab = demo_world.accounts["lab"]
    key = demo_world.hostile_key.rpartition("/")[2]
    no_faults.fault("kms", "DescribeKey", region="eu-west-1", account=lab, match=key, times=1)
    there = no_faults.session(lab, "eu-west-1").client("kms")
    there.describe_key(KeyId=demo_world.public_key)
    assert len(no_faults.session(lab, "us-east-1").client("kms").list_keys()["Keys"]) == 6 + 1
    with pytest.raises(ClientError, match="AccessDeniedException"):
        there.describe_key(KeyId=key)
    there.describe_key(KeyId=key)


def test_a_fault_matches_encoded_text(no_faults: AwsServer, demo_world: World) -> None:
    """An ARN matches even if it is percent-encoded in a form body."""
    role = demo_world.role_arn(demo_world.accounts["lab"])
    no_faults.fault("sts", "AssumeRole", match=role, code="AccessDenied", status=403)
    sts = no_faults.session().client("sts")
    sts.assume_role(RoleArn=demo_world.role_arn(demo_world.accounts["data"]), RoleSessionName="test")
    with pytest.raises(ClientError, match="AccessDenied"):
        sts.assume_role(RoleArn=role, RoleSessionName="test")


MISSING: list[tuple[str, str, dict[str, Any], str, int]] = [
    ("kms", "connect_custom_key_store", {"CustomKeyStoreId": "cks-1"}, "UnknownOperationException", 400),
    ("elasticache", "complete_migration", {"ReplicationGroupId": "a"}, "InvalidAction", 400),
    ("account", "list_regions", {}, "UnknownOperationException", 404),
    ("appflow", "list_flows", {}, "UnknownOperationException", 404),
]


@pytest.mark.parametrize("case", MISSING)
def test_an_operation_that_moto_lacks_returns_an_aws_error(
    aws_server: AwsServer, case: tuple[str, str, dict[str, Any], str, int]
) -> None:
    """A missing operation returns an AWS error immediately, without a web page, a retry or a hanging connection."""
    service, method, arguments, code, status = case
    with pytest.raises(ClientError) as refusal:
        getattr(aws_server.session().client(service), method)(**arguments)
    answer = refusal.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    assert aws_server.calls[-1].outcome == "missing"


@pytest.mark.parametrize(("listing", "member"), EMPTY_LISTINGS.items())
def test_a_listing_that_moto_lacks_is_empty(aws_server: AwsServer, listing: tuple[str, str], member: str) -> None:
    """Its response is the service's own form of an empty list."""
    service, operation = listing
    answer = getattr(aws_server.session().client(service), xform_name(operation))()
    assert answer[member] == []


def test_a_head_response_has_the_content_length(aws_server: AwsServer, demo_world: World) -> None:
    """A HEAD response has the length of the object, and GET returns the complete object."""
    s3 = aws_server.session(demo_world.accounts["lab"]).client("s3")
    content = b"0123456789" * 10_000
    s3.put_object(Bucket="northwind-lab-plain", Key="folder/name with blanks", Body=content)
    there = {"Bucket": "northwind-lab-plain", "Key": "folder/name with blanks"}
    assert s3.head_object(**there)["ContentLength"] == len(content)
    assert s3.get_object(**there)["Body"].read() == content
    s3.delete_object(**there)


def test_an_unsigned_request_is_not_recorded(aws_server: AwsServer) -> None:
    """The record contains only AWS calls."""
    mark = aws_server.mark()
    with urllib.request.urlopen(f"{aws_server.url}/moto-api/", timeout=10) as answer:  # noqa: S310 - our server
        assert answer.status == 200
    assert aws_server.calls_since(mark) == []


def test_an_operation_with_the_account_in_the_host_has_its_name() -> None:
    """S3 Control has the signing name of S3 and is identified by its path."""
    scope = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"authorization": scope, "x-amz-account-id": "123456789012"}
    request = request_parser.parse("GET", "/v20180820/configuration/publicAccessBlock", "", headers, b"")
    assert (request.service, request.operation) == ("s3", "GetPublicAccessBlock")


def test_an_unknown_rest_request_has_no_name() -> None:
    """A path that matches no model is recorded without an operation."""
    scope = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
    request = request_parser.parse("GET", "/no/such/thing", "", {"authorization": scope}, b"")
    assert (request.service, request.operation) == ("lambda", "")


def test_it_runs_alone(tmp_path: Path) -> None:
    """`python -m demo.server` writes its port once it is ready, and exits with 0 on SIGTERM."""
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "demo.server", "--port", "0", "--port-file", str(port_file)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not port_file.exists():
            assert process.poll() is None, "the server ended before it was ready"
            assert time.monotonic() < deadline, "no port file"
            time.sleep(0.05)
        url = f"http://127.0.0.1:{int(port_file.read_text(encoding='ascii'))}"
        kms = boto3.client(
            "kms", endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKIA", aws_secret_access_key="secret"
        )
        assert kms.list_keys()["Keys"] == []
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 0
    assert output.strip() == f"AWS (moto) listens on {url}"
