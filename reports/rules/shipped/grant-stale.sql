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

SELECT resource_arn, account_id, region, key_arn,
  CASE
    WHEN is_stale THEN fail(message || ', more than ' || $days || ' days ago.')
    WHEN NOT is_stale THEN pass(message || '.')
    ELSE unknown('Could not determine when the grant was created.')
  END AS verdict
FROM (
  SELECT g.*, g.created_at < r.started_at - to_days(CAST($days AS INTEGER)) AS is_stale,
    'The grant to ' || coalesce(g.grantee, 'an unnamed grantee') || ' was created on ' || strftime(g.created_at, '%Y-%m-%d')
      AS message
  FROM internal.customer_grants g, internal.latest_run r
)
UNION ALL
FROM internal.unread_grants
