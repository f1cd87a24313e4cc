-- The waivers in the current settings: failures that are accepted for a limited time.
--: waiver | The ID of the waiver; derived from its rule and resources if the file has none.
--: rule_id | The rule whose failures it accepts.
--: resource | The resources: a shell pattern that matches their ARN or name.
--: account_id | The account, if it is limited to one.
--: tag | The tag of its keys, if it is limited by one: KEY or KEY=VALUE.
--: description | The description of its keys, if it is limited by one: a shell pattern.
--: reason | The reason.
--: ticket | The reference to the decision.
--: owner | The person or team responsible for it.
--: expires | The last day on which it is valid (UTC).
--: expired | Whether it had expired when the run began.
--: include_unknown | Whether it also applies to the status unknown.
--: source | The file and line.
--: waived_count | The number of findings it waives; NULL if the rule is disabled, and as of earlier runs.
--: unknown_count | The number of matching resources whose status is unknown; NULL in the same cases.
SELECT w.waiver, w.rule_id, w.resource, w.account_id, w.tag, w.description, w.reason, w.ticket, w.owner, w.expires,
  w.expires < CAST(r.started_at AS DATE) AS expired, w.include_unknown, w.source,
  CASE WHEN w.run_id = as_of_run THEN w.waived_count END AS waived_count,
  CASE WHEN w.run_id = as_of_run THEN w.unknown_count END AS unknown_count
FROM internal.waiver w
LEFT JOIN internal.run r ON r.run_id = as_of_run
