"""The tables of the generated history: SQL expressions that compute each row from its number."""

from __future__ import annotations

from dataclasses import dataclass

from models.tables import versioned_tables

KEYS_PER_POLICY = 50
"""Number of keys with the same policy."""

TRUST_HASH = b"trust-of-service"
"""The hash of the trust policy of every role."""
REGION = "CASE {i} / 250 % 4 WHEN 0 THEN 'eu-west-1' WHEN 1 THEN 'us-east-1' WHEN 2 THEN 'eu-central-1' ELSE 'ap-south-1' END"
ACCOUNT = "(111000000000 + {i} / 1000 * 7919)"
_KEY_ID = "printf('%08x-0000-4000-8000-%012x', {i}, {i} * 40503 % 281474976710656)"
KEY = f"printf('arn:aws:kms:%s:%d:key/%08x-0000-4000-8000-%012x', {REGION}, {ACCOUNT}, {{i}}, {{i}} * 40503 % 281474976710656)"
_KINDS = (
    "CASE {i} % 4 WHEN 0 THEN 'AWS::SecretsManager::Secret' WHEN 1 THEN 'AWS::RDS::DBInstance' "
    "WHEN 2 THEN 'AWS::S3::Bucket' ELSE 'AWS::EC2::Volume' END"
)
_RESOURCE = (
    "CASE {i} % 4 WHEN 2 THEN printf('arn:aws:s3:::data-%08d', {i}) ELSE printf('arn:aws:%s:%s:%d:%s-%08d', "
    "CASE {i} % 4 WHEN 0 THEN 'secretsmanager' WHEN 1 THEN 'rds' ELSE 'ec2' END, "
    f"{REGION}, {ACCOUNT}, "
    "CASE {i} % 4 WHEN 0 THEN 'secret:service/data' WHEN 1 THEN 'db:data' ELSE 'volume/vol' END, {i}) END"
)
_LISTED = f"CASE {{i}} % 4 WHEN 2 THEN 'global' ELSE {REGION} END"
_TIME = "strftime('%Y-%m-%d %H:%M:%S', '2022-01-01', {shift}) || '.000000'"
_FLAWED = "({i} + {v}) % {f} = {f} / 2"
_RUN_DAY = "(1421 + {run})"
"""The day of the run in which a version begins, counted from 2022-01-01."""
_RECENT = f"'+' || ({_RUN_DAY} - CASE WHEN {_FLAWED} THEN 800 ELSE {{i}} % 200 END) || ' days'"
"""At most 200 days before that run, or more than two years with a flaw."""
_OPERATIONS = (
    f'CASE WHEN {{c}} = 2 AND NOT {_FLAWED} THEN \'["Decrypt","DescribeKey","GenerateDataKey","RetireGrant"]\' '
    'ELSE \'["CreateGrant","Decrypt","DescribeKey","GenerateDataKeyWithoutPlaintext"]\' END'
)
_GRANTEE = (
    "CASE {c} WHEN 0 THEN printf('arn:aws:sts::%d:assumed-role/aws:ec2-infrastructure/i-%017x', {account}, {i}) "
    "WHEN 1 THEN printf('arn:aws:iam::%d:role/aws-service-role/autoscaling.amazonaws.com/"
    "AWSServiceRoleForAutoScaling', {account}) "
    "ELSE printf('arn:aws:iam::%d:role/service-%d', {account}, CASE WHEN {flawed} THEN 99 ELSE {i} % 40 END) END"
)
_CONSTRAINTS = (
    'CASE {c} WHEN 0 THEN printf(\'{{"EncryptionContextSubset":{{"aws:ebs:id":"vol-%017x"}}}}\', {i}) '
    'WHEN 2 THEN printf(\'{{"EncryptionContextEquals":{{"tenant":"%d"}}}}\', {i}) END'
)


