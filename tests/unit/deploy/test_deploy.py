"""What stands in deploy/ is well formed, closed, pinned and limited. It is not run here: see deploy/README.md."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.31"


def compose(values=None):
    """The compose file with its variables filled in and its merges made."""
    text = (DEPLOY / "compose.yaml").read_text()
    return yaml.safe_load(VARIABLE.sub(lambda found: (values or {}).get(found[1], "/x"), text))


def services():
    return compose()["services"]


def manifests():
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text())]


def pods():
    return [
        one["spec"]["template"]["spec"] for one in manifests() if one["kind"] in {"StatefulSet", "Deployment"}
    ]


def parsed(document):
    """The compose file as a strict reader of the specification takes it; raises ValueError."""
    if find_spec("compose_spec") is None:
        pytest.skip("compose-spec is not installed: make setup")
    from compose_spec import PyCompose

    return PyCompose.from_yaml(yaml.safe_dump(document))


def test_the_compose_file_follows_the_specification():
    assert set(parsed(compose()).service_names()) == set(services())


def test_a_wrong_compose_file_is_found():
    document = compose()
    document["services"]["penstock"]["prots"] = ["8000"]
    with pytest.raises(ValueError, match="prots"):
        parsed(document)


@pytest.mark.parametrize("name", sorted(services()))
def test_every_service_is_pinned_limited_and_watched(name):
    service = services()[name]
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"]), service["image"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert "healthcheck" in service or service["image"].startswith("penstock:"), (
        "penstock's image brings its own"
    )
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{port} is open to the network"
    for needed in service.get("depends_on", {}):
        assert services()[needed]
        missing = set(services()[needed].get("profiles", [])) - set(service.get("profiles", []))
        assert not missing, f"{needed} is not started where {name} is"


def test_what_is_mounted_exists():
    for name, service in services().items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            named = source in compose()["volumes"]
            assert named or source == "/x" or (DEPLOY / source).exists(), f"{name}: {volume}"


def test_every_variable_is_in_the_example_and_no_secret_has_a_value():
    used = {found[1] for found in VARIABLE.finditer((DEPLOY / "compose.yaml").read_text())}
    lines = [
        line for line in (DEPLOY / ".env.example").read_text().splitlines() if "=" in line and line[0] != "#"
    ]
    given = dict(line.split("=", 1) for line in lines)
    assert used == set(given)
    assert not any(value for name, value in given.items() if "PASSWORD" in name)


def test_prometheus_scrapes_services_that_there_are():
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    hosts = {
        target.split(":")[0] for job in jobs for one in job["static_configs"] for target in one["targets"]
    }
    assert hosts <= set(services())


def test_the_manifests_follow_the_schemas_of_kubernetes():
    if find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed: make setup")
    import kubernetes_validate

    for document in manifests():
        if document["kind"] != "Kustomization":
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    wrong = next(one for one in manifests() if one["kind"] == "Deployment")
    wrong["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_kustomize_names_every_manifest():
    named = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(named) == [path.name for path in MANIFESTS if path.name != "kustomization.yaml"]


def test_no_pod_may_more_than_it_must():
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert not pod["automountServiceAccountToken"]
        for container in [*pod["containers"], *pod["initContainers"]]:
            closed = container["securityContext"]
            assert closed["readOnlyRootFilesystem"]
            assert not closed["allowPrivilegeEscalation"]
            assert closed["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]
            mounted = {one["name"] for one in container["volumeMounts"]}
            claims = {"project"} if pod["volumes"][0]["name"] == "definitions" else set()
            assert mounted <= {volume["name"] for volume in pod["volumes"]} | claims


def test_the_image_is_nobodys_and_built_from_what_there_is():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    stages = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(stages) == 2
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-bookworm", stage) for stage in stages)
    assert lines.index("USER penstock") < lines.index("WORKDIR /project")
    copied = next(line for line in lines if line.startswith("COPY pyproject")).split()[1:-1]
    assert all((ROOT / name).is_file() for name in copied)
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(let_in)
    import tomllib

    extras = re.search(r"\.\[([a-z,]+)\]", "\n".join(lines))[1].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras) <= set(project["optional-dependencies"])


def test_the_development_container_calls_what_there_is():
    found = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / found["build"]["dockerfile"]).is_file()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = re.findall(r"make ([a-z-]+)", f"{found['postCreateCommand']} {found['postStartCommand']}")
    assert asked
    assert set(asked) <= targets
