"""Eight changes between two crawls that the report must show."""

from __future__ import annotations

import json
from typing import Any

from demo import policies
from demo.organization import World
from demo.server import AwsServer

WAITING_DAYS = 7


def change(server: AwsServer, world: World) -> list[str]:
    """Make eight changes through the API; returns a message for each.

    Raises botocore's ClientError if a call fails, for example when the changes were made before.
    """
    own_changes = (_schedule_deletion, _open_policy, _move_alias, _rekey_secret, _remove_tag)
    vendor_changes = (_stop_sharing, _disable_vault, _end_trial)
    return [make_change(server, world) for make_change in (*own_changes, *vendor_changes)]


def _schedule_deletion(server: AwsServer, world: World) -> str:
    kms = _client(server, world.retiring_key)
    kms.schedule_key_deletion(KeyId=world.retiring_key, PendingWindowInDays=WAITING_DAYS)
    return f"Key {world.retiring_key}, which a bucket still uses, was scheduled for deletion in {WAITING_DAYS} days."


def _open_policy(server: AwsServer, world: World) -> str:
    kms, key = _client(server, world.opened_key), world.opened_key
    policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    stranger = policies.root(policies.STRANGER_ACCOUNT)
    policy["Statement"].append(policies.allow("Partner integration", stranger, policies.USE))
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))
    return f"The policy of key {key} was opened to external account {policies.STRANGER_ACCOUNT}."


def _move_alias(server: AwsServer, world: World) -> str:
    name = world.moved_alias.split(":", 5)[5]
    _client(server, world.moved_to).update_alias(AliasName=name, TargetKeyId=world.moved_to)
    return f"Alias {world.moved_alias} was moved from key {world.moved_from} to key {world.moved_to}."


def _rekey_secret(server: AwsServer, world: World) -> str:
    secrets = _client(server, world.rekeyed_secret)
    name = secrets.describe_secret(SecretId=world.rekeyed_secret)["Name"]  # moto updates by name only
    secrets.update_secret(SecretId=name, KmsKeyId="alias/aws/secretsmanager")
    return f"Secret {world.rekeyed_secret} was re-encrypted with the AWS managed key aws/secretsmanager."


def _remove_tag(server: AwsServer, world: World) -> str:
    name, value = world.tier_tag
    _client(server, world.tier_key).untag_resource(KeyId=world.tier_key, TagKeys=[name])
    return f"The tag {name}={value} was removed from key {world.tier_key}."


def _stop_sharing(server: AwsServer, world: World) -> str:
    kms, key = _client(server, world.unshared_key), world.unshared_key
    policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    vendor = policies.root(policies.CHECKMARX_ACCOUNT)
    kept = [statement for statement in policy["Statement"] if vendor not in statement["Principal"]["AWS"]]
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps({**policy, "Statement": kept}))
    return f"Key {key} is no longer shared with vendor account {policies.CHECKMARX_ACCOUNT}."


def _disable_vault(server: AwsServer, world: World) -> str:
    _client(server, world.disabled_vault_key).disable_key(KeyId=world.disabled_vault_key)
    return f"Key {world.disabled_vault_key}, which protects a vault of a vendor, was disabled."


def _end_trial(server: AwsServer, world: World) -> str:
    server.end_waiting_period(world.trial_key)
    return f"Key {world.trial_key} reached the end of its waiting period and was deleted."


def _client(server: AwsServer, arn: str) -> Any:
    """A client for the service, region and account of an ARN."""
    _, _, service, region, account, _ = arn.split(":", 5)
    return server.session(account, region).client(service)
