"""`opscore workflow …`."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from opscore_middleware.cli.checks import checked, json_object
from opscore_middleware.cli.definitions import FileFault, is_file_name, look_at
from opscore_middleware.cli.names import agent_id_of
from opscore_middleware.cli.options import ApiKey, ApiUrl, AsJson
from opscore_middleware.cli.output import ago, print_json, print_list, print_pairs, print_table
from opscore_middleware.cli.progress import follow_session
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.runs.views import WorkflowQuery, WorkflowStart, WorkflowView
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.core.workflows.definition import TaskDefinition, WorkflowDefinition
from opscore_middleware.errors import ConfigurationError

__all__ = ["app"]

app = typer.Typer(
    help="Write workflows, keep them and run them.", no_args_is_help=True, rich_markup_mode=None
)

File = Annotated[
    Path, typer.Argument(help="A definition in JSON or YAML; - is standard input.", metavar="FILE")
]
WorkflowId = Annotated[
    str, typer.Argument(help="The definition's id, as `opscore workflow list` shows it.")
]

Workflow = Annotated[
    str,
    typer.Argument(
        help="A definition's id, or a file with one, by its .json, .yaml or /.", metavar="WORKFLOW"
    ),
]
RunAt = Annotated[
    str | None, typer.Option(help="When to begin, as 2026-01-31T12:00:00Z; else now.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Show how it goes until it is over.")]


@app.command()
def validate(file: File, as_json: AsJson = False) -> None:
    """Say everything that is wrong with a definition, without a server.

    Ends with 0 when nothing is, with 1 otherwise.

    Examples:

    \b
      opscore workflow validate digest.yaml
      opscore workflow validate - --json < digest.json
    """
    found = look_at(file)
    faults = found if isinstance(found, list) else []
    if as_json:
        listed = [fault._asdict() for fault in faults]
        typer.echo(json.dumps({"valid": not faults, "faults": listed}, indent=2))
    elif isinstance(found, list):
        for fault in found:
            typer.echo(_fault_line(file, fault))
    else:
        tasks = f"{len(found.tasks)} task{'' if len(found.tasks) == 1 else 's'}"
        typer.echo(f"{file} is right: workflow {found.id!r} with {tasks}.")
    raise typer.Exit(1 if faults else 0)


@app.command()
def put(
    file: File,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Keep a definition: under a new id, or as the next version of the one that it has.

    Examples:

    \b
      opscore workflow put digest.yaml
    """
    definition = _right(file)
    with OpsCoreClient(api_url, api_key) as client:
        kept = client.put_workflow(_document(definition))
    if as_json:
        print_json(kept)
    else:
        typer.echo(f"{kept.workflow_id} is kept as version {kept.version}.")


@app.command("list")
def list_workflows(
    limit: Annotated[int, typer.Option(min=1, help="How many at most, by id.")] = 100,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """List the definitions, the latest version of each.

    Examples:

    \b
      opscore workflow list
      opscore workflow list --json
    """
    query = WorkflowQuery(limit=min(limit, 1000))
    with OpsCoreClient(api_url, api_key) as client:
        found = list(islice(client.iter_workflows(query), limit))
    columns = ("ID", "VERSION", "NAME", "TASKS", "SCHEDULE", "KEPT")
    print_list(found, columns, _row, none="No workflows.", as_json=as_json)


@app.command()
def show(
    workflow_id: WorkflowId,
    version: Annotated[
        int | None, typer.Option(min=1, help="Else the latest.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show one definition and its tasks.

    Examples:

    \b
      opscore workflow show digest
      opscore workflow show digest --version 2 --json
    """
    with OpsCoreClient(api_url, api_key) as client:
        kept = client.get_workflow(workflow_id, version=version)
    if as_json:
        print_json(kept)
    else:
        _print_workflow(kept)


@app.command()
def run(
    workflow: Workflow,
    agent: Annotated[
        str, typer.Option(help="The agent that the session is to belong to, by its id or name.")
    ],
    payload: Annotated[
        str | None, typer.Option(help="The first tasks' payload, a JSON object.")
    ] = None,
    run_at: RunAt = None,
    watch: Watch = False,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Start a workflow and print its session's id.

    With --watch it ends with 0 when the session has completed, with 1 when it has not.

    Examples:

    \b
      opscore workflow run digest --agent summarizer --payload '{"topic": "rain"}'
      opscore workflow run ./digest.yaml --agent summarizer --watch
    """
    if watch and as_json:
        raise ConfigurationError(
            "--watch draws for a person; leave out --json, or leave out --watch and use "
            "`opscore session watch --json`."
        )
    definition = _right(Path(workflow)) if is_file_name(workflow) else None
    start = checked(
        WorkflowStart,
        workflow_definition_id=workflow if definition is None else None,
        workflow_definition=None if definition is None else _document(definition),
        initial_payload=json_object(payload, option="--payload"),
        run_at=run_at,
    )
    with OpsCoreClient(api_url, api_key) as client:
        started = client.start_workflow(agent_id_of(client, agent), start)
        if as_json:
            print_json(started)
            return
        typer.echo(started.session_id)
        if watch and follow_session(client, started.session_id) is not SessionState.COMPLETED:
            raise typer.Exit(1)


def _row(kept: WorkflowView, now: datetime) -> tuple[str | Text, ...]:
    return (
        kept.workflow_id,
        str(kept.version),
        kept.name,
        str(len(kept.definition["tasks"])),
        kept.definition.get("schedule") or "",
        ago(kept.created_at, now),
    )


def _right(file: Path) -> WorkflowDefinition:
    """Return the definition in a file; with faults, say each of them and end with 1."""
    found = look_at(file)
    if isinstance(found, WorkflowDefinition):
        return found
    for fault in found:
        typer.echo(_fault_line(file, fault), err=True)
    raise typer.Exit(1)


def _document(definition: WorkflowDefinition) -> dict[str, object]:
    return definition.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _fault_line(file: Path, fault: FileFault) -> str:
    where = f"{file}:{fault.line}" if fault.line is not None else str(file)
    return f"{where}: {fault.path}: {fault.message}" if fault.path else f"{where}: {fault.message}"


def _print_workflow(kept: WorkflowView) -> None:
    definition = WorkflowDefinition.model_validate(kept.definition)
    print_pairs(
        [
            ("id", kept.workflow_id),
            ("name", kept.name),
            ("version", f"{kept.version} (its author's: {definition.version})"),
            ("description", definition.description or ""),
            ("schedule", definition.schedule or ""),
            ("kept", kept.created_at.isoformat(timespec="seconds")),
        ]
    )
    typer.echo()
    print_table(
        ("TASK", "NAME", "BY", "AFTER", "ELSE"),
        (_task_row(task, definition) for task in definition.tasks),
    )


def _task_row(task: TaskDefinition, definition: WorkflowDefinition) -> tuple[str | Text, ...]:
    before = [*task.depends_on]
    before += [one.task_id for one in definition.tasks if one.next_task_id == task.task_id]
    return (
        task.task_id,
        task.name,
        task.agent_id or task.agent_capability or "",
        ", ".join(dict.fromkeys(before)),
        task.fallback_task_id or ("goes on" if task.on_failure == "continue" else ""),
    )
