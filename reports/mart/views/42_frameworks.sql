-- Published frameworks, limited to controls about keys and encryption: the number of controls per status.
--: framework | The ID of the framework, with its version.
--: title | Its title.
--: version | Its version.
--: source | The public URL of the standard.
--: checked | The date on which the mapping was compared with the source.
--: controls | The number of controls that rules cover.
--: passed | The number of controls that pass.
--: failed | The number of controls that fail: at least one resource fails.
--: unknown | The number of controls whose status is unknown.
--: not_applicable | The number of controls with nothing to evaluate.
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
