-- The waivers of the settings, active waivers first.
SELECT w.*, r.title, r.severity, r.rule_id IS NOT NULL AS rule_enabled, count(*) OVER () AS total
FROM waivers AS w
LEFT JOIN rules AS r ON r.rule_id = w.rule_id
ORDER BY w.expired, w.expires, w.rule_id, w.waiver
LIMIT $limit
