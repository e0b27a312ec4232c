"""Whatever text a setting has, the programs that it is for read that text, or preflight refuses it with a remedy."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.module_utils.vault.seeds import seeds_of
from ansible_collections.openmates.server.plugins.plugin_utils.services.compose_values import (
    compose_value,
    directus_value,
)
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from odd_values import NOT_RENDERED, SPECIFICATIONS, Host, slots
from reading_back import Leaves, compose, through_the_shell

# No search for the smallest example: each one renders all files. A failure shows the place and both texts.
QUICK = (Phase.explicit, Phase.generate)
#: Setting, file, what is wrong, and the remedy.
WHOLE = re.compile(r"openmates_[\w.-]+(( and |, )openmates_\w+)* in \S.*: .+\. \S.+", re.DOTALL)
ENVIRONMENTS = ("prod", "dev")
FRAGMENTS = (
    *(
        "$",
        "$$",
        "${HOME}",
        "$HOME",
        "{{ x }}",
        "{{",
        "{% if",
        "{#",
        "}}",
        '"',
        "'",
        "`",
        "\\",
        "\\n",
        "#",
        " #",
        "://",
    ),
    *(
        ": ",
        ",",
        "%",
        "%h",
        "%%",
        "\n",
        "\t",
        "\r\n",
        "*",
        "&",
        "!",
        "@",
        "|",
        ">",
        "- ",
        "?",
        "~",
        "[a",
        "{a",
        "]",
        "}",
    ),
    *("😀", "ü", "\x85", "\u2028", "\ufeff", "\x7f", "\x00", " ", "\xa0", "null", "true", "NO", "0123", "1e3", "1_000"),
    *("json:", "string:", "<<", "---", "...", "=", ";", "//", "(", ")", "{env.X}", "{$X}", "K", "٣"),
)
TEXTS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(st.characters(exclude_categories=("Cs",)), max_size=4)),
    min_size=1,
    max_size=4,
).map("".join)
VALUES = TEXTS | st.booleans() | st.integers()
# Texts that were lost or changed on the way once.
KNOWN = ("abc$ ${HOME}", "{{ x }}{#", '"{$X}', "😀\x85", "a\nb", "0123456", " #b\\", "json:[*a: b, ", "\x00")


def around(text: str) -> st.SearchStrategy[str]:
    """An odd text, or a valid one with something odd before, in or behind it."""
    middle = len(text) // 2
    return st.one_of(
        TEXTS,
        TEXTS.map(lambda odd: text + odd),
        TEXTS.map(lambda odd: odd + text),
        TEXTS.map(lambda odd: text[:middle] + odd + text[middle:]),
    )


def host(environment: str, texts: dict[str, str]) -> Host:
    with tempfile.TemporaryDirectory() as folder:
        return Host(environment, texts, Path(folder))


@functools.cache
def as_declared(environment: str) -> Leaves:
    plain = host(environment, {})
    assert plain.refused() == [], "a slot of a setting is not valid: correct it in SLOTS"
    return plain.leaves()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_setting_of_free_text_gets_to_a_file_or_is_known_not_to(environment: str) -> None:
    texts = as_declared(environment).values()
    nowhere = [name for name, slot in slots(environment).items() if not any(slot.text in text for text in texts)]
    assert nowhere == [], "read it in a template, or name it in UNUSED or ONLY_IN with the reason"
    assert set(SPECIFICATIONS) >= NOT_RENDERED


def accepted(environment: str, texts: dict[str, str]) -> tuple[Host, dict[str, str]]:
    """A host with those of the texts that preflight accepts. Each other one is refused with a whole message."""
    left = dict(texts)
    while True:
        trial = host(environment, left)
        refused = trial.refused()
        if not refused:
            return trial, left
        shown = [text for name, text in left.items() if not SPECIFICATIONS[name].get("no_log")]
        for message in refused:
            assert re.fullmatch(r"openmates_[\w.-]+(( and |, )openmates_\w+)* in \S.*: .+\. \S.+", message, re.S), (
                message
            )
            for name, text in left.items():
                secret = SPECIFICATIONS[name].get("no_log") and len(text) > 6 and not any(text in one for one in shown)
                assert not (secret and text in message), f"the message shows {name}"
        # By its name, or by its text in a message about another one that does not go with it.
        names = [
            name
            for name, text in left.items()
            if any(name in one or text.removeprefix("https://") in one for one in refused)
        ]
        assert names, f"refused for a setting that was as declared: {refused}"
        left = {name: text for name, text in left.items() if name not in names}


def account(email: str) -> str:
    """The address of the api's account in Directus, which is made of the administrator's."""
    return email.replace("@", "+openmates@")


def check_read_back(environment: str, texts: dict[str, str]) -> dict[str, str]:
    declared = as_declared(environment)
    trial, taken = accepted(environment, texts)
    by_slot = {slots(environment)[name].text: text for name, text in taken.items()}
    by_slot |= {account(slot): account(text) for slot, text in by_slot.items() if "@" in slot}
    in_a_text = re.compile("|".join(re.escape(text) for text in sorted(by_slot, key=len, reverse=True)) or "(?!)")
    wanted = {place: in_a_text.sub(lambda match: by_slot[match[0]], text) for place, text in declared.items()}
    found = trial.leaves()
    different = {place: (wanted.get(place), found.get(place)) for place in wanted | found
                 if wanted.get(place) != found.get(place)}  # fmt: skip
    shown = dict(list(different.items())[:5])
    assert not different, f"by place, what was declared and what was read: {shown}"
    secrets = {path.split("/")[2]: text for path, text in trial.secrets.items() if path.startswith("secrets/api/")}
    with tempfile.TemporaryDirectory() as folder:
        assert through_the_shell(secrets, Path(folder) / "secrets") == secrets
    return taken


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@given(data=st.data())
@settings(max_examples=3, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_is_read_back_or_refused(environment: str, data: st.DataObject) -> None:
    slots_there = slots(environment).items()
    check_read_back(environment, {name: data.draw(around(slot.text), name) for name, slot in slots_there})


@pytest.mark.parametrize(("environment", "text"), [*(("prod", text) for text in KNOWN), ("dev", KNOWN[0])])
def test_known_troublemakers_are_read_back_or_refused(environment: str, text: str) -> None:
    texts = {name: slot.text + text for name, slot in slots(environment).items()}
    taken = check_read_back(environment, texts)
    free = {"openmates_backend_environment", "openmates_directus_environment"}
    assert "\x00" in text or free <= set(taken), "what a container gets may be any text"


@given(value=VALUES)
@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@example(value="\U0001f600")
def test_compose_reads_every_value_as_it_is(value: str | bool | int) -> None:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    assert compose(f"a: {compose_value(value)}\n", {}) == {("a",): text}


def test_a_container_gets_no_list_by_accident() -> None:
    with pytest.raises(TypeError, match="list"):
        compose_value(["a"])


JSON = VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(TEXTS, VALUES | st.lists(VALUES, max_size=2), max_size=3)


@given(value=JSON)
@settings(max_examples=30, derandomize=True, database=None, deadline=None)
def test_directus_gets_lists_and_mappings_as_they_are(value: object) -> None:
    text = yaml.safe_load(compose_value(directus_value(value)).replace("$$", "$"))
    if isinstance(value, (list, dict)):
        assert text.startswith("json:") and json.loads(text.removeprefix("json:")) == value
    else:
        assert text == (str(value).lower() if isinstance(value, bool) else str(value))
        assert directus_value(text, literal=True) == f"string:{text}"


@given(fields=st.dictionaries(TEXTS, TEXTS | st.integers() | st.booleans(), min_size=1))
@settings(max_examples=50, derandomize=True, database=None, deadline=None)
def test_vault_gets_every_value_as_it_is(fields: dict[str, object]) -> None:
    """As the task passes seeds to the module: one JSON text."""
    found = seeds_of(json.dumps({"providers/x": {"ensure": fields}}))
    assert found["providers/x"].fields == fields
