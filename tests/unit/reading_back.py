"""Reads rendered files as the programs do that they are for, down to single texts by place."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Leaves = dict[tuple, str]
ROOT = Path(__file__).parents[2]
# The Compose specification's interpolation: $$, $NAME, ${NAME}, ${NAME:-default}. Anything else with a $ is an error.
_INTERPOLATED = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w+)(?::?-(?P<default>[^}$]*))?\}|(?P<plain>\w+))", re.A)
_PRINTABLE = re.compile("[\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


class Loader(yaml.CSafeLoader):
    """YAML as Compose's parser takes it, which refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"a key is there twice: {sorted(keys)}"
        return super().construct_mapping(node, deep)


def structure(document: Any, place: tuple = ()) -> Iterator[tuple[tuple, str]]:
    """Every text, number and boolean of a document with its place."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from structure(value, (*place, str(key)))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from structure(value, (*place, number))
    else:
        yield place, document if isinstance(document, str) else json.dumps(document)


def compose(text: str, variables: dict[str, str]) -> Leaves:
    """A Compose file: YAML first, then its values' interpolation."""

    def value(match: re.Match) -> str:
        if match["dollar"]:
            return "$"
        name = match["braced"] or match["plain"]
        assert name in variables or match["default"] is not None, f"Compose has no variable {name}"
        return variables.get(name, match["default"])

    def interpolated(text: str) -> str:
        assert "$" not in _INTERPOLATED.sub("", text), f"Compose refuses {text!r}"
        return _INTERPOLATED.sub(value, text)

    assert _PRINTABLE.fullmatch(text), "YAML has no such character outside of an escape"
    found: Leaves = {}
    for place, leaf in structure(yaml.load(text, Loader=Loader)):
        value_read = interpolated(leaf)
        found |= directus_json(place, value_read) if value_read.startswith("json:") else {place: value_read}
    return found


def directus_json(place: tuple, text: str) -> Leaves:
    """A list or mapping in Directus's environment. A text that only begins like one is one."""
    try:
        return dict(structure(json.loads(text.removeprefix("json:")), place))
    except ValueError:
        return {place: text}


def environment_file(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def json_file(text: str) -> Leaves:
    return dict(structure(json.loads(text)))


def docker_logins(text: str) -> Leaves:
    """Docker's config.json: user name and password of each registry, with a colon between them, in base64."""
    logins = json.loads(text)["auths"]
    pairs = {host: base64.b64decode(login["auth"]).decode().split(":", 1) for host, login in logins.items()}
    return dict(structure(pairs))


def yaml_file(text: str) -> Leaves:
    return dict(structure(yaml.load(text, Loader=Loader)))


def caddyfile(text: str) -> Leaves:
    """The words of each line, by Caddy's lexer: a quoted text is one word, and # at the start of one is a comment."""
    assert not re.search(r"\{\$", text), "Caddy puts a variable of its environment there"
    words = re.compile(r'\s*(?:(#.*)|"((?:[^"\\]|\\.)*)"|`([^`]*)`|(\S+))')
    found: Leaves = {}
    for number, line in enumerate(text.split("\n")):
        for index, match in enumerate(words.finditer(line)):
            comment, quoted, ticked, bare = match.groups()
            if comment is None:
                word = quoted.replace('\\"', '"') if quoted is not None else ticked if ticked is not None else bare
                found[number, index] = word
    return found


def unit(text: str) -> Leaves:
    """A unit of systemd: continued lines, and in commands its quotation marks, % specifiers and $ variables."""
    found: Leaves = {}
    section = ""
    for number, line in enumerate(re.sub(r"\\\n\s*", " ", text).split("\n")):
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            section = line
            continue
        key, equals, value = line.partition("=")
        assert equals, f"systemd ignores {line!r}"
        share = re.fullmatch(r"\d+%", value)  # such as CPUQuota
        assert share or not re.search(r"%(?!%)", value), f"systemd expands a specifier in {value!r}"
        value = value.replace("%%", "%")
        words = [value]
        if key.startswith("Exec"):
            assert "$" not in value.replace("$$", ""), f"systemd expands a variable in {value!r}"
            words = [word.replace("$$", "$") for word in shlex.split(value)]
        found |= {(section, key, number, index): word for index, word in enumerate(words)}
    return found


def apt(text: str) -> Leaves:
    """Options of apt: name "value"; in quotation marks all counts but %, which begins a code."""
    found: Leaves = {}
    for number, line in enumerate(text.split("\n")):
        quoted = re.fullmatch(r'([^"]*)"([^"%\\]*)";( //.*)?', line)
        found[number, "name"] = quoted[1] if quoted else line
        if quoted:
            found[number, "value"] = quoted[2]
    return found


def lines(text: str) -> Leaves:
    """A file of `option value` lines, of which programs read what is behind the first blank as it is."""
    assert "\r" not in text and "\0" not in text
    found: Leaves = {}
    for number, line in enumerate(text.split("\n")):
        if not re.match(r"\s*[#;!%]", line):
            key, _, value = line.lstrip().partition(" ")
            found |= {(number, "option"): key, (number, "value"): value}
    return found


#: How a rendered file is read, by the end of its path. What is not here is read line by line.
READERS: dict[str, Callable[[str], Leaves]] = {
    ".docker/config.json": docker_logins,
    ".json": json_file,
    ".yml": yaml_file,
    "Caddyfile": caddyfile,
    ".service": unit,
    ".timer": unit,
    ".conf.d/openmates.conf": lines,
    "52openmates": apt,
}


def read(path: str, text: str) -> Leaves:
    reader = next((reader for end, reader in READERS.items() if path.endswith(end)), lines)
    return {(path, *place): leaf for place, leaf in reader(text).items()}


def through_the_shell(secrets: dict[str, str], folder: Path) -> dict[str, str]:
    """What a program finds in its environment that with-secrets.sh started, in a real shell."""
    folder.mkdir()
    for name, content in secrets.items():
        (folder / name).write_text(content, encoding="utf-8")
    script = (ROOT / "files/compose/config/bin/with-secrets.sh").read_text().replace("/run/secrets", str(folder))
    show = "import json, os, sys; json.dump({n: os.environ[n] for n in sys.argv[1:]}, sys.stdout)"
    command = ["/bin/sh", "-c", script, "sh", sys.executable, "-c", show, *secrets]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"}, check=True)
    return json.loads(done.stdout)
