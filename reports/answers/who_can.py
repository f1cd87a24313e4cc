"""Answers who can perform an operation on a key, secret, database, cache or bucket."""

from __future__ import annotations

from pathlib import Path

from models.aws_types import SECRET, aws_type
from reports.answers.key_access import key_answer
from reports.answers.operation_groups import OperationGroup, parse_operations
from reports.answers.repository import Facts, opened
from reports.answers.secret_access import secret_answer
from reports.answers.target_lookup import Target, find
from reports.answers.text import UNEVALUATED_POLICIES
from reports.answers.who_can_result import Answer, KeyAnswer

_SERVICE_NOTES = {
    "s3": (
        "S3 encrypts and decrypts with the key on behalf of the principals that read and write objects; s3:GetObject, the "
        "bucket policy and its ACLs are not evaluated, so these are the users of the key, not the readers of the bucket. "
        "Objects can be encrypted with keys other than the bucket's default key."
    ),
    "rds": (
        "RDS uses the key through a grant that was created with the database: a client that can connect to the database reads "
        "data without any permission on the key. Removing other principals' permissions on the key does not block access to "
        "the database; disabling the key does."
    ),
    "elasticache": (
        "ElastiCache uses the key through a grant: a client that can connect to the cache reads data without any permission "
        "on the key."
    ),
    "secretsmanager": (
        "Reading means the current version through GetSecretValue; its key is assumed to be the key that the secret names now."
    ),
}


def who_can(path: Path, operation: str, target: str, *, as_of: str | None = None) -> Answer:
    """The principals that can perform an operation on a target.

    Raises MartError, or QueryError (exit code 2) for an unknown operation or target.
    """
    group = parse_operations(operation)
    with opened(path, as_of) as facts:
        return answer_target(facts, group, find(facts, target))


def answer_target(facts: Facts, group: OperationGroup, target: Target) -> Answer:
    """The principals that can perform a group of operations on a target that was found."""
    keys: list[KeyAnswer] = []
    notes: list[str] = []
    target_type = target.resource["resource_type"] if target.resource else "key"
    question = f"Who can {group.phrase} key {target.arn}?"
    if target.resource is None:
        answer, notes = _key_answer(facts, group, target.arn)
        keys.append(answer)
    else:
        reading = target_type == SECRET and "kms:Decrypt" in group.operations
        name = f"{target.resource['name']} ({target.arn})"
        question = f"Who can read secret {name}?" if reading else f"Who can {group.phrase} the keys of {name}?"
        for usage in target.usage:
            if reading and usage["role"] == "secret":
                key = facts.key(usage["key_arn"]) if usage["key_arn"] else None
                answer, key_notes = secret_answer(facts, usage, key)
            elif usage["key_arn"] is not None:
                answer, key_notes = _key_answer(facts, group, usage["key_arn"], usage["reason"])
                answer.role = usage["role"]
            else:
                answer, key_notes = _answer_without_key(usage), []
            keys.append(answer)
            notes += key_notes
        if not target.usage:
            keys.append(KeyAnswer(unknown=["its key, because the ledger has no record of its encryption"]))
        if target_type != SECRET or reading:
            notes += filter(None, [_SERVICE_NOTES.get(aws_type(target_type).service)])
    notes.append(UNEVALUATED_POLICIES)
    unique_notes = list(dict.fromkeys(notes))
    return Answer(facts.run, question, target.arn, target_type, group.operations, keys, unique_notes)


def _key_answer(
    facts: Facts, group: OperationGroup, key_arn: str, reason: str | None = None
) -> tuple[KeyAnswer, list[str]]:
    key = facts.key(key_arn)
    if key is not None:
        return key_answer(facts, key, group)
    why = reason or "it is not in the ledger"
    return KeyAnswer(key_arn, unknown=[f"principals of key {key_arn}: {why}"]), []


def _answer_without_key(usage: dict[str, object]) -> KeyAnswer:
    role = str(usage["role"])
    why = str(usage["reason"] or "")
    if usage["key_class"] == "none":
        phrase = "it is not encrypted with a key, so no key protects its data"
    elif usage["key_class"] == "aws_owned":
        phrase = "it is encrypted with an AWS owned key, which no customer policy controls"
    else:
        phrase = f"its key{': ' if why else ''}{why}"
    return KeyAnswer(role=role, unknown=[phrase])
