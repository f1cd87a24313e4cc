-- id: secret-public
-- title: No secret can be read by everyone
-- severity: critical
-- family: secrets
-- why: >-
--   A resource policy that allows everyone to read a secret exposes it to any AWS account in the world. The only
--   remaining control is the KMS key, unless its policy is just as permissive.
-- fix: >-
--   Replace the principal with the accounts or roles that need the secret, or restrict the statement with
--   aws:PrincipalOrgID. Treat the value as compromised: rotate it, and check CloudTrail for GetSecretValue calls by
--   other accounts.
-- console: >-
--   In Secrets Manager, open the secret, choose "Edit permissions" under "Resource permissions", specify the principals
--   and leave "Block public access" selected.
-- cli: |-
--   aws secretsmanager put-resource-policy --secret-id SECRET_ARN --resource-policy file://POLICY.json \
--     --block-public-policy
-- terraform: >-
--   In aws_secretsmanager_secret_policy, specify the principals in policy and set block_public_policy = true.
SELECT resource_arn, account_id, region, NULL AS key_arn,
  CASE
    WHEN deletion_at IS NOT NULL THEN not_applicable('The secret is scheduled for deletion and cannot be read.')
    WHEN unevaluated_reason IS NOT NULL THEN unknown(unevaluated_reason)
    WHEN is_public AND denies THEN unknown(
      'Its policy allows everyone to read it; its Deny statements restrict this and are not evaluated by this rule.')
    WHEN is_public THEN fail('Its policy allows everyone to read it.')
    WHEN possibly_public THEN unknown('Its policy allows everyone to read it, under conditions that are not evaluated.')
    WHEN NOT has_policy THEN pass('It has no resource policy.')
    WHEN has_policy AND NOT is_public THEN pass('Its policy does not allow everyone to read it.')
  END AS verdict,
  CASE WHEN freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM internal.secret_readers
