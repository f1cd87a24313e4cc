-- id: key-lockout
-- title: Every key can be managed
-- severity: high
-- family: access
-- why: >-
--   The policy no longer allows any principal in the account to change it: the key cannot be shared, restricted,
--   disabled or deleted, and it is billed forever. Usually the only administrator was deleted; a re-created role with
--   the same name does not get the access back.
-- fix: >-
--   All principals with kms:PutKeyPolicy are deleted, an unconditional Deny blocks them, or the statement has no
--   Resource and therefore no effect. Nobody in the account can fix this: open an AWS Support case from the account.
--   After identity checks, AWS Support restores the access of the root user; this takes days. Meanwhile, re-encrypt the
--   data with another key while some principals can still use this one.
-- console: >-
--   In the Support Center of the account, create a case for Key Management Service with the key ARN.
-- cli: >-
--   aws support create-case --service-code key-management-service --subject "Unmanageable KMS key"
--   --communication-body "KEY_ARN" (needs a support plan)
-- terraform: >-
--   Terraform cannot fix this, because it would need kms:PutKeyPolicy. Afterwards, keep
--   bypass_policy_lockout_safety_check = false in aws_kms_key.
WITH administrable AS (
  SELECT DISTINCT analysis_id
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access IN ('owner_delegated', 'owner_direct')
    AND list_contains(operations, 'kms:PutKeyPolicy')
), lockout AS (
  SELECT key_arn, min(message) AS message FROM key_policy_problems WHERE code = 'lock_out' GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN l.key_arn IS NOT NULL THEN fail(l.message)
    WHEN m.analysis_id IS NOT NULL THEN pass('A principal in account ' || d.account_id || ' can change the policy.')
    ELSE unknown('Could not determine whether any principal can change the policy: '
      || coalesce(d.own_account_unknown_reason, 'it was not read') || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN administrable m ON m.analysis_id = d.analysis_id
LEFT JOIN lockout l ON l.key_arn = d.key_arn
