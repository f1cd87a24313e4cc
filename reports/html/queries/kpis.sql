-- The key figures of the summary, in one row.
SELECT
    a.*, k.*, l.*, g.*, p.*, u.*, r.*, x.*, c.*
FROM
    (
        SELECT
            count(*) AS accounts,
            count(*) FILTER (WHERE coverage = 'complete') AS accounts_complete,
            count(*) FILTER (WHERE coverage = 'partial') AS accounts_partial,
            count(*) FILTER (WHERE coverage IN ('failed', 'not_crawled')) AS accounts_unknown,
            count(*) FILTER (WHERE coverage = 'excluded') AS accounts_excluded,
            count(*) FILTER (WHERE coverage IN ('suspended', 'left')) AS accounts_inactive
        FROM accounts
    ) AS a,
    (
        SELECT
            count(*) AS keys,
            count(*) FILTER (WHERE manager = 'CUSTOMER') AS customer_keys,
            count(*) FILTER (WHERE state = 'PendingDeletion' AND days_to_deletion <= 7) AS keys_deleted_soon,
            count(*) FILTER (WHERE manager = 'AWS') AS aws_keys,
            count(*) FILTER (WHERE manager IS NULL) AS keys_without_manager,
            count(*) FILTER (WHERE manager = 'CUSTOMER' AND len(denied_actions) > 0) AS customer_unknown,
            count(*) FILTER (WHERE manager = 'AWS' AND len(denied_actions) > 0) AS aws_unknown,
            count(*) FILTER (WHERE manager = 'AWS' AND NOT policy_known AND len(denied_actions) = 0) AS aws_not_requested,
            count(*) FILTER (WHERE manager = 'CUSTOMER' AND freshness = 'stale') AS customer_stale,
            count(*) FILTER (WHERE manager = 'AWS' AND freshness = 'stale') AS aws_stale,
            count(*) FILTER (WHERE manager = 'CUSTOMER' AND state = 'Enabled') AS customer_enabled,
            count(*) FILTER (WHERE manager IS DISTINCT FROM 'AWS' AND NOT policy_known) AS policies_unknown,
            count(*) FILTER (WHERE manager IS DISTINCT FROM 'AWS' AND grants IS NULL) AS grants_unknown
        FROM keys
    ) AS k,
    (
        SELECT count(*) AS aliases, count(*) FILTER (WHERE predefined) AS aliases_predefined FROM aliases
    ) AS l,
    (
        SELECT CAST(coalesce(sum(grants), 0) AS BIGINT) AS grants, count(*) AS granted_keys
        FROM (
            SELECT key_arn, grants FROM keys WHERE grants > 0
            UNION ALL
            -- Those that are known of an incomplete list.
            SELECT key_arn, count(*) AS grants FROM internal.key_grant AS g
            WHERE internal.known(g.valid_from, g.valid_to, internal.view_run())
                AND key_arn IN (SELECT key_arn FROM keys WHERE grants IS NULL)
            GROUP BY key_arn
        )
    ) AS g,
    (
        SELECT count(*) AS resources, count(*) FILTER (WHERE freshness = 'stale') AS resources_stale FROM resources
    ) AS p,
    (
        SELECT
            count(*) AS "references",
            count(*) FILTER (WHERE key_class IN ('unknown', 'not_crawled')) AS references_unknown
        FROM resource_keys
    ) AS u,
    (
        SELECT
            count(DISTINCT f.resource_arn) FILTER (WHERE f.status = 'fail') AS keys_at_risk,
            count(DISTINCT f.resource_arn) FILTER (WHERE f.status = 'unknown') AS keys_at_risk_unknown,
            count(DISTINCT d.resource_arn) FILTER (WHERE f.status = 'fail') AS resources_at_risk
        FROM findings_history AS f
        LEFT JOIN resource_keys AS d ON d.key_arn = f.resource_arn
        WHERE f.rule_id = $risk_rule AND internal.known(f.valid_from, f.valid_to, internal.view_run())
    ) AS r,
    (
        SELECT count(DISTINCT key_arn) AS access_unknown FROM effective_access WHERE path <> 'iam' AND access = 'unknown'
    ) AS x,
    (
        SELECT
            count(*) AS changes,
            count(*) FILTER (
                WHERE severity IN ('critical', 'high') AND NOT (
                    event_type = 'deletion_scheduled' AND key_arn IN (SELECT key_arn FROM internal.pending_deletions WHERE is_unused)
                )
            ) AS changes_high
        FROM changes WHERE run_id = $run_id
    ) AS c
