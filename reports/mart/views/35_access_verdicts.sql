-- What the ways of access_paths consist of: one row for each verdict of an analysis, which all keys and grants that are alike share.
--! internal
--! stored
--: analysis_id | The analysis, as in access_paths.
--: ordinal | The number of the verdict in it, as in access_paths.
--: path | policy or grant.
--: access | As in access_paths, but external for every account outside the organization, known party or not.
--: principal | Who, as the policy writes it; {grantee} and {retiring} stand for those of a grant.
--: principal_account | The account of who.
--: operations | What has an effect: kms:Decrypt ...
--: statement_index | The statement's position in the policy, from 0.
--: reason | Why it is unknown; empty when it is known.
SELECT v.analysis_id, v.ordinal, a.path, v.access, v.principal, v.principal_account,
  CAST(CAST(v.operations AS JSON) AS VARCHAR[]) AS operations, v.statement_index, v.reason
FROM internal.access_verdict v
JOIN internal.access_analysis a ON a.analysis_id = v.analysis_id
WHERE v.analysis_id IN (SELECT p.analysis_id FROM internal.access_paths_as_of(as_of_run) p)
