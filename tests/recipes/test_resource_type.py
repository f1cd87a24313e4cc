"""The recipe "A resource type": one declaration and one recorded response."""

from __future__ import annotations

import json

import pytest

from tests.recipes.scratch import Scratch

KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
DECLARATIONS = "crawler/services/resource_types.py"
TOPIC = """TOPIC = ResourceType(
    "AWS::SNS::Topic",
    Operation("sns", "ListTopics", items="Topics", paging=Paging("NextToken", "NextToken")),
    arn="TopicArn",
    detail=Operation("sns", "GetTopicAttributes", {"TopicArn": "@arn"}),
    keys=(KeyPath("Attributes.KmsMasterKeyId", "storage", {"": KeyClass.NONE}),),
)
"""
TABLE = """_TABLE_PAGING = Paging("LastEvaluatedTableName", "ExclusiveStartTableName", limit="Limit", size=100)
TABLE = ResourceType(
    "AWS::DynamoDB::Table",
    Operation("dynamodb", "ListTables", items="TableNames[].{Name: @}", paging=_TABLE_PAGING),
    arn="join('', ['arn:{partition}:dynamodb:{region}:{account}:table/', Name])",
    detail=Operation("dynamodb", "DescribeTable", {"TableName": "@title"}, items="Table"),
    keys=(KeyPath("SSEDescription.KMSMasterKeyArn", "storage", {"": KeyClass.AWS_OWNED}),),
)
"""
TYPES = {
    "topics": (
        "TOPIC",
        TOPIC,
        {
            "resource_type": "AWS::SNS::Topic",
            "responses": {
                "sns:ListTopics": {"Topics": [{"TopicArn": "arn:aws:sns:eu-west-1:111122223333:orders"}]},
                "sns:GetTopicAttributes": {"Attributes": {"KmsMasterKeyId": KEY.rpartition("/")[2]}},
            },
            "name": "orders",
        },
        {"sns:ListTopics", "sns:GetTopicAttributes"},
    ),
    "tables": (
        "TABLE",
        TABLE,
        {
            "resource_type": "AWS::DynamoDB::Table",
            "responses": {
                "dynamodb:ListTables": {"TableNames": ["orders"]},
                "dynamodb:DescribeTable": {"Table": {"SSEDescription": {"SSEType": "KMS", "KMSMasterKeyArn": KEY}}},
            },
            "name": "orders",
        },
        {"dynamodb:ListTables", "dynamodb:DescribeTable"},
    ),
}


@pytest.mark.deep
def test_one_declaration_is_enough(scratch: Scratch) -> None:
    """Types are checked against AWS's models, crawled over HTTP, shown with their keys, and permitted: no fake is written."""
    responses = {f"tests/end_to_end/responses/{name}.json": recorded for name, (_, _, recorded, _) in TYPES.items()}
    for constant, declaration, _, _ in TYPES.values():
        scratch.insert(DECLARATIONS, "RESOURCE_TYPES: tuple", f"{declaration}\n")
        scratch.insert(DECLARATIONS, "    SECRET,", f"    {constant},\n")
        assert len(declaration.splitlines()) < 12
    for name, recorded in responses.items():
        scratch.create(name, json.dumps(recorded))
    assert scratch.added.keys() == {DECLARATIONS, *responses}
    assert scratch.added[DECLARATIONS] <= 12 * len(TYPES)
    chosen = " or ".join(TYPES)
    scratch.pytest("tests/crawler/test_declarations.py", "tests/models/test_aws_types.py")
    scratch.pytest("tests/benchmarks/test_fake_answers.py", "-k", "declared_operation")
    assert f"{2 * len(TYPES)} passed" in scratch.pytest("tests/end_to_end/test_responses.py", "-k", chosen)
    (scratch.root / "settings.yaml").write_text("{}\n", encoding="utf-8")
    policy = json.loads(scratch.kmsledger("permissions", "--role", "member", "--config", "settings.yaml"))
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert set().union(*(actions for _, _, _, actions in TYPES.values())) <= allowed
