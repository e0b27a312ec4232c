"""The built collection is complete, works without a checkout, and creates an operator's project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from installed import GIVEN, ROOT, Operator

SERVER_VERBS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml") if path.stem not in ("new", "scan"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with the installed collection, for tests that change nothing in it."""
    operator = Operator(tmp_path_factory.mktemp("home"))
    operator.install()
    return operator.home


@pytest.fixture
def operator(home: Path) -> Operator:
    """An operator with the installed collection and an empty directory."""
    shutil.rmtree(home / "work")
    return Operator(home)


# --- what is shipped ----------------------------------------------------------------------------------------------


def code(collection: Path) -> dict[str, str]:
    """The files that run on a controller or a server, by path, without Markdown."""
    folders = [collection / name for name in ("plugins", "roles", "playbooks", "files", "meta")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"]
    return {str(path.relative_to(collection)): path.read_text() for path in files if "__pycache__" not in path.parts}


def test_only_what_works_without_a_checkout_is_shipped(operator: Operator) -> None:
    shipped = {path.name for path in operator.collection.iterdir()}
    parts = {"plugins", "roles", "playbooks", "files", "meta", "docs"}
    assert shipped == parts | {"CHANGELOG.md", "LICENSE", "MANIFEST.json", "FILES.json"}
    assert {path.suffix for path in (operator.collection / "docs").iterdir()} == {".md"}
    for part in sorted(parts - {"docs"}):
        source = {str(path.relative_to(ROOT)) for path in (ROOT / part).rglob("*") if path.is_file()}
        source = {path for path in source if "__pycache__" not in path}
        there = {str(path.relative_to(operator.collection)) for path in (operator.collection / part).rglob("*")}
        assert source <= there, source - there


#: Directories and files of the checkout, and commands that need it.
UNSHIPPED = re.compile(
    r"(?<![\w/.-])(?:\.\./)*(?:(?:lab|tests|inventories|extensions|contract|\.lab)/|Makefile\b)"
    r"|`make [a-z]|ansible-playbook (?:site\.yml|playbooks/)"
)


def references(text: str) -> list[str]:
    return [match[0] for match in UNSHIPPED.finditer(text)]


@pytest.mark.parametrize(
    "text",
    [
        "see tests/unit",
        "{{ role_path }} ../lab/x",
        "run `make lab`",
        "of a Makefile",
        "ansible-playbook playbooks/unseal.yml",
    ],
)
def test_a_reference_to_the_checkout_is_found(text: str) -> None:
    assert references(text)


def test_nothing_shipped_refers_to_what_is_not(operator: Operator) -> None:
    found = {path: references(text) for path, text in code(operator.collection).items()}
    assert {path: names for path, names in found.items() if names} == {}


def test_links_between_the_shipped_pages_lead_somewhere(operator: Operator) -> None:
    for page in [*operator.collection.glob("docs/*.md"), *operator.collection.glob("roles/*/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_collection_that_is_used_is_a_dependency(operator: Operator) -> None:
    """Every one that is named, in a task, a lookup or an import; and no other."""
    text = "\n".join(code(operator.collection).values())
    named = re.findall(r"\b((?:community|ansible|hetzner|netbox)\.[a-z_]+)\.[a-z_0-9]+:", text)
    named += re.findall(r"(?:query|lookup)\('((?!ansible\.builtin|openmates)[a-z_]+\.[a-z_]+)\.", text)
    named += re.findall(r"group/([a-z_]+\.[a-z_]+)\.", text)
    named += re.findall(r"ansible_collections\.((?!openmates)[a-z_]+\.[a-z_]+)", text)
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    # hetzner.hcloud is for one playbook that few need: its role refuses to go on without it and names the command.
    optional = {"hetzner.hcloud"}
    assert set(named) - {"ansible.builtin", "ansible.legacy"} == set(galaxy["dependencies"]) | optional
    assert not optional & set(galaxy["dependencies"])
    assert "ansible-galaxy collection install 'hetzner.hcloud" in text


# --- every verb ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(home: Path) -> Operator:
    """A project with both environments, for tests that change nothing in it."""
    shutil.rmtree(home / "work")
    operator = Operator(home)
    operator.succeed(*operator.new(*GIVEN, "-e", "new_address=192.0.2.7"))
    operator.succeed(*operator.new("-e", "openmates_admin_email=a@mates.org", environment="dev"))
    operator.directory = Path(shutil.move(home / "work/operations", home / "project"))
    return operator


def test_each_verb_is_found_by_its_name_and_selects_the_servers(project: Operator) -> None:
    command = ["ansible-playbook", *(f"openmates.server.{verb}" for verb in SERVER_VERBS), "--list-hosts"]
    listed = project.succeed(*command, "-i", "prod")
    verbs = re.findall(r"^playbook: \S+/(\w+)\.yml$(.*?)(?=^playbook: |\Z)", listed, re.MULTILINE | re.DOTALL)
    assert sorted(verb for verb, _ in verbs) == SERVER_VERBS
    for verb, hosts in verbs:
        assert re.search(r"hosts \(1\):\s+openmates-prod\b", hosts), verb


def test_an_inventory_without_a_server_is_refused_by_each_verb(project: Operator) -> None:
    assert "has no server" in project.refused("ansible-playbook", "openmates.server.verify", "-i", "localhost,")
    for verb in SERVER_VERBS:
        plays = yaml.safe_load((ROOT / f"playbooks/{verb}.yml").read_text())
        selected = {play["hosts"] for play in plays if "hosts" in play}
        assert selected == {"{{ query('openmates.server.servers') }}"}, verb


@pytest.mark.parametrize("verb", SERVER_VERBS)
def test_a_misspelt_tag_is_refused_before_a_connection(project: Operator, verb: str) -> None:
    misspelt = project.refused("ansible-playbook", f"openmates.server.{verb}", "-i", "prod", "--tags", "stakc")
    assert f"openmates.server.{verb} was not started" in misspelt
    assert "--tags stakc: no task has this tag." in misspelt
    assert ("Did you mean stack?" in misspelt) == (verb == "site")


def test_a_misspelt_tag_to_skip_and_a_limit_to_no_server_are_refused(project: Operator) -> None:
    command = ["ansible-playbook", "openmates.server.site", "-i", "prod"]
    assert "--skip-tags vrefiy: no task has this tag. Did you mean verify?" in (
        project.refused(*command, "--skip-tags", "vrefiy,molecule-notest,notest")
    )
    assert "no hosts to target" in project.refused(*command, "--limit", "openmates-prd")
    project.succeed(*command, "--syntax-check")


def test_a_message_names_the_command_as_the_operator_has_it(project: Operator) -> None:
    output = project.refused("ansible-playbook", "openmates.server.rotate", "-i", "prod")
    assert "Example: ansible-playbook openmates.server.rotate -i prod -e vault_rotate_path=" in output


def test_what_the_operator_keeps_lies_beside_the_inventory(project: Operator) -> None:
    probe = project.directory / "probe.yml"
    settings = {"name": "openmates.server.settings"}
    names = ("secrets_file", "vault_keys_file", "vault_snapshots", "directus_schema")
    tasks = [
        {"ansible.builtin.import_role": {**settings, "public": True, "rolespec_validate": False}},
        {"ansible.builtin.debug": {"msg": "FILE {{ settings[item] }} FILE"}, "loop": list(names)},
    ]
    wiring = [str(project.collection / "playbooks/group_vars" / name) for name in ("prod.yml", "all/files.yml")]
    play = {"hosts": "prod", "gather_facts": False, "tasks": tasks, "vars_files": wiring}
    probe.write_text(yaml.safe_dump([play]))
    try:
        shown = " ".join(project.succeed("ansible-playbook", probe, "-i", "prod").split())
        files = re.findall(r"FILE (\S+) FILE", shown)
    finally:
        probe.unlink()
    kept = {str(Path(file).relative_to(project.directory)) for file in files}
    assert kept == {
        "prod/group_vars/prod/secrets.yml",
        "vault-keys/prod/openmates-prod.yml",
        "vault-snapshots/prod",
        "directus/prod.json",
    }


# --- the playbook new ---------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_new_creates_a_project_that_lacks_nothing_but_what_it_names(operator: Operator) -> None:
    given = {
        "openmates_ssh_port": 2222,
        "openmates_ssh_sources": ["192.0.2.0/24"],
        "openmates_backend_environment": {"A": "b"},
    }
    arguments = [part for name, value in given.items() for part in ("-e", f"{name}={_text(value)}")]
    output = operator.succeed(*operator.new(*arguments, "-vvv"))
    folder = operator.directory / "operations"
    assert set(contents(folder)) == {
        *(".gitignore", ".vault-password", "ansible.cfg", "requirements.txt", "requirements.yml"),
        *("prod/hosts.yml", "prod/group_vars/prod/main.yml", "prod/group_vars/prod/secrets.yml"),
    }
    assert (folder / ".vault-password").stat().st_mode & 0o777 == 0o600
    settings = yaml.safe_load((folder / "prod/group_vars/prod/main.yml").read_text())
    assert given.items() <= settings.items()
    assert yaml.safe_load((folder / "prod/hosts.yml").read_text()) == {
        "prod": {"hosts": {"openmates-prod": {"ansible_host": "203.0.113.10"}}}
    }
    settings_file = "prod/group_vars/prod/main.yml"
    for name in ("openmates_domain", "openmates_admin_email", "openmates_frontend_urls"):
        assert f"{name} in {settings_file} is a placeholder" in output
    assert "ansible_host in prod/hosts.yml is a placeholder" in output
    assert "ansible-playbook openmates.server.bootstrap -i prod" in output
    operator.directory = folder
    secrets = yaml.safe_load(operator.decrypted("prod/group_vars/prod/secrets.yml"))
    assert all(len(value) >= 14 for value in secrets.values())
    password = (folder / ".vault-password").read_text().strip()
    assert not [value for value in (*secrets.values(), password) if value in output]


def test_what_git_ignores_is_the_password_and_nothing_that_the_operator_must_keep(project: Operator) -> None:
    subprocess.run(["git", "init", "--quiet", project.directory], check=True)
    keys = project.directory / "vault-keys/prod/openmates-prod.yml"
    keys.parent.mkdir(parents=True)
    keys.touch()
    command = ["git", "-C", str(project.directory), "status", "--porcelain", "--untracked-files=all"]
    try:
        status = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        shutil.rmtree(project.directory / ".git")
        shutil.rmtree(project.directory / "vault-keys")
    kept = {line.split()[1] for line in status.splitlines()}
    assert {"vault-keys/prod/openmates-prod.yml", "prod/group_vars/prod/secrets.yml", "ansible.cfg"} <= kept
    assert ".vault-password" not in kept


def test_new_adds_an_environment_and_overwrites_nothing(operator: Operator) -> None:
    folder = operator.directory / "operations"
    operator.succeed(*operator.new(*GIVEN))
    before = contents(folder)
    refused = operator.refused(*operator.new(*GIVEN))
    assert f"new_environment: {folder}/prod/hosts.yml exists and is never overwritten" in refused
    assert contents(folder) == before
    operator.succeed(*operator.new(environment="dev"))
    assert before.items() <= contents(folder).items()
    operator.directory = folder
    for environment in ("prod", "dev"):
        operator.decrypted(f"{environment}/group_vars/{environment}/secrets.yml")


REFUSED = {
    "arguments": {
        "new_environment=staging": "new_environment must be one of prod, dev, not `staging`",
        "new_adress=192.0.2.7": "new_adress is not an argument of this playbook. Did you mean new_address?",
    },
    "settings": {
        "openmates_domian=api.mates.org": "Did you mean openmates_domain?",
        "openmates_ssh_port=x": "openmates_ssh_port in the command line (-e) must be a whole number",
    },
    "values": {
        "openmates_domain=localhost": "openmates_domain in the command line (-e): 'localhost' is not a domain",
        "openmates_admin_email=me": "'me' is not an e-mail address",
        "new_host=a_b": "new_host: `a_b` is not a name for a host",
        "new_address=root@192.0.2.7": "new_address: `root@192.0.2.7` is neither an address nor a name",
        "new_directory=full": "holds something else (photos). Name a new or an empty directory.",
        "openmates_admin_password=canary": "openmates_admin_password: a secret would be in plaintext",
    },
    "a file": {"new_directory=full/photos": "photos is a file. Name a directory."},
}


@pytest.mark.parametrize("case", REFUSED)
def test_new_refuses_what_is_wrong_and_writes_nothing(operator: Operator, case: str) -> None:
    (operator.directory / "full").mkdir()
    (operator.directory / "full/photos").touch()
    output = operator.refused(*operator.new(*(part for text in REFUSED[case] for part in ("-e", text))))
    assert [words for words in REFUSED[case].values() if words not in output] == []
    assert "canary" not in output
    assert set(contents(operator.directory)) == {"full/photos"}


def test_new_completes_what_was_cut_off_and_keeps_the_password_out_of_a_repository(operator: Operator) -> None:
    folder = operator.directory / "operations"
    folder.mkdir(mode=0o700)
    (folder / ".gitignore").write_text("*.pyc\n")
    operator.succeed(*operator.new(*GIVEN))
    assert (folder / ".gitignore").read_text().splitlines() == ["*.pyc", "/.vault-password"]
    assert folder.stat().st_mode & 0o777 == 0o700
    before = contents(folder)
    (folder / "prod/hosts.yml").unlink()  # the last file that is written
    operator.succeed(*operator.new(*GIVEN))
    assert contents(folder) == before


def test_new_requires_a_directory_and_an_environment(operator: Operator) -> None:
    output = operator.refused("ansible-playbook", "openmates.server.new")
    assert "new_directory is missing: the directory of the project." in output
    assert "new_environment is missing" in output


def test_new_takes_the_password_of_the_run(operator: Operator) -> None:
    password = operator.directory / "password"
    password.write_text("of the run")
    operator.succeed(*operator.new(*GIVEN, "--vault-password-file", str(password)))
    folder = operator.directory / "operations"
    assert not (folder / ".vault-password").exists()
    operator.directory = folder
    assert "openmates_admin_password" in operator.decrypted("prod/group_vars/prod/secrets.yml")
    password.rename(operator.home / "work/elsewhere")
    operator.refused("ansible-vault", "view", "prod/group_vars/prod/secrets.yml")


def test_make_new_is_the_same_playbook_from_a_checkout() -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "new", "DIR=/nowhere/operations", "ENV=dev", "DOMAIN=api.mates.org"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    for part in (
        "ansible-playbook openmates.server.new",
        'dir="/nowhere/operations"',
        '{"new_directory": sys.argv[1]}',
        "-e new_environment=dev",
        "-e openmates_domain=api.mates.org",
        f'ANSIBLE_COLLECTIONS_PATH="{ROOT}/collections"',
    ):
        assert part in recipe


def test_a_dry_run_of_new_writes_nothing(operator: Operator) -> None:
    output = operator.succeed(*operator.new(*GIVEN, "--check"))
    assert "operations would be created" in output and contents(operator.directory) == {}


def test_new_names_the_password_of_a_second_environment_that_ansible_cfg_lacks(operator: Operator) -> None:
    """As it is never overwritten. With the line that is named, the files of both environments open."""
    operator.succeed(*operator.new(*GIVEN))
    password = operator.directory / "second"
    password.write_text("of the second environment")
    output = operator.succeed(*operator.new("--vault-id", f"dev@{password}", environment="dev"))
    line = re.search(r"vault_identity_list = (dev@[^\s']+)", output)
    assert line and "ansible.cfg does not name the password that opens dev/group_vars/dev/secrets.yml" in output
    operator.directory /= "operations"
    operator.refused("ansible-vault", "view", "dev/group_vars/dev/secrets.yml")
    config = operator.directory / "ansible.cfg"
    config.write_text(config.read_text().replace("[defaults]", f"[defaults]\n{line[0]}"))
    for environment in ("prod", "dev"):
        operator.decrypted(f"{environment}/group_vars/{environment}/secrets.yml")
