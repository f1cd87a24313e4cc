-- The controls of published frameworks that rules cover, with the results of the enabled rules.
--: framework | The ID of the framework, with its version.
--: framework_title | Its title.
--: version | Its version.
--: control | The number of the control.
--: title | What it requires, paraphrased.
--: rules | The rules that cover it.
--: rules_in_force | The number of those rules that were enabled when the mart was built.
--: status | fail, unknown, pass, or not_applicable if there is nothing to evaluate; also unknown if one of its rules is disabled.
--: passed | The number of resources that pass, over all its rules.
--: failed | The number of resources that fail without a waiver.
--: unknown | The number of resources whose status is unknown.
--: not_applicable | The number of resources to which the rules do not apply.
--: waived | The number of resources whose failure is waived.
WITH counted AS (
  SELECT n.rule_id, sum(n.passed) AS passed, sum(n.failed) AS failed, sum(n.unknown) AS unknown,
    sum(n.not_applicable) AS not_applicable, sum(n.waived) AS waived
  FROM rule_results_as_of(as_of_run) n
  GROUP BY n.rule_id
), answered AS (
  SELECT t.framework, t.position, any_value(t.framework_title) AS framework_title, any_value(t.version) AS version,
    any_value(t.control) AS control, any_value(t.title) AS title, list(t.rule_id ORDER BY t.rule_id) AS rules,
    count(u.rule_id) AS rules_in_force,
    CAST(coalesce(sum(c.passed) FILTER (u.rule_id IS NOT NULL), 0) AS BIGINT) AS passed,
    CAST(coalesce(sum(c.failed) FILTER (u.rule_id IS NOT NULL), 0) AS BIGINT) AS failed,
    CAST(coalesce(sum(c.unknown) FILTER (u.rule_id IS NOT NULL), 0) AS BIGINT) AS unknown,
    CAST(coalesce(sum(c.not_applicable) FILTER (u.rule_id IS NOT NULL), 0) AS BIGINT) AS not_applicable,
    CAST(coalesce(sum(c.waived) FILTER (u.rule_id IS NOT NULL), 0) AS BIGINT) AS waived
  FROM internal.framework_control t
  LEFT JOIN internal.rule u ON u.rule_id = t.rule_id
  LEFT JOIN counted c ON c.rule_id = t.rule_id
  GROUP BY t.framework, t.position
)
SELECT a.framework, a.framework_title, a.version, a.control, a.title, a.rules, a.rules_in_force,
  CASE
    WHEN a.rules_in_force > 0 AND a.failed > 0 THEN 'fail'
    WHEN a.rules_in_force < len(a.rules) OR a.unknown > 0 THEN 'unknown'
    WHEN a.passed > 0 OR a.waived > 0 THEN 'pass'
    WHEN a.not_applicable >= 0 THEN 'not_applicable'
    ELSE 'unknown'
  END AS status,
  a.passed, a.failed, a.unknown, a.not_applicable, a.waived
FROM answered a
ORDER BY a.framework, a.position
