"""The command that runs prepared queries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from models.cli_options import AS_OF, CONFIG, LIMIT, MART, OUTPUT_FILE, format_option, query_limits
from reports.mart.cli import run_query, to_json, write_text


@click.command()
@CONFIG
@MART
@AS_OF
@format_option(
    *("table", "json", "csv", "jsonl", "parquet", "markdown"),
    about="For results, the formats of `sql`; for the list and --show: table, json or markdown.",
)
@OUTPUT_FILE
@LIMIT
@query_limits
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Set a parameter; can be repeated.")
@click.option("--show", is_flag=True, help="Show the query and the meaning of its rows instead of running it.")
@click.argument("name", required=False)
def cookbook(*, name: str | None, assignments: tuple[str, ...], show: bool, **options: Any) -> None:
    """Run a prepared query: what breaks without a key, what a vendor can decrypt, what changed in the last run ...

    Without NAME, list the queries. Each is one query over the views; --show prints it as a starting point for your own.
    """
    from reports.answers.cookbook_loader import find, list_recipes, markdown, recipes, show_recipe

    output_format: str = options["output_format"]
    output: Path | None = options["output"]
    if name is None:
        if assignments or show or output_format not in {"table", "json", "markdown"}:
            raise click.UsageError(
                "without NAME the formats are table, json and markdown: add the NAME of a query to run or show it"
            )
        if output_format == "json":
            write_text(to_json([asdict(recipe) for recipe in recipes()]), output)
        else:
            write_text(list_recipes() + "\n" if output_format == "table" else markdown(recipes()), output)
        return
    recipe = find(name)
    if output_format == "markdown":
        write_text(markdown([recipe]), output)
    elif show:
        write_text(to_json(asdict(recipe)) if output_format == "json" else show_recipe(recipe) + "\n", output)
    else:
        run_query(recipe.query, **options, parameters=recipe.values(_parameters(assignments)), prepared=True)


def _parameters(assignments: tuple[str, ...]) -> dict[str, str]:
    parameters = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign:
            raise click.UsageError(f"--set {assignment}: write NAME=VALUE")
        parameters[name] = value
    return parameters
