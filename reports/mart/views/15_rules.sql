-- The rules that were enabled when the mart was built.
--: rule_id | The ID of the rule.
--: title | What the rule requires.
--: severity | critical, high, medium, low or info.
--: family | The topic of the rule: state, rotation, access, secrets ...; own for a custom rule that declares none.
--: frameworks | The controls of published frameworks that the rule covers.
--: why | Why it matters.
--: fix | How to fix a failure.
--: console | The same in the AWS console.
--: cli | The same with the AWS CLI.
--: terraform | The same with Terraform.
--: parameters | Its parameters and their values, as JSON.
SELECT rule_id, title, severity, family, frameworks, why, fix, console, cli, terraform, parameters
FROM internal.rule WHERE as_of_run IS NOT NULL
