"""Drills and proofs find each of their tasks in the roles, regardless of the tasks' names."""

from __future__ import annotations

import pytest
from moments import DEPLOY, FIRST_CONTACT, MOMENTS, MOVE, Moment


@pytest.mark.parametrize(
    "moment",
    [*FIRST_CONTACT, *MOMENTS, *DEPLOY.values(), *MOVE.values()],
    ids=lambda moment: f"{moment.role}/{moment.file}",
)
def test_exactly_one_task_fits_each_moment(moment: Moment) -> None:
    assert moment.begins_with(f"TASK [{moment.heading()}] ****")
    assert moment.begins_with(f"TASK [openmates.server.{moment.heading()}] ****")  # from an installed collection
    assert moment.begins_with(f"... {moment.heading()} [prod2], 15 s")
    assert not moment.begins_with("TASK [preflight : Check the settings and the host] ****")


@pytest.mark.parametrize(
    "moment",
    [
        Moment("ssh", "main.yml", "a.module.that_is_gone"),
        Moment("packages", "main.yml", "ansible.builtin.apt"),  # two tasks
        Moment("packages", "main.yml", "register", "another_result"),
    ],
)
def test_a_task_that_is_gone_or_ambiguous_is_an_error(moment: Moment) -> None:
    with pytest.raises(LookupError, match=moment.file):
        moment.heading()
