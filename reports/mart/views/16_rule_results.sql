-- The number of resources per status, by rule, account and region; rule_results_history has the trend.
--: rule_id | The rule.
--: title | What the rule requires; NULL if the rule is no longer enabled.
--: severity | critical, high, medium, low or info; NULL as for title.
--: family | The topic of the rule; NULL as for title.
--: account_id | The account; NULL if the rule names none.
--: account_name | Its name.
--: region | The region; NULL if the rule names none.
--: passed | The number of resources that pass.
--: failed | The number of resources that fail without a waiver.
--: unknown | The number of resources whose status is unknown.
--: not_applicable | The number of resources to which the rule does not apply.
--: waived | The number of resources whose failure is waived.
--: since | When these numbers were first seen (start of the run).
SELECT f.rule_id, u.title, u.severity, u.family, f.account_id, c.name AS account_name, f.region, f.passed,
  f.failed, f.unknown, f.not_applicable, f.waived, r.started_at AS since
FROM internal.rule_result f
LEFT JOIN internal.rule u ON u.rule_id = f.rule_id
LEFT JOIN internal.account c ON c.account_id = f.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = f.valid_from
WHERE internal.known(f.valid_from, f.valid_to, as_of_run)
