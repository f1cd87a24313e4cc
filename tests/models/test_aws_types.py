"""The registry of resource types agrees with the crawler's declarations, and types without an entry have usable defaults."""

from __future__ import annotations

import pytest

from crawler.services.resource_types import RESOURCE_TYPES
from crawler.spec import Operation, ResourceType
from models.aws_types import AWS_TYPES, AwsType, asff_type, aws_type, service_label

DECLARED: dict[str, ResourceType] = {
    name: declaration
    for declaration in RESOURCE_TYPES
    for name in (declaration.name, *declaration.type_by_engine.values())
}


@pytest.mark.parametrize("name", AWS_TYPES)
def test_an_entry_states_what_the_crawler_calls(name: str) -> None:
    """Listing, calls for one resource, scope, role and default key of an entry are those of the declaration."""
    entry, declaration = AWS_TYPES[name], DECLARED[name]
    assert (entry.listing, entry.operation) == (declaration.listing.iam_action, declaration.listing.name)
    detail = (declaration.detail.iam_action, declaration.detail.name) if declaration.detail else ("", "")
    assert (entry.detail, entry.detail_operation) == detail
    assert entry.tags == _action(declaration.tags_operation)
    assert entry.policy == _action(declaration.policy_operation)
    assert entry.replicas == _action(declaration.replicas_operation)
    assert entry.is_global == (not declaration.regional)
    main = declaration.keys[0]
    assert entry.key_role == main.role
    aliases = {default for default in main.when_missing.values() if str(default).startswith("alias/")}
    assert aliases == {entry.default_key_alias} - {None}


def _action(operation: Operation | None) -> str:
    return operation.iam_action if operation else ""


def test_an_entry_states_only_what_its_name_does_not() -> None:
    """An entry that equals the defaults of its name is superfluous."""
    assert [name for name, entry in AWS_TYPES.items() if entry == AwsType(name)] == []


def test_a_type_without_an_entry_has_defaults() -> None:
    """Service, ARN and listing follow from the CloudFormation name; copies are not found by their name."""
    table = aws_type("AWS::DynamoDB::Table")
    assert (table.service, table.arn) == ("dynamodb", "table/{name}")
    assert (table.listing, table.operation) == ("dynamodb:ListTables", "ListTables")
    assert (table.key_role, table.default_key_alias, table.item_actions) == ("storage", None, ())
    assert table.found_by_name
    assert not aws_type("AWS::Redshift::ClusterSnapshot").found_by_name
    assert aws_type("AWS::DynamoDB::Table") is table


def test_a_name_that_is_not_of_cloudformation_is_rejected() -> None:
    """A name of another form raises ValueError with an example of a name."""
    with pytest.raises(ValueError, match="'rds instance' is not the name of a resource type, such as AWS::"):
        aws_type("rds instance")


def test_services_have_their_names_in_prose() -> None:
    """Registered services have their brand name, short ones are acronyms, others keep the name from their ARNs."""
    names = ("secretsmanager", "sns", "dynamodb")
    assert [service_label(name) for name in names] == ["Secrets Manager", "SNS", "dynamodb"]


def test_findings_export_types_of_the_format() -> None:
    """Types that the AWS Security Finding Format knows are named, all others are Other."""
    names = ("AWS::S3::Bucket", "AWS::KMS::Key", "account", "AWS::SNS::Topic", "")
    assert [asff_type(name) for name in names] == ["AwsS3Bucket", "AwsKmsKey", "AwsAccount", "Other", "Other"]
