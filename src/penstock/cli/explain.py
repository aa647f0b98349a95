"""``penstock explain``: what the definitions come to."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, print_json, say


def explain(
    name: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE|VIEW|MODEL|ENDPOINT", help="Explain only what this needs."),
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print what the definitions come to.

    The plan as the engine runs it: sources, views, services, endpoints.
    """
    from penstock.app.runtime import plan_of
    from penstock.definitions.project import load_project
    from penstock.plan.describe import describe
    from penstock.plan.explain import explain_description

    loaded = load_project(project_root(project))
    plan = plan_of(loaded)
    served = {endpoint.model for endpoint in plan.endpoints.values()}
    if name in loaded.models and name not in served:  # a model that no endpoint serves: its features
        name = loaded.models[name].features.name
    described = describe(plan, name)
    if as_json:
        print_json({"project": loaded.name, **described})
        return
    say(f"project {loaded.name}")
    for line in explain_description(described):
        say(line)
    hint("penstock run")
