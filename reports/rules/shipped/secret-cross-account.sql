-- id: secret-cross-account
-- title: No secret can be read from accounts that nobody chose
-- severity: high
-- family: secrets
-- why: >-
--   A resource policy can let another account read a secret; from then on that account decides who does. Inside the
--   organization that is a way to share, outside of it you have to know whom you gave it to.
-- fix: >-
--   Remove the statement, or narrow it to the role that needs the secret. If the sharing is intended, allow it with the
--   rule's parameter, or waive it with a ticket. After removing a stranger's access, rotate the secret: its value was
--   readable.
-- console: >-
--   In Secrets Manager open the secret and change the policy under "Resource permissions", "Edit permissions".
-- cli: |-
--   aws secretsmanager get-resource-policy --secret-id SECRET_ARN
--   aws secretsmanager put-resource-policy --secret-id SECRET_ARN --resource-policy file://POLICY.json
-- terraform: >-
--   Change the policy of the resource aws_secretsmanager_secret_policy, or remove that resource.
-- parameters:
--   allow:
--     default: "organization"
--     about: >-
--       Which other accounts may read: organization (those of the organization), parties (known parties as well) or
--       none.
WITH secret AS (
  SELECT *, len(parties) > 0 AND $allow IN ('organization', 'none') AS strange_party,
    len(organization) > 0 AND $allow = 'none' AS strange_account
  FROM internal.secret_readers
)
SELECT
  resource_arn, account_id, region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN deletion_at IS NOT NULL THEN 'not_applicable'
    WHEN unevaluated_reason IS NOT NULL THEN 'unknown'
    WHEN (is_public OR len(external) > 0 OR strange_party OR strange_account) AND denies THEN 'unknown'
    WHEN is_public OR len(external) > 0 OR strange_party OR strange_account THEN 'fail'
    WHEN possibly_public OR len(unknown) > 0 THEN 'unknown'
    WHEN has_policy IS NOT NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN deletion_at IS NOT NULL THEN 'The secret is scheduled for deletion and cannot be read.'
    WHEN unevaluated_reason IS NOT NULL THEN unevaluated_reason
    WHEN (is_public OR len(external) > 0 OR strange_party OR strange_account) AND denies
      THEN 'Its policy lets others read it (' || array_to_string(list_concat(CASE WHEN is_public THEN ['everyone'] ELSE [] END,
        external, parties, organization), ', ')
      || '); a Deny in it takes some of that away, which is not judged here.'
    WHEN is_public THEN 'Its policy allows everyone to read it.'
    WHEN len(external) > 0
      THEN 'Its policy lets accounts outside the organization read it: ' || array_to_string(external, ', ') || '.'
    WHEN strange_party THEN 'Its policy lets a known party read it: ' || array_to_string(parties, ', ') || '.'
    WHEN strange_account
      THEN 'Its policy lets other accounts of the organization read it: ' || array_to_string(organization, ', ') || '.'
    WHEN len(unknown) > 0
      THEN 'Could not determine whom its policy lets read it: ' || array_to_string(unknown, ', ') || '.'
    WHEN possibly_public
      THEN 'Could not determine whom its policy lets read it: everyone, under conditions that are not judged here.'
    WHEN NOT has_policy THEN 'It has no resource policy.'
    WHEN len(organization) > 0 OR len(parties) > 0
      THEN 'Its policy lets only chosen accounts read it: '
      || array_to_string(list_concat(organization, parties), ', ') || '.'
    ELSE 'Its policy lets no other account read it.'
  END || CASE WHEN freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS reason
FROM secret
