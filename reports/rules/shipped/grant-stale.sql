-- id: grant-stale
-- title: Grants are not too old
-- severity: low
-- family: grants
-- why: >-
--   Grants are meant for the duration of a task. A grant that is years old and not maintained by an AWS service is
--   usually forgotten: it is not reviewed, and its grantee can still use the key.
-- fix: >-
--   Ask the owner of the grantee whether the grant is still needed. If the access is permanent, put it into the key
--   policy or an IAM policy, where it is reviewed; then revoke the grant.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: aws kms revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Remove or change the aws_kms_grant resource. Terraform does not manage grants created by applications; revoke those
--   with the CLI.
-- parameters:
--   days: {default: "365", about: "Maximum age of a grant, in days."}

-- One row per grant, identified by the ARN of its key, #grant/ and the grant ID. Grants to AWS services are excluded: services
-- create and retire them for their own resources. A key whose grants could not be read has its own row.
SELECT g.resource_arn, g.account_id, g.region, g.key_arn,
  CASE
    WHEN g.created_at IS NULL THEN 'unknown'
    WHEN g.created_at < n.started_at - CAST($days AS INTEGER) * INTERVAL 1 DAY THEN 'fail'
    WHEN g.created_at >= n.started_at - CAST($days AS INTEGER) * INTERVAL 1 DAY THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN g.created_at IS NULL THEN 'Could not determine when the grant was created.'
    ELSE 'The grant to ' || coalesce(g.grantee, 'an unnamed grantee') || ' was created on '
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
