"""The repository keeps its own promises: lazy imports, public names, commands, nothing of a machine in a file."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.environments import ENVIRONMENTS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "apprise",
    "datasketches",
    "deltalake",
    "duckdb",
    "fastapi",
    "httpx",
    "matplotlib",
    "msgspec",
    "nicegui",
    "numba",
    "numpy",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "opentelemetry",
    "pandas",
    "polars",
    "prometheus_client",
    "psutil",
    "pyarrow",
    "pydantic",
    "pydantic_settings",
    "rich",
    "river",
    "scipy",
    "skl2onnx",
    "sklearn",
    "sqlite3",
    "starlette",
    "structlog",
    "typer",
    "uvicorn",
    "xgboost",
}
# Rooms that may import an extra's library when they are themselves imported.
POSTGRES = "src/penstock/stores/postgres"
EXTRA_ROOMS: dict[str, set[str]] = {
    "test": {"src/penstock/testing/registries.py"},
    "postgres": {
        f"{POSTGRES}/{name}.py"
        for name in (
            "decisions",
            "errors",
            "migrating",
            "migrations/env",
            "migrations/versions/v0001_tables",
            "migrations/versions/v0002_policies_and_lists",
            "session",
        )
    },
}

FIRST_USE = {"msgspec.json.decode", "msgspec.msgpack.decode", "msgspec.convert"}
REGISTRY_HOST = re.compile(
    r"(?:pypi|pythonhosted|registry\.npmjs|npmjs|crates|maven|proxy\.golang|anaconda|conda)\.(?:org|com|io|cloud)"
    r"|index-url\s*=|--index-url\s+\S|--extra-index-url\s+\S|--find-links\s+\S|\"resolved\": \"http"
)
MACHINE_PATH = re.compile(r"(?<![\w.~:/-])/(?:work|root|farm|home|Users|opt/wheels)/")


def modules_loaded_by(statement: str) -> set[str]:
    """The top-level modules in sys.modules after a statement, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def tracked_texts() -> list[tuple[str, str]]:
    """Path and text of every tracked file; in an export without git, of every file that is not ignored by name."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git repository")
    texts = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        if b"\0" not in data:
            texts.append((name, data.decode("utf-8")))
    return texts


def hits(pattern: re.Pattern[str], texts: list[tuple[str, str]]) -> list[str]:
    """Where a pattern stands, as path:line."""
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts
        if name != "tests/unit/test_house.py"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_importing_penstock_loads_no_heavy_library():
    assert modules_loaded_by("import penstock") & HEAVY == set()


def test_every_public_noun_comes_without_a_heavy_library():
    assert modules_loaded_by("from penstock import *; from penstock.types import *") & HEAVY == set()


def test_the_lazy_test_can_fail():
    assert "numpy" in modules_loaded_by("import penstock, numpy")


def test_all_names_resolve_once_and_in_order():
    import penstock

    assert len(set(penstock.__all__)) == len(penstock.__all__)
    for name in penstock.__all__:
        assert getattr(penstock, name) is not None, name


def extras() -> dict[str, list[str]]:
    """The optional dependencies by extra, as module names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        extra: [re.split(r"[<>=\[; ]", requirement)[0].replace("-", "_") for requirement in requirements]
        for extra, requirements in project["optional-dependencies"].items()
    }


def imports_at_module_level(path: Path) -> set[str]:
    """Top-level modules that a file imports when it is itself imported (not inside functions or TYPE_CHECKING)."""
    found: set[str] = set()
    pending: list[ast.stmt] = list(ast.parse(path.read_text("utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            pending += node.body + node.orelse
        elif isinstance(node, ast.Try):
            pending += node.body + node.orelse + node.finalbody
        elif isinstance(node, ast.ClassDef | ast.With):
            pending += node.body
    return found


@pytest.mark.parametrize("extra", sorted(extras()))
def test_an_extra_stays_lazy(extra):
    libraries = set(extras()[extra])
    offenders = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "src/penstock").rglob("*.py"))
        if imports_at_module_level(path) & libraries
        and str(path.relative_to(ROOT)) not in EXTRA_ROOMS.get(extra, set())
    ]
    assert offenders == [], f"{extra}: import {', '.join(libraries)} inside the function that needs it"


