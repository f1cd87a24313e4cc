-- id: key-policies-unread
-- title: The policies of all keys can be read
-- severity: medium
-- family: coverage
-- why: >-
--   A key whose policy cannot be read may be open to anyone. Such keys are mostly those whose policy names only a few
--   principals and does not let the account's IAM decide: the very keys that somebody cared to lock.
-- fix: >-
--   Add a statement to the policy of the key that lets the role of kmsledger call kms:GetKeyPolicy, kms:DescribeKey,
--   kms:ListGrants, kms:GetKeyRotationStatus and kms:ListResourceTags; who may change the policy is named in it. If
--   many keys of an account refuse, look at the permissions of the role and at service control policies first.
-- console: >-
--   In KMS, as a principal that the policy names, open the key, tab "Key policy", choose "Edit" and add the statement.
-- cli: |-
--   kmsledger sql "SELECT subject, cause_text FROM coverage WHERE operation = 'GetKeyPolicy'"
--   aws kms put-key-policy --key-id KEY_ARN --policy-name default --policy file://POLICY.json
-- terraform: >-
--   Add the statement to policy of the aws_kms_key, or to its aws_kms_key_policy.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       Number of consecutive failed runs after which the rule fails.
WITH denied_calls AS (
  SELECT account_id, region, count(*) AS keys, min(since) AS since,
    count(*) FILTER (consecutive_runs >= CAST($consecutive_runs AS INTEGER)) AS lasting,
    min(since) FILTER (consecutive_runs >= CAST($consecutive_runs AS INTEGER)) AS lasting_since
  FROM coverage
  WHERE outcome = 'gap' AND service = 'kms' AND operation = 'GetKeyPolicy'
  GROUP BY account_id, region
), listing AS (
  SELECT DISTINCT account_id, region FROM coverage
  WHERE outcome = 'gap' AND service = 'kms' AND operation = 'ListKeys'
), held AS (
  SELECT account_id, region, count(*) AS keys, count(*) FILTER (policy_known IS NOT TRUE) AS not_reported,
    -- Where no key is known to be a customer's, there may be none whose policy would be asked.
    count(*) FILTER (manager = 'CUSTOMER') = 0 AS undescribed
  FROM keys
  WHERE manager IS DISTINCT FROM 'AWS'
  GROUP BY account_id, region
)
SELECT
  p.account_region AS resource_arn, p.account_id, p.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN 'not_applicable'
    WHEN coalesce(r.lasting, 0) = 0 AND (p.outcome = 'failed' OR l.account_id IS NOT NULL) THEN 'unknown'
    WHEN r.keys IS NULL AND h.keys IS NULL THEN 'not_applicable'
    WHEN coalesce(r.lasting, 0) = 0 AND (r.keys > 0 OR h.not_reported > 0 OR h.undescribed) THEN 'unknown'
    WHEN r.lasting > 0 THEN 'fail'
    WHEN h.not_reported = 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN p.skip_reason
    WHEN r.lasting > 0 THEN 'The policies of ' || r.lasting || ' key(s) could not be read since '
      || strftime(r.lasting_since, '%Y-%m-%d') || '.'
    WHEN p.outcome = 'failed' THEN 'Nothing could be read in this account and region in this run.'
    WHEN l.account_id IS NOT NULL THEN 'The keys could not be listed there.'
    WHEN r.keys IS NULL AND h.keys IS NULL THEN 'There are no customer managed keys.'
    WHEN r.keys > 0 THEN 'The policies of ' || r.keys || ' key(s) could not be read, first on '
      || strftime(r.since, '%Y-%m-%d') || '.'
    WHEN h.not_reported > 0 THEN 'The policies of ' || h.not_reported || ' key(s) were not read.'
    WHEN h.undescribed THEN 'The ' || h.keys || ' key(s) could not be described.'
    ELSE 'The policies of all ' || h.keys || ' key(s) were read.'
  END AS reason
FROM account_regions p
LEFT JOIN denied_calls r ON r.account_id = p.account_id AND r.region = p.region
LEFT JOIN listing l ON l.account_id = p.account_id AND l.region = p.region
LEFT JOIN held h ON h.account_id = p.account_id AND h.region = p.region
WHERE p.region <> 'global'
