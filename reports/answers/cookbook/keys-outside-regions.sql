-- title: Keys in regions that are not meant to be used
-- topic: posture
-- question: >-
--   Which customer managed keys are in regions that policy does not allow?
-- answer: >-
--   Keys by account and region, in all regions but those that are given.
-- parameters:
--   regions: {default: "eu-west-1,eu-central-1", about: "the regions that are allowed, with commas"}
SELECT region, account_name, count(*) AS keys, sum(dependent_resources) AS uses, min(created_at) AS oldest,
  max(last_used_at) AS last_used_at
FROM keys
WHERE manager = 'CUSTOMER' AND NOT list_contains(string_split(replace($regions, ' ', ''), ','), region)
GROUP BY region, account_name
ORDER BY keys DESC, region, account_name
