# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which moves are possible, how one goes on, and what a moved server must not do: see docs/move.md.

The two servers' own records decide. An interrupted run leaves them, and the next one goes on by them.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterator, Mapping

REPOSITORY = "openmates_backup_repository"

#: What a server records of itself, each with what that means for an operator. The record is missing before a move.
MOVING, MOVED = "moving", "moved"  # on the server that is left: its writing is paused; it forwards to the new one
#: On the new one: it has a copy while the old one serves; it gets the rest; it serves; it was given up.
PREPARING, ARRIVING, ARRIVED, RETURNED = "preparing", "arriving", "arrived", "returned"
#: Verbs that go on with a move, end it, or start nothing.
ALLOWED = ("move", "move_back", "remove", "maintenance", "keys_check")


def playbook(verb: str) -> str:
    """A verb's command where the inventory is not known."""
    return f"{verb}.yml"


def from_table(table: Mapping[str, str]) -> Callable[[str], str]:
    """The commands of a table."""
    return lambda verb: table.get(verb) or playbook(verb)


def refusal(host: str, record: Mapping[str, t.Any], verb: str = "", command: Callable[[str], str] = playbook) -> str:
    """Why a verb must not change this server, and the remedy; empty if it may. ``command``: how a verb is run."""
    state = record.get("state", "")
    if state in ("", ARRIVED) or verb in ALLOWED:
        return ""
    peer, since = record.get("peer", "another server"), record.get("since", "an unknown time")
    old, new = (host, peer) if state in (MOVING, MOVED) else (peer, host)
    pair = f"-e move_from={old} -e move_to={new}"
    again, back = f"`{command('move')} {pair}`", f"`{command('move_back')} {pair}`"
    remove = f"`{command('remove')} --limit {host} -e remove_data={host}`"
    return {
        MOVING: f"{host} is being moved to {peer} since {since}, which has not ended. Run this to go on: {again}. Or"
        f" this to serve from {host} again: {back}",
        MOVED: f"{host} was moved to {peer} on {since} and forwards requests to it. If it started its services, two"
        f" servers would write. Name {peer} with --limit, and remove {host} from the inventory once DNS leads to"
        f" {peer}. The way back: {back}",
        ARRIVING: f"{host} receives the data of {peer} since {since}, which has not ended. Run this to go on: {again}."
        f" Or this to serve from {peer} again: {back}",
        PREPARING: f"{host} holds a copy of {peer}'s data, made for a move since {since}, and serves no one: {peer}"
        f" serves. Run this to go on: {again}. Or give the copy up: {remove}",
        RETURNED: f"{host} was given up on {since}, and {peer} serves. What {host} holds is out of date. Remove it with"
        f" {remove}, or move again: {again}",
    }.get(state, f"{host} has an unknown record of a move: {state}. Update this project to the version that made it")


def plan(
    old: Mapping[str, t.Any], new: Mapping[str, t.Any], commands: Mapping[str, str] | None = None
) -> dict[str, t.Any]:
    """How a move begins or goes on.

    ``old``, ``new``: what is known of each server: C(name), C(problem), C(domain), C(environment), C(repository) and
    C(record). ``commands``: how a verb is run.

    Returns C(problems); C(restore), whether the data is still to be moved; and C(replace), whether what the new server
    holds is from an earlier attempt, so that it needs no word.
    """
    recorded, received, command = old["record"], new["record"], from_table(commands or {})
    begun = recorded.get("state") in (MOVING, MOVED)
    return {
        "problems": [*_settings(old, new), *_old(old, new, command), *_new(old, new, command)],
        # From the end of the restore on the new server writes: restoring again would lose that.
        "restore": not (begun and received.get("restored", "") == recorded.get("snapshot", "-")),
        "replace": received.get("state") in (PREPARING, ARRIVING),
    }


def _settings(old: Mapping[str, t.Any], new: Mapping[str, t.Any]) -> Iterator[str]:
    if old["name"] == new["name"]:
        yield f"move_from and move_to are the same server, {old['name']}. Name two"
        return
    for name, setting in (("environment", "the group"), ("domain", "openmates_domain"), ("repository", REPOSITORY)):
        if old[name] != new[name]:
            yield (
                f"{setting} differs: {old[name] or 'empty'} for {old['name']}, {new[name] or 'empty'} for"
                f" {new['name']}. Set it for both, in the group_vars of their group"
            )
    if not old["domain"]:
        yield f"openmates_domain of {old['name']} is empty. Only a public name can be forwarded: set it"
    if not old["repository"]:
        yield f"{REPOSITORY} is empty. The data goes through it: set it to one that both servers reach"


def _old(old: Mapping[str, t.Any], new: Mapping[str, t.Any], command: Callable[[str], str]) -> Iterator[str]:
    state, peer = old["record"].get("state", ""), old["record"].get("peer", "")
    if state in (MOVING, MOVED) and peer != new["name"]:
        pair = f"-e move_from={old['name']} -e move_to={peer}"
        yield f"{old['name']} is moved to {peer}. Go back first: `{command('move_back')} {pair}`"
    elif state in (PREPARING, ARRIVING, RETURNED):
        yield f"{old['name']} does not serve, {peer} does. Name that in move_from"
    elif old["problem"] and state != MOVED:
        yield f"{old['name']} cannot be moved: {old['problem']}. Repair it with `{command('site')}` first"


def _new(old: Mapping[str, t.Any], new: Mapping[str, t.Any], command: Callable[[str], str]) -> Iterator[str]:
    state, peer = new["record"].get("state", ""), new["record"].get("peer", "")
    if new["problem"]:
        yield (
            f"{new['name']} cannot receive anything: {new['problem']}. Provision it first:"
            f" `{command('bootstrap')} --limit {new['name']} -e move_from={old['name']}`. It ends where Vault is empty"
        )
    elif state == MOVING or (state in (MOVED, PREPARING, ARRIVING) and peer != old["name"]):
        yield f"{new['name']} takes part in another move, with {peer}. End that first"
