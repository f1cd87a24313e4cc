-- id: grant-stale
-- title: Grants are not older than they need to be
-- severity: low
-- family: grants
-- why: >-
--   Grants are meant for the time of a task. One that no AWS service keeps for a resource, and that is years old, is
--   usually forgotten: nobody reviews it, and its holder can still use the key.
-- fix: >-
--   Ask the owner of the holder whether the grant is needed. If it is meant to last, put the same access into the key
--   policy or an IAM policy, where it is reviewed; then revoke the grant.
-- console: The KMS console shows no grants; use the command line.
-- cli: aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Remove or change the aws_kms_grant resource; grants made by programs are not known to Terraform and have to be
--   revoked by command.
-- parameters:
--   days: {default: "365", about: "how old a grant may become (days)"}

-- A row is a grant: its key's ARN, #grant/ and its id. Grants for AWS services are left out: services make them for
-- their resources and retire them. A key whose grants could not be read is a row of its own.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.created_at IS NULL THEN 'unknown'
    WHEN g.created_at < n.started_at - CAST($days AS INTEGER) * INTERVAL 1 DAY THEN 'fail'
    WHEN g.created_at >= n.started_at - CAST($days AS INTEGER) * INTERVAL 1 DAY THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.created_at IS NULL THEN 'When the grant was made is not known.'
    ELSE 'The grant to ' || coalesce(g.grantee, 'a grantee that is not named') || ' was made on '
      || strftime(g.created_at, '%Y-%m-%d')
      || CASE WHEN g.created_at < n.started_at - CAST($days AS INTEGER) * INTERVAL 1 DAY THEN ', more than ' || $days
        || ' days ago.' ELSE '.' END
  END AS reason
FROM internal.customer_grants g
CROSS JOIN (SELECT max(started_at) AS started_at FROM runs) n
UNION ALL
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown', 'The grants of the key could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.grants IS NULL
