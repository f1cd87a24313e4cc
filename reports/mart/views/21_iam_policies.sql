-- The policies that determine the permissions of IAM users and roles: their own, those of their groups, and their boundaries.
--! columns of applied_policies except policy_hash
--: source | inline, attached or boundary; a boundary grants nothing, it limits what the others allow.
--: policy | The policy as canonical JSON; NULL if unknown.
--: received | The policy as received when it was first seen.
--: readable | Whether every part of it could be parsed; NULL if unknown.
SELECT a.* EXCLUDE (policy_hash), d.canonical AS policy, d.received, x.readable
FROM internal.applied_policies_as_of(as_of_run) a
LEFT JOIN internal.policy_document d ON d.policy_hash = a.policy_hash
LEFT JOIN internal.policy x ON x.policy_hash = a.policy_hash
