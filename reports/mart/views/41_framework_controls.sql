-- The controls of published frameworks that rules answer, with what the rules in force say.
--: framework | The framework's id, with its version.
--: framework_title | Its title.
--: version | Its version.
--: control | The control's number.
--: title | What it asks, in our words.
--: rules | The rules that answer it.
--: rules_in_force | How many of them were in force when the mart was built.
--: status | fail, unknown, pass, or not_applicable where there is nothing to judge; unknown too where one of its rules is not in force.
--: passed | How many resources pass, over all its rules.
--: failed | How many fail, and no waiver accepts it.
--: unknown | Of how many the rules cannot tell.
--: not_applicable | To how many the rules do not apply.
--: waived | How many a waiver accepts.
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
