-- Published frameworks, as far as they concern keys and what they encrypt: how many of their controls have which status.
--: framework | The framework's id, with its version.
--: title | Its title.
--: version | Its version.
--: source | The public address of the standard.
--: checked | The day on which the mapping was compared with the source.
--: controls | How many of its controls rules answer.
--: passed | How many of those pass.
--: failed | How many fail: some resource does.
--: unknown | Of how many it is not known.
--: not_applicable | How many have nothing to judge here.
WITH described AS (
  SELECT t.framework, any_value(t.source) AS source, any_value(t.checked) AS checked
  FROM internal.framework_control t
  GROUP BY t.framework
), counted AS (
  SELECT c.framework, any_value(c.framework_title) AS title, any_value(c.version) AS version, count(*) AS controls,
    count(*) FILTER (c.status = 'pass') AS passed, count(*) FILTER (c.status = 'fail') AS failed,
    count(*) FILTER (c.status = 'unknown') AS unknown, count(*) FILTER (c.status = 'not_applicable') AS not_applicable
  FROM framework_controls_as_of(as_of_run) c
  GROUP BY c.framework
)
SELECT n.framework, n.title, n.version, d.source, d.checked, n.controls, n.passed, n.failed, n.unknown, n.not_applicable
FROM counted n
JOIN described d ON d.framework = n.framework
ORDER BY n.framework
