-- id: secret-replication
-- title: Replicas of secrets are in sync with their primary
-- severity: high
-- family: secrets
-- why: >-
--   Applications in the other region, and the failover to it, rely on the replica. A failed replica does not exist: reads
--   there fail, usually first in an emergency. Typical causes are a secret of the same name in that region and a key that
--   Secrets Manager cannot use.
-- fix: >-
--   Read the status message. Rename or delete a secret of the same name in that region, or allow Secrets Manager to use
--   the key, then retry the replication; the primary is not affected.
-- console: >-
--   In Secrets Manager, open the primary, "Replicate secret": the status of each region is shown there; choose "Retry
--   replication".
-- cli: |-
--   aws secretsmanager describe-secret --secret-id PRIMARY_ARN --query ReplicationStatus
--   aws secretsmanager replicate-secret-to-regions --secret-id PRIMARY_ARN --add-replica-regions Region=REGION,KmsKeyId=KEY_ARN \
--     --force-overwrite-replica-secret
-- terraform: >-
--   In the aws_secretsmanager_secret resource, set force_overwrite_replica_secret = true, or correct kms_key_id of the
--   replica block.
WITH replicas AS (
  SELECT resource_arn, list_sort(list(replica_region)) AS regions,
    list_sort(list(replica_region || coalesce(' (key ' || raw_key || ')', '') || ' has status ' || status
      || coalesce(': ' || rtrim(status_message, '.'), '')) FILTER (status IN ('Failed', 'Detached'))) AS failed,
    list_sort(list(replica_region || ' has status ' || coalesce(status, 'unknown'))
      FILTER (status IS NULL OR status NOT IN ('InSync', 'Failed', 'Detached'))) AS undecided
  FROM resource_replicas
  GROUP BY resource_arn
), denied AS (
  SELECT subject, action || ': ' || min(cause_text) AS cause FROM coverage
  WHERE outcome = 'gap' AND action = 'secretsmanager:DescribeSecret'
  GROUP BY subject, action
)
SELECT s.resource_arn, s.account_id, s.region, NULL AS key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN not_applicable('The secret is scheduled for deletion and cannot be read.')
    WHEN s.primary_region IS NOT NULL
      THEN not_applicable('It is a replica of the secret in ' || s.primary_region || ', where it is evaluated.')
    WHEN s.details IS NOT NULL AND (s.details ->> 'primary_region') IS NULL THEN not_applicable('It has no replicas.')
    WHEN len(r.failed) > 0 THEN fail('The replica in ' || array_to_string(r.failed, '; the replica in ') || '.')
    WHEN r.regions IS NULL
      THEN unknown('The status of its replicas could not be read' || coalesce(' (' || d.cause || ')', '') || '.')
    WHEN len(r.undecided) > 0 THEN unknown('The replica in ' || array_to_string(r.undecided, '; the replica in ') || '.')
    WHEN len(r.regions) > 0 THEN pass('Its replicas are in sync: ' || array_to_string(r.regions, ', ') || '.')
  END AS verdict,
  CASE WHEN s.freshness = 'stale' OR (r.regions IS NOT NULL AND d.cause IS NOT NULL)
    THEN ' This is the last known state.' END AS note
FROM internal.secrets s
LEFT JOIN replicas r ON r.resource_arn = s.resource_arn
LEFT JOIN denied d ON d.subject = s.resource_arn