_SECRET = '{{{{"last_accessed":"DAY","last_rotated":"DAY","rotation_enabled":"%s"}}}}'
_DETAILS = (
    f"CASE {{{{i}}}} % 4 WHEN 0 THEN replace(printf('{_SECRET}', CASE WHEN {{flawed}} THEN 'false' ELSE 'true' END), 'DAY', "
    # Read and rotated until the secret changes again, a hundred runs later.
    "date('2022-01-01', '+' || CASE WHEN {flawed} THEN 900 ELSE {day} + 100 END || ' days')) "
    'ELSE printf(\'{{{{"Engine":"postgres","Revision":%d}}}}\', {{v}}) END'
).format(flawed=_FLAWED, day=_RUN_DAY)
_ROLE = "CASE {i} % 4 WHEN 2 THEN 'default-encryption' ELSE 'storage' END"


@dataclass(frozen=True, slots=True)
class HistoryTable:
    """``columns`` and ``where`` are expressions over numbers.

    They are ``{i}`` (key or resource), ``{c}`` (row of the key), ``{v}`` (version), ``{run}`` (run in which the version
    begins), and ``{f}`` (one key, and the resource that uses it, in so many violates rules).
    """

    name: str
    columns: dict[str, str]
    salt: int | None
    """Spreads the changes over the runs; ``None`` for rows that never change."""
    rows: int = 1
    """Rows per key."""
    block: int = 1
    """Rows that change together."""
    where: str = "true"
    """The rows that exist, of a table without changes."""

    @property
    def natural_key(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return versioned_tables()[self.name].natural_key


TABLES = (
    HistoryTable(
        "account",
        {
            "account_id": ACCOUNT,
            "name": "'account-' || ({i} / 1000)",
            "state": "'ACTIVE'",
            "is_management": "{i} = 0",
            "selection": "'crawled'",
            "ou_ids": "'r-abcd/ou-abcd-' || ({i} / 1000 % 20)",
        },
        None,
        where="{i} % 1000 = 0",
    ),
    HistoryTable("iam_scan", {"account_id": ACCOUNT}, None, where="{i} % 1000 = 0"),
    HistoryTable(
        "iam_principal",
        {
            "arn": f"printf('arn:aws:iam::%d:role/service-%d', {ACCOUNT}, {{i}} % 1000 / 25)",
            "account_id": ACCOUNT,
            "type": "'role'",
            "name": "'service-' || ({i} % 1000 / 25)",
            "policy_hash": f"x'{TRUST_HASH.hex()}'",
        },
        None,
        where="{i} % 25 = 0",
    ),
    HistoryTable("resource_policy", {"resource_arn": _RESOURCE, "policy_hash": "NULL"}, None, where="{i} % 4 = 0"),
    HistoryTable(
        "tag",
        {"resource_arn": _RESOURCE, "tag_key": "'owner'", "tag_value": "'team-' || ({i} % 311)"},
        None,
        where=f"{{i}} % 4 = 0 AND NOT {_FLAWED}",
    ),
    HistoryTable("key", {"key_arn": KEY, "key_id": _KEY_ID, "account_id": ACCOUNT, "region": REGION}, None),
    HistoryTable(
        "key_metadata",
        {
            "key_arn": KEY,
            "manager": "'CUSTOMER'",
            "state": "CASE WHEN ({i} + {v}) % (10 * {f}) = {f} / 2 THEN 'Disabled' ELSE 'Enabled' END",
            "enabled": "({i} + {v}) % (10 * {f}) <> {f} / 2",
            "description": "printf('Data of service %d, revision %d', {i} % 977, {v})",
            "key_usage": "'ENCRYPT_DECRYPT'",
            "key_spec": "'SYMMETRIC_DEFAULT'",
            "origin": "'AWS_KMS'",
            "created_at": _TIME.format(shift="'-' || ({i}) || ' minutes'"),
            "multi_region": "0",
            "algorithms": '\'{{"encryption":["SYMMETRIC_DEFAULT"]}}\'',
        },
        31,
    ),
    HistoryTable(
        "key_policy",
        {"key_arn": KEY, "policy_hash": "CAST(printf('%08x%08x', {i} / 50, {v}) AS BLOB)"},
        37,
        block=KEYS_PER_POLICY,
    ),
    HistoryTable(
        "key_rotation",
        {
            "key_arn": KEY,
            "status": f"CASE WHEN {_FLAWED} THEN 'disabled' ELSE 'enabled' END",
            "period_days": "365 - {v}",
            "next_rotation_at": _TIME.format(shift="'+' || (1500 + {v}) || ' days'"),
        },
        41,
    ),
    HistoryTable(
        "key_rotation_event",
        {
            "key_arn": KEY,
            "rotated_at": _TIME.format(shift=_RECENT),
            "rotation_type": "'AUTOMATIC'",
        },
        None,
    ),
    HistoryTable(
        "key_last_use",
        {
            "key_arn": KEY,
            "operation": "'Decrypt'",
            "used_at": _TIME.format(shift="'+' || (1000 + {v}) || ' days'"),
            "tracking_started_at": "'2022-06-01 00:00:00.000000'",
            "key_created_at": _TIME.format(shift="'-' || ({i}) || ' minutes'"),
        },
        43,
    ),
    HistoryTable(
        "alias",
        {
            "alias_arn": f"printf('arn:aws:kms:%s:%d:alias/data-%08d', {REGION}, {ACCOUNT}, {{i}})",
            "alias_name": "printf('alias/data-%08d', {i})",
            "account_id": ACCOUNT,
            "region": REGION,
            "target_key_id": _KEY_ID,
            "target_key_arn": KEY,
            "created_at": "'2023-01-01 00:00:00.000000'",
            "updated_at": _TIME.format(shift="'+' || (1000 + {v}) || ' days'"),
        },
        47,
    ),
    HistoryTable(
        "tag",
        {
            "resource_arn": KEY,
            "tag_key": "'owner'",
            "tag_value": "printf('team-%d-%d', {i} % 311, {v})",
        },
        53,
    ),
    HistoryTable(
        "key_grant",
        {
            "key_arn": KEY,
            "grant_id": "printf('%032x%016x%016x', {i}, {c}, {v})",
            "grantee_principal": _GRANTEE.format(c="{c}", account=ACCOUNT, i="{i}", flawed=_FLAWED),
            "retiring_principal": "CASE {c} WHEN 0 THEN 'ec2.eu-west-1.amazonaws.com' END",
            "issuing_account": f"printf('arn:aws:iam::%d:root', {ACCOUNT})",
            "operations": _OPERATIONS,
            "constraints": _CONSTRAINTS,
            "created_at": _TIME.format(shift=_RECENT),
        },
        61,
        rows=3,
    ),
    HistoryTable(
        "resource",
        {
            "resource_arn": _RESOURCE,
            "resource_type": _KINDS,
            "account_id": ACCOUNT,
            "region": REGION,
            "listing_region": _LISTED,
            "name": "printf('data-%08d', {i})",
            "status": "CASE {v} % 2 WHEN 0 THEN 'available' ELSE 'modifying' END",
            "encryption": "'aws:kms'",
            "created_at": _TIME.format(shift="'-' || ({i}) || ' minutes'"),
            "details": _DETAILS,
        },
        67,
    ),
    HistoryTable(
        "key_reference",
        {
            "resource_arn": _RESOURCE,
            "role": _ROLE,
            "position": "0",
            "format": "'key_arn'",
            "raw_value": KEY.replace("{i}", "({i} + {v} % 2)"),
            "target_arn": KEY.replace("{i}", "({i} + {v} % 2)"),
        },
        71,
    ),
    HistoryTable(
        "resource_key",
        {
            "resource_arn": _RESOURCE,
            "role": _ROLE,
            "position": "0",
            "key_arn": KEY.replace("{i}", "({i} + {v} % 2)"),
            "key_class": "'customer'",
        },
        71,
    ),
)
