-- The text of a policy document as received.
SELECT received FROM internal.policy_document WHERE policy_hash = $policy_hash
