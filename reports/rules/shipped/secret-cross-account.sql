-- id: secret-cross-account
-- title: No secret can be read from unapproved accounts
-- severity: high
-- family: secrets
-- why: >-
--   A resource policy can allow another account to read a secret; that account then decides which of its principals do.
--   Within the organization this is a valid way to share; outside it, you must know who has access.
-- fix: >-
--   Remove the statement, or restrict it to the role that needs the secret. If the sharing is intended, allow it with
--   the parameter allow, or waive it with a ticket. After removing the access of an unknown account, rotate the secret:
--   its value was readable.
-- console: >-
--   In Secrets Manager, open the secret and change the policy under "Resource permissions", "Edit permissions".
-- cli: |-
--   aws secretsmanager get-resource-policy --secret-id SECRET_ARN
--   aws secretsmanager put-resource-policy --secret-id SECRET_ARN --resource-policy file://POLICY.json
-- terraform: >-
--   Change the policy of aws_secretsmanager_secret_policy, or remove that resource.
-- parameters:
--   allow:
--     default: "organization"
--     about: >-
--       Other accounts that may read secrets: organization (accounts of the organization), parties (also known parties) or
--       none.
WITH secret AS (
  SELECT *, len(parties) > 0 AND $allow IN ('organization', 'none') AS disallowed_party,
    len(organization) > 0 AND $allow = 'none' AS disallowed_account
  FROM internal.secret_readers
)
SELECT resource_arn, account_id, region, NULL AS key_arn,
  CASE
    WHEN deletion_at IS NOT NULL THEN not_applicable('The secret is scheduled for deletion and cannot be read.')
    WHEN unevaluated_reason IS NOT NULL THEN unknown(unevaluated_reason)
    WHEN (is_public OR len(external) > 0 OR disallowed_party OR disallowed_account) AND denies
      THEN unknown('Its policy allows other accounts to read it ('
        || array_to_string(list_concat(CASE WHEN is_public THEN ['everyone'] ELSE [] END, external, parties, organization), ', ')
        || '); its Deny statements restrict this and are not evaluated by this rule.')
    WHEN is_public THEN fail('Its policy allows everyone to read it.')
    WHEN len(external) > 0
      THEN fail('Its policy allows accounts outside the organization to read it: ' || array_to_string(external, ', ') || '.')
    WHEN disallowed_party THEN fail('Its policy allows a known party to read it: ' || array_to_string(parties, ', ') || '.')
    WHEN disallowed_account
      THEN fail('Its policy allows other accounts of the organization to read it: ' || array_to_string(organization, ', ') || '.')
    WHEN len(unknown) > 0 THEN unknown('Could not determine who can read it: ' || array_to_string(unknown, ', ') || '.')
    WHEN possibly_public
      THEN unknown('Could not determine who can read it: its policy allows everyone, under conditions that are not evaluated.')
    WHEN NOT has_policy THEN pass('It has no resource policy.')
    WHEN has_policy AND (len(organization) > 0 OR len(parties) > 0) THEN pass('Its policy allows only approved accounts to read it: '
      || array_to_string(list_concat(organization, parties), ', ') || '.')
    WHEN has_policy THEN pass('Its policy does not allow other accounts to read it.')
  END AS verdict,
  CASE WHEN freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM secret
