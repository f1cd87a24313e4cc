-- title: Identical key policies
-- topic: access
-- question: >-
--   Which key policies are common, and which occur only once?
-- answer: >-
--   Policies by the number of keys that have them, with the account ID replaced, so that one policy in many accounts
--   counts as one. Review the rare policies (keys = 1): they are the least likely to be intended.
WITH counted AS (
  SELECT policy, account_id, count(*) AS keys, min(key_arn) AS example
  FROM key_policies
  WHERE readable
  GROUP BY policy, account_id
), normalized AS (
  SELECT replace(policy, account_id, '{account}') AS normalized_policy, account_id, keys, example
  FROM counted
)
SELECT sum(keys) AS keys, count(DISTINCT account_id) AS accounts, min(example) AS example_key, normalized_policy AS policy
FROM normalized
GROUP BY normalized_policy
ORDER BY keys DESC, policy
