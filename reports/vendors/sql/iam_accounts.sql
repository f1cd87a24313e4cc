-- Whether the IAM of each account was read, and the reason if not.
SELECT account_id, coalesce(freshness IN ('current', 'stale'), false) AS known, coalesce(nullif(reason, ''), 'it was not read') AS reason FROM iam_accounts
