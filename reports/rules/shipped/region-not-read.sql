-- id: region-not-read
-- title: Every region of every account is read
-- severity: medium
-- family: coverage
-- why: >-
--   What is in a region that cannot be read is unknown, however clean the rest of the account is: keys that are about
--   to be deleted there are noticed by nobody.
-- fix: >-
--   If a service control policy denies the region, exclude it in the settings, so that it is stated as left out, or
--   exempt the role of kmsledger from that policy. Errors of the service or of the network should pass by themselves:
--   if they do not, look at the message in the view coverage.
-- console: >-
--   In the IAM console of that account open the role of kmsledger and compare its trust and permissions with what
--   `kmsledger permissions` prints; in Organizations look for a service control policy that denies it.
-- cli: |-
--   kmsledger sql "SELECT * FROM coverage WHERE outcome = 'failed'"
--   aws kms list-keys --region REGION --max-items 1
-- terraform: >-
--   Exempt the role with a condition ArnNotLike aws:PrincipalArn in the aws_organizations_policy that denies the
--   region.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       Number of consecutive failed runs after which the rule fails.
SELECT
  p.account_region AS resource_arn, p.account_id, p.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN 'not_applicable'
    WHEN p.outcome = 'failed' AND coalesce(p.consecutive_runs, 0) < CAST($consecutive_runs AS INTEGER) THEN 'unknown'
    WHEN p.outcome = 'failed' THEN 'fail'
    WHEN p.outcome IN ('complete', 'partial') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN p.skip_reason
    WHEN p.outcome = 'failed' THEN 'Nothing could be read there'
      || coalesce(' since ' || strftime(p.since, '%Y-%m-%d'), '') || coalesce(': ' || p.cause_text, '') || '.'
    WHEN p.outcome = 'complete' THEN 'The region was read.'
    WHEN p.outcome = 'partial' THEN 'The region was read, though not all of it.'
    ELSE 'How far the region was read is not known: ' || p.outcome || '.'
  END AS reason
FROM account_regions p
