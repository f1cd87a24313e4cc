-- The earlier policies of a key, latest first; `ended_at` is the start of the run that first saw another one.
SELECT p.policy_hash, r.started_at AS ended_at FROM internal.key_policy p
LEFT JOIN internal.run r ON r.run_id = p.valid_to
WHERE p.key_arn = $key_arn AND p.valid_to IS NOT NULL AND p.valid_to <= $run ORDER BY p.valid_from DESC
