"""A new service is a catalogue entry, a Compose block and its configuration. All else follows from these."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import yaml
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.plugin_utils.preflight import exposure, memory
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight
from ansible_collections.openmates.server.plugins.plugin_utils.services.memory import make_plan
from rendering import ROOT, SECRETS, merged, render, templar

NAME = "mail-relay"
ENTRY = """
  mail-relay:
    image: docker.io/example/relay:1.2.3
    memory: 64M
    user: "101:102"
    container_port: 2525
    host_port: 2526
    secrets: {RELAY_PASSWORD: "{{ openmates_cache_password }}"}
    volumes: {relay-queue: {owner: chown, backup: files}}
    scrape: static
"""
BLOCK = """
  mail-relay:
    <<: *service
    image: {{ settings.services['mail-relay'].image | openmates.server.image(settings.registry) }}
    user: "{{ settings.services['mail-relay'].user }}"
    command: [relay, --port={{ settings.services['mail-relay'].container_port }}]
    volumes:
      - ./config/mail-relay:/etc/relay:ro
      - ./secrets/mail-relay:/run/secrets:ro
      - relay-queue:/var/spool/relay
    healthcheck:
      <<: *health
      test: [CMD, relay, --check]
    mem_limit: {{ settings.services['mail-relay'].memory }}
    labels: {openmates.config: "{{ digest('mail-relay', ['mail-relay']) }}"}

networks:
  openmates:
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with that service, and with nothing else changed."""
    root = tmp_path / "project"
    for folder in ("roles/settings", "files/compose", "playbooks"):
        shutil.copytree(ROOT / folder, root / folder)
    catalogue = root / "roles/settings/defaults/main/services.yml"
    catalogue.write_text(catalogue.read_text() + ENTRY)
    compose = root / "files/compose/docker-compose.yml.j2"
    before, after = compose.read_text().split("\nnetworks:\n  openmates:\n")
    compose.write_text(before + BLOCK + after)
    config = root / "files/compose/config/mail-relay/relay.conf"
    config.parent.mkdir()
    config.write_text("queue = /var/spool/relay\n")
    return root


def value(host: Templar, expression: str) -> object:
    return host.template(trust_as_template(f"{{{{ {expression} }}}}"))


def problems(host: Templar, environment: str) -> list[str]:
    """What preflight says of exposure, ports and memory."""
    settings = {"openmates_services": value(host, "settings.services"), "openmates_environment": environment}
    settings["openmates_exposure"] = value(host, "openmates_exposure")
    run = Preflight(settings, {"memtotal_mb": 16000}, {}, {}, {}, {}, {})
    checks = (*exposure.CHECKS, *memory.CHECKS)
    return [problem for check in checks for problem in check(run)]


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_it_runs_like_every_other_service_and_is_exposed_nowhere(
    project: Path, tmp_path: Path, environment: str
) -> None:
    files, before = render(environment, tmp_path / "a", root=project), render(environment, tmp_path / "b")
    services, others = merged(files), merged(before)
    service = services.pop(NAME)
    assert (service["image"], service["mem_limit"], service["user"]) == (
        "docker.io/example/relay:1.2.3",
        "64M",
        "101:102",
    )
    assert (service["read_only"], service["cap_drop"], service["networks"]) == (True, ["ALL"], ["openmates"])
    assert "ports" not in service
    volumes = yaml.safe_load(files["docker-compose.yml"])["volumes"]
    assert volumes["relay-queue"] == {"name": "openmates-relay-queue", "labels": {"openmates.owner": "101:102"}}
    jobs = yaml.safe_load(files["config/prometheus/prometheus.yml"])["scrape_configs"]
    assert {"job_name": NAME, "static_configs": [{"targets": ["mail-relay:2525"], "labels": {"service": NAME}}]} in jobs
    del services["prometheus"]["labels"], others["prometheus"]["labels"]  # it scrapes one more
    assert services == others

    host, old = templar(environment, tmp_path / "a", root=project), templar(environment, tmp_path / "b")
    assert {
        "path": "mail-relay/RELAY_PASSWORD",
        "content": SECRETS["openmates_cache_password"],
        "owner": "101",
    } in value(host, "stack_secret_files")
    assert set(value(host, "verify_expected_services")) == {*value(old, "verify_expected_services"), NAME}
    unchanged = ("openmates_open_ports", "firewall_tcp_ports", "verify_port_names", "caddy_sites", "ssh_tools")
    assert {name: value(host, name) for name in unchanged} == {name: value(old, name) for name in unchanged}
    assert make_plan(value(host, "settings.services")).services[NAME] == 64
    assert problems(host, environment) == []


def test_a_changed_file_or_secret_recreates_it_and_no_other(project: Path, tmp_path: Path) -> None:
    def labels(**settings: object) -> dict[str, str]:
        services = merged(render("prod", tmp_path / "inventory", root=project, **settings))
        return {
            name: service["labels"]["openmates.config"] for name, service in services.items() if "labels" in service
        }

    before = labels()
    (project / "files/compose/config/mail-relay/relay.conf").write_text("queue = /elsewhere\n")
    changed = labels()
    assert {name for name in before if before[name] != changed[name]} == {NAME}
    rotated = labels(openmates_cache_password="another-cache-password")
    assert changed[NAME] != rotated[NAME]


def test_its_image_is_pulled_and_offered_to_lab_hosts(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("pull", ROOT / "roles/stack/files/pull.py")
    pull = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pull)
    services = merged(render("prod", tmp_path / "inventory", root=project))
    monkeypatch.setattr(pull, "docker", lambda *_: (0, json.dumps({"services": services}), ""))
    assert pull.declared([NAME]) == {"docker.io/example/relay:1.2.3": [NAME]}

    tasks = yaml.safe_load((ROOT / "lab/tasks/host.yml").read_text())
    (task,) = [task for task in tasks if "images.py" in str(task.get("ansible.builtin.command"))]
    host = templar("prod", tmp_path / "inventory", root=project)
    host.available_variables |= {"ansible_playbook_python": "python", "lab_directory": "lab"}
    assert "docker.io/example/relay:1.2.3" in host.template(trust_as_template(task["ansible.builtin.command"]["argv"]))


def expose(project: Path, environment: str) -> None:
    file = project / f"playbooks/group_vars/{environment}.yml"
    variables = yaml.safe_load(file.read_text())
    variables["openmates_exposure"][NAME] = "published"
    file.write_text(yaml.safe_dump(variables))


def test_one_word_of_exposure_publishes_it_in_development(project: Path, tmp_path: Path) -> None:
    expose(project, "dev")
    files = render("dev", tmp_path / "inventory", root=project)
    assert "MAIL_RELAY_PORT=2526" in files[".env"].splitlines()
    assert merged(files)[NAME]["ports"] == ["0.0.0.0:2526:2525", "[::]:2526:2525"]
    host = templar("dev", tmp_path / "inventory", root=project)
    for ports in ("openmates_open_ports", "firewall_tcp_ports", "verify_expected_ports"):
        assert 2526 in value(host, ports), ports
    assert value(host, "verify_port_names")["2526"] == NAME
    lab = yaml.safe_load((ROOT / "lab/vars.yml").read_text())["lab_localhost_ports"]
    assert "2526" in host.template(trust_as_template(lab))
    assert problems(host, "dev") == []


def test_production_does_not_let_it_be_published(project: Path, tmp_path: Path) -> None:
    expose(project, "prod")
    (problem,) = problems(templar("prod", tmp_path / "inventory", root=project), "prod")
    assert "mail-relay is published, which the architecture guidelines forbid in production" in problem
