-- The waivers that the settings name today: failures that are accepted for a while.
--: waiver | Its id; without one in the file, what it is about.
--: rule_id | The rule whose failures it accepts.
--: resource | The resources: a shell pattern on their ARN or name.
--: account_id | The account, where it is for one only.
--: reason | Why.
--: ticket | Where it was decided.
--: owner | Who answers for it.
--: expires | The last day on which it holds (UTC).
--: expired | Whether that day was over when the run began.
--: include_unknown | Whether it also holds while the rule cannot tell.
--: source | The file and line.
--: waived_count | How many findings it waives; empty where the rule is off, and as of earlier runs.
--: unknown_count | How many resources that it is for the rule cannot tell about; empty as before.
SELECT w.waiver, w.rule_id, w.resource, w.account_id, w.reason, w.ticket, w.owner, w.expires,
  w.expires < CAST(r.started_at AS DATE) AS expired, w.include_unknown, w.source,
  CASE WHEN w.run_id = as_of_run THEN w.waived_count END AS waived_count,
  CASE WHEN w.run_id = as_of_run THEN w.unknown_count END AS unknown_count
FROM internal.waiver w
LEFT JOIN internal.run r ON r.run_id = as_of_run
