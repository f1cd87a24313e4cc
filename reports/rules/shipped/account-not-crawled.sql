-- id: account-not-crawled
-- title: Every account of the organization is read
-- severity: high
-- family: coverage
-- why: >-
--   An account that cannot be read has no findings, and that looks like a clean account. New accounts without the role,
--   and roles whose trust was changed, are the usual reasons.
-- fix: >-
--   Create the role in the account, or mend its trust policy and external id; a StackSet for the organization does so
--   for new accounts, but never for the management account. If the account is not to be read, exclude it in the
--   settings: then that is stated as such.
-- console: >-
--   In the IAM console of that account open the role of kmsledger and compare its trust and permissions with what
--   `kmsledger permissions` prints; in Organizations look for a service control policy that denies it.
-- cli: |-
--   aws sts assume-role --role-arn arn:aws:iam::ACCOUNT_ID:role/ROLE --role-session-name test \
--     --external-id EXTERNAL_ID
--   aws cloudformation create-stack-instances --stack-set-name STACK_SET \
--     --deployment-targets OrganizationalUnitIds=OU_ID --regions REGION
-- terraform: >-
--   Add the account to what deploys the aws_iam_role of kmsledger, for example an
--   aws_cloudformation_stack_set_instance.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       For how many runs in a row, at least, before it fails.
WITH failing AS (
  SELECT account_id, min(consecutive_runs) AS consecutive_runs, max(since) AS since, min(cause_text) AS cause
  FROM coverage
  WHERE outcome = 'failed' AND service IS NULL
  GROUP BY account_id
)
SELECT
  a.account_id AS resource_arn, a.account_id, 'global' AS region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN a.coverage IN ('suspended', 'left', 'excluded')
      OR a.state IN ('SUSPENDED', 'LEFT', 'PENDING_CLOSURE', 'CLOSED') THEN 'not_applicable'
    WHEN a.coverage = 'not_crawled' OR (a.coverage = 'failed' AND coalesce(f.consecutive_runs, 0) < CAST($consecutive_runs AS INTEGER))
      THEN 'unknown'
    WHEN a.coverage = 'failed' THEN 'fail'
    WHEN a.coverage IN ('complete', 'partial') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN a.coverage = 'excluded' THEN 'The settings exclude the account.'
    WHEN a.coverage IN ('suspended', 'left') OR a.state IN ('SUSPENDED', 'LEFT', 'PENDING_CLOSURE', 'CLOSED')
      THEN 'The account is ' || lower(replace(coalesce(nullif(a.state, 'ACTIVE'), a.coverage), '_', ' ')) || '.'
    WHEN a.coverage = 'not_crawled' THEN 'The run did not get to the account.'
    WHEN a.coverage = 'failed' THEN 'Nothing of the account could be read'
      || coalesce(' since ' || strftime(f.since, '%Y-%m-%d'), '') || coalesce(': ' || f.cause, '') || '.'
    WHEN a.coverage = 'complete' THEN 'The account was read.'
    WHEN a.coverage = 'partial' THEN 'The account was read, though not all of it.'
    ELSE 'How far the account was read is not known: ' || a.coverage || '.'
  END AS reason
FROM accounts a
LEFT JOIN failing f ON f.account_id = a.account_id
