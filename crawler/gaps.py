"""What could not be learned, as a fact."""

from __future__ import annotations

from crawler.aws.errors import AwsError
from crawler.spec import Operation


def gap_row(account_id: str, region: str, operation: Operation, subject: str, error: AwsError) -> dict[str, str]:
    """The row of a :class:`models.tables.runs.Gap`; ``subject`` is the ARN or name asked about, empty for a whole listing."""
    return {
        "account_id": account_id,
        "region": region,
        "service": operation.service,
        "operation": operation.name,
        "subject": subject,
        "action": operation.iam_action,
        "cause": str(error.cause),
        "code": error.code,
        "message": error.message,
    }
