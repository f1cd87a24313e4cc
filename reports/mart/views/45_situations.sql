-- What needs attention, by root cause: one row per situation, which stands for all findings about it (see situation_findings).
-- The report and the mail order them by deadline, severity and affected.
--! columns of situation_details except evidence, main, noun, resource_arns
SELECT situation_id, kind, cause, severity, deadline, affected, names, key_arn, key_alias, key_state, grants, parties,
  rule_id, account_ids, account_name, region, owners, failed, unknown, rules
FROM internal.situation_details_as_of(as_of_run)
