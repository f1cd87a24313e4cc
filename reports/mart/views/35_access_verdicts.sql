-- The results of access analyses: one row per result; keys and grants with equal policies share an analysis.
--! internal
--! stored
--: analysis_id | The analysis, as in access_paths.
--: ordinal | The number of the result in the analysis, as in access_paths.
--: path | policy or grant.
--: access | As in access_paths, but external for every account outside the organization, including known parties.
--: principal | The principal, as the policy names it; {grantee} and {retiring} stand for those of a grant.
--: principal_account | The account of the principal.
--: operations | The operations the principal can perform: kms:Decrypt ...
--: statement_index | The index of the statement in the policy, from 0.
--: reason | Why access is unknown; empty or NULL if it is known.
SELECT v.analysis_id, v.ordinal, a.path, v.access, v.principal, v.principal_account,
  CAST(CAST(v.operations AS JSON) AS VARCHAR[]) AS operations, v.statement_index, v.reason
FROM internal.access_verdict v
JOIN internal.access_analysis a ON a.analysis_id = v.analysis_id
WHERE v.analysis_id IN (SELECT p.analysis_id FROM internal.access_paths_as_of(as_of_run) p)
