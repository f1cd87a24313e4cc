-- id: key-lockout
-- title: Somebody can manage every key
-- severity: high
-- family: access
-- why: >-
--   Nobody is left in the account whom the policy allows to change it: the key cannot be shared, closed, disabled or
--   deleted any more, and it is billed for ever. Mostly the only administrator was deleted; a role of the same name
--   that is made again does not get the access back.
-- fix: >-
--   The only principals with kms:PutKeyPolicy are deleted, a Deny without exception stops them, or the statement has
--   no Resource and therefore no effect. Nobody in the account can mend this: open a case with AWS Support from the
--   account, which restores the access of the root user after identity checks; that takes days. Meanwhile copy the
--   data under another key while those who may use the key still can.
-- console: >-
--   Support Center of the account: create a case for Key Management Service that names the key ARN.
-- cli: >-
--   aws support create-case --service-code key-management-service --subject "Unmanageable KMS key"
--   --communication-body "KEY_ARN" (needs a support plan)
-- terraform: >-
--   Terraform cannot mend it: it would need kms:PutKeyPolicy itself. Later keep bypass_policy_lockout_safety_check =
--   false in aws_kms_key.
WITH analysed AS (
  SELECT key_arn, min(analysis_id) AS analysis_id FROM access_paths WHERE path = 'policy' GROUP BY key_arn
), held AS (
  SELECT analysis_id,
    bool_or(access = 'owner_delegated' AND list_contains(operations, 'kms:PutKeyPolicy')) AS delegated,
    bool_or(list_contains(operations, 'kms:PutKeyPolicy')
      AND (access = 'owner_delegated' OR principal = '*')) AS whole,
    bool_or(list_contains(operations, 'kms:PutKeyPolicy')) AS managed,
    bool_or(access = 'owner_delegated') AS part
  FROM access_verdicts
  WHERE path = 'policy' AND access IN ('owner_delegated', 'owner_direct')
  GROUP BY analysis_id
), locked AS (
  SELECT key_arn, min(sentence) AS sentence FROM key_policy_problems WHERE code = 'lock_out' GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
    AND (analysis_id IS NULL OR principal = '*' OR coalesce(principal_account, regexp_extract(principal,
      '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1)) = split_part(key_arn, ':', 5))
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN l.key_arn IS NULL AND NOT coalesce(h.managed, false) THEN 'unknown'
    WHEN l.key_arn IS NOT NULL THEN 'fail'
    WHEN h.managed THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN l.key_arn IS NOT NULL THEN l.sentence
    WHEN h.managed THEN 'Somebody of account ' || k.account_id || ' can change the policy.'
    ELSE 'It is not known whether anyone can change the policy: ' || coalesce(u.reason, 'it was not read') || '.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN analysed a ON a.key_arn = k.key_arn
LEFT JOIN held h ON h.analysis_id = a.analysis_id
LEFT JOIN locked l ON l.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