def test_no_registry_address_in_any_file():
    assert hits(REGISTRY_HOST, tracked_texts()) == []


def test_no_path_of_a_machine_in_any_file():
    assert hits(MACHINE_PATH, tracked_texts()) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRY_HOST, "--index-url https://mirror.example/simple"),
        (REGISTRY_HOST, "see files.pythonhosted.org/packages"),
        (MACHINE_PATH, 'open("/root/data.csv")'),
        (MACHINE_PATH, "cd /home/ann/penstock"),
    ],
)
def test_the_file_tests_can_fail(pattern, line):
    assert hits(pattern, [("planted", line)])


def test_help_lists_every_command():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in shown.splitlines()] == phony


def test_the_lock_pins_every_package_with_a_hash():
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    blocks = re.findall(r"^[a-z0-9][^\n]*\\\n(?:    [^\n]*\n)*", lock, re.MULTILINE)
    assert len(blocks) > 50
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)


def test_the_lock_holds_every_requirement_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    locked = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-dev.lock").read_text("utf-8"), re.MULTILINE)
    )
    apart = [line for environment in ENVIRONMENTS.values() for line in environment.packages]
    names = {re.split(r"[<>=\[; ]", line)[0] for line in wanted}
    assert names - {re.split(r"[<>=\[; ]", line)[0] for line in apart} - locked == set()


def test_the_package_pins_nothing():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert [line for line in project["dependencies"] if "==" in line or "<" in line] == []


def broken_links(texts):
    """Relative links of Markdown files that lead nowhere, as file: target."""
    links = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
    return [
        f"{name}: {target}"
        for name, text in texts
        if name.endswith(".md")
        for target in links.findall(text)
        if "://" not in target
        and not target.startswith("mailto:")
        and not (ROOT / name).parent.joinpath(target).exists()
    ]


def test_links_between_documents_lead_somewhere():
    assert broken_links(tracked_texts()) == []
    assert broken_links([("README.md", "see [this](docs/no_such_page.md)")])


def unknown_commands(texts):
    """`make X` in the code of Markdown files where the Makefile has no X, as file: X."""
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    code = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
    named = re.compile(r"(?:^|`)make ([a-z]+)", re.MULTILINE)
    return [
        f"{name}: {word}"
        for name, text in texts
        if name.endswith(".md")
        for part in code.findall(text)
        for word in named.findall(part)
        if word not in known
    ]


def test_documents_name_only_commands_that_exist():
    assert unknown_commands(tracked_texts()) == []
    assert unknown_commands([("README.md", "`make coffee`")])
    assert unknown_commands([("README.md", "```bash\nmake tea  # hot\n```\n")])
    assert unknown_commands([("README.md", "and so these\nmake everything clear")]) == []


def typed_at_first_use(text):
    """The types of our own that a call of msgspec names: it works out how to read them when it is first called."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FIRST_USE:
            given = [one.value for one in node.keywords if one.arg == "type"] or node.args[1:2]
            names = {one.id for kind in given for one in ast.walk(kind) if isinstance(one, ast.Name)}
            yield from (name for name in names if re.match("_?[A-Z][a-z]", name))


def test_how_to_read_our_types_is_worked_out_at_import_and_not_by_two_threads_at_once():
    """msgspec shows a type's plan to other threads before it is whole: two that read one for the first time crash the process."""
    found = {
        f"{path.relative_to(ROOT)}: {name}; make a msgspec.json.Decoder beside the type"
        for path in (ROOT / "src").rglob("*.py")
        for name in typed_at_first_use(path.read_text())
    }
    assert found == set()
    assert list(typed_at_first_use("msgspec.json.decode(data, type=Job)")) == ["Job"]
    assert list(typed_at_first_use("msgspec.convert(cell, list[_Stored])")) == ["_Stored"]
