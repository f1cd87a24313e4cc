-- How many resources of an account and region have which status under a rule; its history tells trends (rule_results_history).
--: rule_id | The rule.
--: title | What it demands; empty when it is in force no longer.
--: severity | critical, high, medium, low or info; empty as before.
--: family | What the rule is about; empty as before.
--: account_id | The account; empty where the rule names none.
--: account_name | Its name.
--: region | The region; empty where the rule names none.
--: passed | How many pass.
--: failed | How many fail, and no waiver accepts it.
--: unknown | Of how many the rule cannot tell.
--: not_applicable | To how many the rule does not apply.
--: waived | How many a waiver accepts.
--: since | When the run began that first counted so.
SELECT f.rule_id, u.title, u.severity, u.family, f.account_id, c.name AS account_name, f.region, f.passed,
  f.failed, f.unknown, f.not_applicable, f.waived, r.started_at AS since
FROM internal.rule_result f
LEFT JOIN internal.rule u ON u.rule_id = f.rule_id
LEFT JOIN internal.account c ON c.account_id = f.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = f.valid_from
WHERE internal.known(f.valid_from, f.valid_to, as_of_run)
