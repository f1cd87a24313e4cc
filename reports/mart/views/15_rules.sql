-- The rules that were in force when the mart was built.
--: rule_id | The rule's name.
--: title | What it demands.
--: severity | critical, high, medium, low or info.
--: family | What it is about: state, rotation, access, secrets ...; own for a rule of yours that does not say.
--: frameworks | The controls of published frameworks that it answers.
--: why | Why it matters.
--: fix | What to do about a failure.
--: console | The same in the AWS console.
--: cli | The same with the AWS CLI.
--: terraform | The same with Terraform.
--: parameters | Its parameters with their values, as JSON.
SELECT rule_id, title, severity, family, frameworks, why, fix, console, cli, terraform, parameters
FROM internal.rule WHERE as_of_run IS NOT NULL
