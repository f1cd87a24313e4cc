-- The IAM policies and what they allow on all keys; AWS managed policies are excluded. The policy of a key decides whether IAM policies apply to it.
--! internal
--! stored
--: account_id | The account.
--: policy_id | The ARN of a managed policy; for an inline policy the ARN of its user, role or group, #inline/ and its name; NULL in the row of an account whose policies are unknown.
--: policy_type | managed or inline.
--: policy_name | The policy's name.
--: owner_arn | The user, role or group of an inline policy; NULL for a managed policy.
--: operations | The operations it allows on every key, minus those it denies there unconditionally; NULL if a part of it could not be parsed.
--: allows_decryption | Whether it allows decryption (Decrypt or ReEncryptFrom) on all keys, regardless of conditions; NULL if unknown.
--: decryption_reason | The same as a sentence, with the condition keys that restrict it.
--: allows_everything | Whether it allows use and administration of all keys, including deletion, regardless of conditions; NULL if unknown.
--: everything_reason | The same as a sentence, with the condition keys that restrict it.
--: freshness | The freshness of the account's IAM data: current, stale, partial or none (see iam_accounts).
WITH statement AS (
  SELECT *,
    not_resource OR len(list_filter(resources, lambda one: regexp_full_match(one,
      '[*]+|arn:[^:]+:[*]+|arn:[^:]+:(kms|[*]):[*]+|arn:[^:]+:(kms|[*]):[^:]*:[*]+|arn:[^:]+:(kms|[*]):[^:]*:[^:]*:([*]+|k[*]+|key[*]+|key/[*]+)'))) > 0 AS every_key,
    ['kms:Decrypt', 'kms:ReEncryptFrom'] AS decrypting,
    ['kms:Decrypt', 'kms:Encrypt', 'kms:CreateGrant', 'kms:PutKeyPolicy', 'kms:ScheduleKeyDeletion',
      'kms:DisableKey'] AS complete
  FROM internal.iam_key_statements_as_of(as_of_run)
), denied AS (
  SELECT policy_id, flatten(list(operations)) AS operations
  FROM statement
  WHERE NOT allow AND every_key AND parse_error IS NULL AND len(condition_keys) = 0
  GROUP BY policy_id
), opening AS (
  SELECT s.policy_id, s.account_id, s.operations, s.condition_keys,
    list_filter(s.operations, lambda one: NOT list_contains(coalesce(d.operations, CAST([] AS VARCHAR[])), one)) AS left_over,
    list_has_any(s.operations, s.decrypting) AS decrypts, list_has_any(s.operations, s.complete) AS uses
  FROM statement s
  LEFT JOIN denied d ON d.policy_id = s.policy_id
  WHERE s.allow AND s.every_key AND s.parse_error IS NULL
), opened AS (
  SELECT policy_id, account_id, list_sort(list_distinct(flatten(list(left_over)))) AS operations,
    list_sort(list_distinct(flatten(list(condition_keys) FILTER (decrypts)))) AS decryption_conditions,
    list_sort(list_distinct(flatten(list(condition_keys) FILTER (uses)))) AS everything_conditions
  FROM opening
  GROUP BY policy_id, account_id
), policy AS (
  SELECT s.policy_id, s.account_id, any_value(s.policy_type) AS policy_type, any_value(s.policy_name) AS policy_name,
    any_value(s.owner_arn) AS owner_arn, min(s.parse_error) AS parse_error, any_value(s.decrypting) AS decrypting,
    any_value(s.complete) AS complete
  FROM statement s
  GROUP BY s.policy_id, s.account_id
), weighed AS (
  SELECT p.*, coalesce(o.operations, CAST([] AS VARCHAR[])) AS operations,
    list_has_any(coalesce(o.operations, CAST([] AS VARCHAR[])), p.decrypting) AS decryption,
    list_has_all(coalesce(o.operations, CAST([] AS VARCHAR[])), p.complete) AS everything,
    'Policy ' || p.policy_name || coalesce(' of ' || regexp_extract(p.owner_arn, '[^:]*$'), '') || ' allows ' AS allows,
    'Policy ' || p.policy_name || ' does not allow ' AS allows_not,
    'It is not known what policy ' || p.policy_name || ' allows: ' || p.parse_error || '.' AS unclear,
    CASE WHEN len(o.decryption_conditions) > 0 THEN ', under conditions on '
      || array_to_string(o.decryption_conditions, ', ') || ' that are not evaluated' ELSE '' END AS decryption_narrowed,
    CASE WHEN len(o.everything_conditions) > 0 THEN ', under conditions on '
      || array_to_string(o.everything_conditions, ', ') || ' that are not evaluated' ELSE '' END AS everything_narrowed
  FROM policy p
  LEFT JOIN opened o ON o.policy_id = p.policy_id AND o.account_id = p.account_id
)
SELECT w.account_id, w.policy_id, w.policy_type, w.policy_name, w.owner_arn,
  CASE WHEN w.parse_error IS NULL THEN w.operations END AS operations,
  CASE WHEN w.decryption THEN true WHEN w.parse_error IS NULL THEN false END AS allows_decryption,
  CASE WHEN w.decryption THEN w.allows || 'decryption on all keys' || w.decryption_narrowed || '.'
    ELSE coalesce(w.unclear, w.allows_not || 'decryption on all keys.') END AS decryption_reason,
  CASE WHEN w.everything THEN true WHEN w.parse_error IS NULL THEN false END AS allows_everything,
  CASE WHEN w.everything THEN w.allows || 'everything on all keys' || w.everything_narrowed || '.'
    ELSE coalesce(w.unclear, w.allows_not || 'everything on all keys.') END AS everything_reason,
  coalesce(i.freshness, 'none') AS freshness
FROM weighed w
LEFT JOIN iam_accounts_as_of(as_of_run) i ON i.account_id = w.account_id
UNION ALL
SELECT i.account_id, NULL, NULL, NULL, NULL, NULL, NULL, n.reason, NULL, n.reason, i.freshness
FROM iam_accounts_as_of(as_of_run) i
JOIN accounts_as_of(as_of_run) a ON a.account_id = i.account_id
CROSS JOIN LATERAL (
  SELECT 'The IAM policies of the account are not known' || coalesce(': ' || i.reason, '') || '.' AS reason
) n
WHERE i.freshness IN ('none', 'partial') AND a.coverage NOT IN ('excluded', 'suspended', 'left')
