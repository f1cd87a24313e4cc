-- id: key-policies-unread
-- title: The policies of all keys can be read
-- severity: medium
-- family: coverage
-- why: >-
--   A key whose policy cannot be read may be open to anyone. Usually such a policy names only a few principals and does
--   not delegate to IAM of the account: these are often the most carefully locked keys.
-- fix: >-
--   Add a statement to the key policy that allows the role of kmsledger to call kms:GetKeyPolicy, kms:DescribeKey,
--   kms:ListGrants, kms:GetKeyRotationStatus and kms:ListResourceTags; only principals named in the policy can change
--   it. If the call is denied for many keys of an account, check the permissions of the role and service control
--   policies first.
-- console: >-
--   In KMS, as a principal named in the policy, open the key, tab "Key policy", choose "Edit" and add the statement.
-- cli: |-
--   kmsledger sql "SELECT subject, cause_text FROM coverage WHERE operation = 'GetKeyPolicy'"
--   aws kms put-key-policy --key-id KEY_ARN --policy-name default --policy file://POLICY.json
-- terraform: >-
--   Add the statement to the policy argument of aws_kms_key, or to its aws_kms_key_policy.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       Number of consecutive failed runs after which the rule fails.
WITH denied_calls AS (
  SELECT account_id, region, count(*) AS keys, min(since) AS since,
    count(*) FILTER (consecutive_runs >= CAST($consecutive_runs AS INTEGER)) AS persistent,
    min(since) FILTER (consecutive_runs >= CAST($consecutive_runs AS INTEGER)) AS persistent_since
  FROM coverage
  WHERE outcome = 'gap' AND service = 'kms' AND operation = 'GetKeyPolicy'
  GROUP BY account_id, region
), key_count AS (
  SELECT account_id, region, count(*) AS keys, count(*) FILTER (policy_known IS NOT TRUE) AS unread_policies,
    -- Without any key known to be customer managed, there may be no policy to read.
    count(*) FILTER (manager = 'CUSTOMER') = 0 AS undescribed
  FROM keys
  WHERE manager IS DISTINCT FROM 'AWS'
  GROUP BY account_id, region
)
SELECT p.account_region AS resource_arn, p.account_id, p.region, NULL AS key_arn,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN not_applicable(p.skip_reason)
    WHEN r.persistent > 0 THEN fail('The policies of ' || internal.counted(r.persistent, 'key', 'keys')
      || ' could not be read since '
      || strftime(r.persistent_since, '%Y-%m-%d') || '.')
    WHEN p.outcome = 'failed' THEN unknown('Nothing could be read in this account and region in this run.')
    WHEN l.keys_unlisted THEN unknown('The keys of this account and region could not be listed.')
    WHEN r.keys IS NULL AND h.keys IS NULL THEN not_applicable('There are no customer managed keys.')
    WHEN r.keys > 0 THEN unknown('The policies of ' || internal.counted(r.keys, 'key', 'keys')
      || ' could not be read, first detected on '
      || strftime(r.since, '%Y-%m-%d') || '.')
    WHEN h.unread_policies > 0 THEN unknown('The policies of ' || internal.counted(h.unread_policies, 'key', 'keys')
      || ' were not read.')
    WHEN h.undescribed THEN unknown(internal.counted(h.keys, 'key', 'keys') || ' could not be described.')
    WHEN h.unread_policies = 0 THEN pass('The policies of ' || internal.counted(h.keys, 'key', 'keys') || ' were read.')
  END AS verdict
FROM account_regions p
LEFT JOIN denied_calls r ON r.account_id = p.account_id AND r.region = p.region
LEFT JOIN internal.key_listings l ON l.account_id = p.account_id AND l.region = p.region
LEFT JOIN key_count h ON h.account_id = p.account_id AND h.region = p.region
WHERE p.region <> 'global'
