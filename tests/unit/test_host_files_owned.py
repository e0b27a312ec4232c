"""The host_files module on a directory that it owns, in the order check, run, check, run, change; its action plugin."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.openmates.server.plugins.action import host_files as action
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
from ansible_collections.openmates.server.plugins.modules import host_files

FILES = [{"path": "app/settings.yml", "content": "debug: false\n"}, {"path": "top.txt", "content": "grüße\n"}]
Tree = Callable[..., dict]


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "dest"


@pytest.fixture
def tree(run_module: Callable[..., dict], dest: Path) -> Tree:
    """Run the module on dest."""

    def run(files: list[dict], **options: object) -> dict:
        modes = {"directory_mode": "0755", "dest_mode": "0755", **options}
        result = run_module(host_files.main, dest=str(dest), files=files, **modes)
        for paths in ("written", "corrected", "removed"):
            result[paths] = [os.path.relpath(path, dest) for path in result.get(paths, [])]
        return result

    return run


def snapshot(folder: Path) -> dict[str, tuple]:
    """Everything below a directory: kind, permissions, inode and text."""
    return {
        str(path.relative_to(folder)): (
            stat.filemode(path.lstat().st_mode),
            path.lstat().st_ino,
            path.read_text() if path.is_file() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------- the ladder


def test_check_run_check_run_change(tree: Tree, dest: Path) -> None:
    promised = tree(FILES, check=True, diff=True)
    assert promised["changed"] and not dest.exists()

    done = tree(FILES, diff=True)
    assert done == promised
    assert (done["written"], done["removed"]) == (["app/settings.yml", "top.txt"], [])
    assert done["corrected"] == [".", "app"]
    assert (dest / "app/settings.yml").read_text() == "debug: false\n"
    assert (dest / "top.txt").read_text() == "grüße\n"

    before = snapshot(dest)
    for check in (True, False):
        result = tree(FILES, check=check, diff=True)
        assert (result["changed"], result["written"], result["diff"]) == (False, [], [])
    assert snapshot(dest) == before

    changed = [{**FILES[0], "content": "debug: true\n"}, FILES[1]]
    promised = tree(changed, check=True, diff=True)
    assert snapshot(dest) == before
    assert tree(changed, diff=True) == promised
    assert promised["written"] == ["app/settings.yml"]
    assert (dest / "app/settings.yml").read_text() == "debug: true\n"
    assert snapshot(dest)["top.txt"] == before["top.txt"]


def test_permissions_are_those_asked_for_whatever_the_umask(tree: Tree, dest: Path) -> None:
    previous = os.umask(0o077)
    try:
        tree([*FILES, {"path": "run.sh", "content": "", "mode": "0755"}], file_mode="0640", dest_mode="0711")
    finally:
        os.umask(previous)
    modes = {name: permissions(dest / name) for name in (".", "app", "app/settings.yml", "run.sh")}
    assert modes == {".": 0o711, "app": 0o755, "app/settings.yml": 0o640, "run.sh": 0o755}


@pytest.mark.parametrize(("path", "mode"), [("top.txt", 0o666), ("app", 0o777), (".", 0o700)])
def test_wrong_permissions_are_corrected(tree: Tree, dest: Path, path: str, mode: int) -> None:
    tree(FILES)
    right = permissions(dest / path)
    (dest / path).chmod(mode)
    assert tree(FILES, check=True)["changed"]
    assert permissions(dest / path) == mode
    assert tree(FILES)["changed"]
    assert permissions(dest / path) == right
    assert not tree(FILES)["changed"]


def test_a_directory_alone_is_a_change(tree: Tree, dest: Path) -> None:
    assert tree([], check=True)["changed"] and not dest.exists()
    assert tree([])["changed"] and dest.is_dir()
    assert not tree([])["changed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_gets_its_owner_and_a_wrong_one_is_corrected(tree: Tree, dest: Path) -> None:
    secret = [{"path": "api/TOKEN", "content": "a value", "owner": "1000", "mode": "0400"}]
    tree(secret)
    token = dest / "api/TOKEN"
    for folder, uid in ((token, 1000), (token.parent, 0)):
        assert (folder.stat().st_uid, folder.stat().st_gid) == (uid, uid)
    assert not tree(secret)["changed"]
    os.chown(token, 0, 0)
    assert tree(secret)["corrected"] == ["api/TOKEN"]
    assert token.stat().st_uid == 1000


# ---------------------------------------------------------------- purge


def test_purge_removes_undeclared_files_and_keeps_listed_ones(tree: Tree, dest: Path) -> None:
    tree(FILES)
    for path in ("stale.txt", "app/stale.yml", "state/a", "state/b/c", "marker"):
        (dest / path).parent.mkdir(parents=True, exist_ok=True)
        (dest / path).write_text(f"{path}\n")
    assert not tree(FILES, keep=["state", "marker"])["changed"]

    promised = tree(FILES, purge=True, keep=["state", "marker"], check=True, diff=True)
    assert (dest / "stale.txt").exists()
    done = tree(FILES, purge=True, keep=["state", "marker"], diff=True)
    assert done == promised
    assert (done["removed"], done["written"]) == (["app/stale.yml", "stale.txt"], [])
    assert done["diff"][0]["before"] == "app/stale.yml\n"
    assert sorted(path for path, (kind, *_) in snapshot(dest).items() if kind[0] == "-") == [
        *("app/settings.yml", "marker", "state/a", "state/b/c", "top.txt"),
    ]
    assert not tree(FILES, purge=True, keep=["state", "marker"])["changed"]


def test_purge_keeps_files_declared_by_an_unusual_path(tree: Tree, dest: Path) -> None:
    files = [{"path": "./app//settings.yml", "content": "a\n"}]
    assert tree(files, purge=True)["removed"] == []
    assert (dest / "app/settings.yml").exists()
    assert not tree(files, purge=True)["changed"]


def test_purge_removes_a_link_and_not_what_it_leads_to(tree: Tree, dest: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("precious")
    tree(FILES)
    (dest / "link").symlink_to(tmp_path / "outside")
    assert tree(FILES, purge=True)["removed"] == ["link"]
    assert (tmp_path / "outside/file").read_text() == "precious"


# ---------------------------------------------------------------- what stands in the way


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "app/../../outside", ".", ""])
def test_a_path_that_is_not_below_dest_is_refused_before_anything_is_written(tree: Tree, dest: Path, path: str) -> None:
    result = tree([*FILES, {"path": path, "content": "x"}])
    assert result["failed"] and f"not below {dest}" in result["msg"]
    assert not dest.exists()


def test_a_path_given_twice_is_refused(tree: Tree, dest: Path) -> None:
    result = tree([*FILES, {"path": "./top.txt", "content": "another"}])
    assert result["failed"] and "given twice" in result["msg"]
    assert not dest.exists()


def test_a_link_instead_of_a_file_is_replaced_and_not_followed(tree: Tree, dest: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text(FILES[1]["content"])
    tree(FILES)
    (dest / "top.txt").unlink()
    (dest / "top.txt").symlink_to(outside)
    assert tree(FILES, check=True)["written"] == ["top.txt"]
    assert tree(FILES)["written"] == ["top.txt"]
    assert not (dest / "top.txt").is_symlink()
    assert outside.read_text() == FILES[1]["content"]
    assert not tree(FILES)["changed"]


@pytest.mark.parametrize("purge", [True, False])
@pytest.mark.parametrize("obstacle", ["link", "dangling link", "file"])
def test_what_stands_where_a_directory_belongs_is_replaced(
    tree: Tree, dest: Path, tmp_path: Path, obstacle: str, purge: bool
) -> None:
    outside = tmp_path / "outside"
    dest.mkdir()
    if obstacle == "file":
        (dest / "app").write_text("was a file once\n")
    else:
        (dest / "app").symlink_to(outside)
    if obstacle == "link":
        outside.mkdir(mode=0o700)
        (outside / "settings.yml").write_text(FILES[0]["content"])
    promised = tree(FILES, purge=purge, check=True)
    done = tree(FILES, purge=purge)
    assert done == promised
    assert done["written"] == ["app/settings.yml", "top.txt"]
    assert (dest / "app").is_dir() and not (dest / "app").is_symlink()
    if obstacle == "link":
        assert permissions(outside) == 0o700
        assert list(outside.iterdir()) == [outside / "settings.yml"]
    assert not tree(FILES, purge=purge)["changed"]


def test_dest_itself_may_be_a_link_to_another_disk(tree: Tree, dest: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    dest.symlink_to(tmp_path / "disk")
    assert tree(FILES, purge=True)["changed"]
    assert dest.is_symlink() and (tmp_path / "disk/top.txt").exists()
    assert not tree(FILES, purge=True)["changed"]


def test_a_directory_where_a_file_belongs_is_not_removed(tree: Tree, dest: Path) -> None:
    (dest / "top.txt/data").mkdir(parents=True)
    result = tree(FILES)
    assert result["failed"] and "top.txt is a directory" in result["msg"]
    assert (dest / "top.txt/data").is_dir() and not (dest / "app").exists()


@pytest.mark.parametrize("step", ["fsync", "fchown", "fchmod"])
def test_an_interrupted_write_leaves_the_old_file_whole_and_nothing_else(
    tree: Tree, dest: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(FILES)
    before = snapshot(dest)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        result = tree([FILES[0], {"path": "top.txt", "content": "new\n"}])
    assert result["failed"] and "No space left" in result["msg"]
    assert snapshot(dest) == before
    assert tree([FILES[0], {"path": "top.txt", "content": "new\n"}])["written"] == ["top.txt"]


def test_a_run_that_was_killed_while_it_wrote_is_cleaned_up_by_the_next(
    tree: Tree, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(FILES)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: os._exit(9))
        child = os.fork()
        if not child:
            write_atomically(dest / "top.txt", b"half", 0o644)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (dest / "top.txt").read_text() == FILES[1]["content"]
    [left] = tree(FILES, purge=True)["removed"]
    assert left.startswith(".")
    assert not tree(FILES, purge=True)["changed"]


# ---------------------------------------------------------------- diff


def test_the_diff_holds_old_and_new_text_only_when_it_is_asked_for(tree: Tree, dest: Path) -> None:
    tree(FILES)
    changed = [FILES[0], {"path": "top.txt", "content": "new\n"}]
    assert tree(changed, check=True)["diff"] == []
    assert tree(changed, check=True, diff=True)["diff"] == [
        {"before_header": f"{dest}/top.txt", "after_header": f"{dest}/top.txt", "before": "grüße\n", "after": "new\n"}
    ]


def test_a_file_that_is_not_text_is_replaced(tree: Tree, dest: Path) -> None:
    tree(FILES)
    (dest / "top.txt").write_bytes(b"\xff\xfe\x00")
    assert tree(FILES, diff=True)["written"] == ["top.txt"]
    assert (dest / "top.txt").read_text() == FILES[1]["content"]


# ---------------------------------------------------------------- the action plugin


def render(source: Path, exclude: list[str] | None = None, **variables: object) -> dict[str, dict]:
    """What the action plugin makes of a directory, by path."""
    loader = DataLoader()
    plugin = action.ActionModule(None, None, None, loader, Templar(loader, variables), None)
    return {file["path"]: file for file in plugin._render(source, exclude or [], variables)}


def test_templates_are_rendered_and_other_files_copied(tmp_path: Path) -> None:
    (tmp_path / "config/app").mkdir(parents=True)
    (tmp_path / "config/app/app.conf.j2").write_text("name = {{ name }}\n{% if name %}\nset = yes\n{% endif %}\n")
    (tmp_path / "config/app/start.sh").write_text("echo {{ not a template }}\n")
    files = render(tmp_path, name="openmates")
    assert files["config/app/app.conf"]["content"] == "name = openmates\nset = yes\n"
    assert files["config/app/start.sh"]["content"] == "echo {{ not a template }}\n"
    assert {path: file["mode"] for path, file in files.items()} == {
        "config/app/app.conf": None,
        "config/app/start.sh": "0755",
    }


@pytest.mark.parametrize(("text", "expected"), [("{{ 8000 }}\n", "8000\n"), ("{{ 8000 }}", "8000"), ("{# #}", "")])
def test_what_a_template_gives_is_text(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "value.j2").write_text(text)
    assert render(tmp_path)["value"]["content"] == expected


def test_an_entry_without_content_sets_attributes_of_a_rendered_file(run_module: Callable, tmp_path: Path) -> None:
    rendered = [{"path": "a", "content": "1\n", "mode": None}, {"path": "b.sh", "content": "2\n", "mode": "0755"}]
    given = [{"path": "b.sh", "mode": "0600"}, {"path": "c", "content": "3\n"}, {"path": "typo", "mode": "0600"}]
    files = action.with_attributes(rendered, given)
    assert [(file["path"], file.get("mode")) for file in files] == [
        *(("a", None), ("b.sh", "0600"), ("typo", "0600"), ("c", None)),
    ]
    result = run_module(host_files.main, dest=str(tmp_path / "dest"), files=files)
    assert result["failed"] and "'typo' has no content" in result["msg"] and not (tmp_path / "dest").exists()
    assert run_module(host_files.main, dest=str(tmp_path / "dest"), files=files[:2])["changed"]
    assert permissions(tmp_path / "dest/b.sh") == 0o600


def test_excluded_files_are_named_as_on_the_host(tmp_path: Path) -> None:
    for name in ("one.yml.j2", "two.yml"):
        (tmp_path / name).write_text("a: 1\n")
    assert set(render(tmp_path, ["one.yml"])) == {"two.yml"}


def test_compiled_python_beside_a_program_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "config/bin/__pycache__").mkdir(parents=True)
    (tmp_path / "config/bin/ready.py").write_text("print()\n")
    (tmp_path / "config/bin/__pycache__/ready.pyc").write_bytes(b"\xa7\r\r\n")
    assert set(render(tmp_path)) == {"config/bin/ready.py"}


def test_files_at_the_top_know_the_digests_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config/app").mkdir(parents=True)
    (tmp_path / "compose.yml.j2").write_text("digest: {{ config_digests.app }}\n")
    texts = []
    for value in ("one", "two", "one"):
        (tmp_path / "config/app/app.conf.j2").write_text(f"{{{{ '{value}' }}}}\n")
        texts.append(render(tmp_path)["compose.yml"]["content"])
    assert texts[0] == texts[2] != texts[1]


def test_a_template_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.yml.j2").write_text("{{ nobody_set_this }}\n")
    with pytest.raises(AnsibleActionFail, match=r"broken\.yml\.j2.*nobody_set_this"):
        render(tmp_path)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="missing is not a directory"):
        render(tmp_path / "missing")


def test_digests_are_a_directorys_own() -> None:
    contents = {"config/a/x": "1", "config/a/deep/y": "2", "config/b/x": "1", "config/loose": "3", "other/a/x": "4"}
    digests = action.config_digests(contents)
    assert set(digests) == {"a", "b"}
    assert action.config_digests({**contents, "config/a/deep/y": "3"})["b"] == digests["b"]
    assert action.config_digests({**contents, "config/a/deep/y": "3"})["a"] != digests["a"]
    assert action.config_digests({**contents, "config/a/z": ""})["a"] != digests["a"]
    assert action.config_digests(dict(reversed(contents.items()))) == digests


def test_the_answer_does_not_repeat_what_was_written(tmp_path: Path, run_module: Callable[..., dict]) -> None:
    files = [{"path": "TOKEN", "content": "what must not be shown"}]
    result = run_module(host_files.main, dest=str(tmp_path / "secrets"), files=files)
    assert result["invocation"]["module_args"]["files"] == ["TOKEN"]
    assert "what must not be shown" not in json.dumps(result)
