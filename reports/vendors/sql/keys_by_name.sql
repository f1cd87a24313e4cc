-- Keys by alias, ARN or ID (`names`) in `accounts` (none: all).
SELECT n.name, k.key_arn FROM (SELECT unnest($names) AS name) n
JOIN keys k ON k.key_arn = n.name OR k.key_id = n.name OR list_contains(k.aliases, n.name)
WHERE (len($accounts) = 0 OR list_contains($accounts, k.account_id)) AND k.manager IS DISTINCT FROM 'AWS'
