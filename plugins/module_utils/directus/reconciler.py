# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconciles Directus with the declaration of directus_config."""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.module_utils.directus import api, completeness
from ansible_collections.openmates.server.plugins.module_utils.directus.changes import Changes, declared, differing
from ansible_collections.openmates.server.plugins.module_utils.directus.schema import Comparison, names, removals

POLICY_FIELDS = ("name", "description", "icon", "admin_access", "app_access", "enforce_tfa", "ip_access")
ROLE_FIELDS = ("name", "description", "icon")
USER_FIELDS = ("email", "first_name", "last_name", "status")
FLOW_FIELDS = ("name", "description", "icon", "color", "status", "trigger", "accountability", "options")
OPERATION_FIELDS = ("key", "type", "name", "options", "position_x", "position_y")
# Required values that Directus sets by default for new objects.
NEW_POLICY = {"admin_access": False, "app_access": False}
NEW_OPERATION = {"position_x": 19, "position_y": 1}


class Kind(t.NamedTuple):
    """A kind of object: its name in messages, and its collection in Directus."""

    word: str
    path: str


POLICY, ROLE, USER = Kind("policy", "policies"), Kind("role", "roles"), Kind("user", "users")
FOLDER, FLOW, OPERATION = Kind("folder", "folders"), Kind("flow", "flows"), Kind("operation", "operations")
PERMISSION, ACCESS = Kind("permission", "permissions"), Kind("access", "access")


class Reconciler:
    """Brings Directus to the declared state, or only records the differences."""

    def __init__(self, directus: api.Directus, params: dict, tokens: dict[str, str], dry: bool) -> None:
        """`tokens`: the service users' static tokens by the users' names; in check mode one may be missing."""
        self.directus, self.params, self.tokens, self.dry = directus, params, tokens, dry
        self.changes = Changes()
        self.undeclared: list[str] = []
        self.there: dict[Kind, list[dict]] = {}
        self.ids: dict[tuple[Kind, str], str] = {}

    def run(self) -> None:
        """Reconcile everything, each object after those that it refers to. Raises DirectusProblem."""
        if self.params["expected_file"]:
            completeness.check(self.directus, self.params["expected_file"])
        for kind in (FOLDER, POLICY, ROLE, FLOW):
            if kind in (POLICY, ROLE) or self.params[kind.path] or self.params["prune"]:
                self.there[kind] = self.directus.search(kind.path)
        self.there[USER] = self.users_there()
        self.schema()
        self.settings()
        self.folders()
        self.policies()
        self.roles()
        self.users()
        self.access()
        self.permissions()
        self.flows()
        self.forgotten()

    # ---------------------------------------------------------------- one object

    def find(self, kind: Kind, name: str, key: str = "name", value: str | None = None) -> dict | None:
        """The existing object: by its id, or else an object of other origin with the same name (or `key`)."""
        there, identifier = self.there.get(kind, []), api.stable_id(kind.word, name)
        by_id = [item for item in there if item["id"] == identifier]
        same = (value or name).lower()
        by_name = [item for item in there if str(item.get(key) or "").lower() == same and not api.is_owned(item["id"])]
        found = next(iter(by_id + by_name), None)
        self.ids[kind, name] = found["id"] if found else identifier
        return found

    def put(self, kind: Kind, name: str, wanted: dict, found: dict | None, new: dict | None = None) -> None:
        """Create the object, or correct differences. `new`: fields that only a new one gets."""
        what = f"{kind.word} {name}"
        if found is None:
            payload = {**(new or {}), **wanted}
            self.changes.created(what, payload)
            self.ask("POST", kind.path, {"id": self.ids[kind, name], **payload})
        elif changed := differing(wanted, found):
            self.changes.corrected(what, {field: found.get(field) for field in changed}, changed)
            self.ask("PATCH", f"{kind.path}/{found['id']}", changed)

    def take_away(self, kind: Kind, what: str, identifier: t.Any) -> None:
        self.changes.removed(what)
        self.ask("DELETE", f"{kind.path}/{identifier}")

    def ask(self, method: str, path: str, body: t.Any = None) -> None:
        if not self.dry:
            self.directus.ask(method, f"/{path}", body)

    def present(self, kind: Kind) -> list[dict]:
        """The objects of a kind that are declared present. Removes those declared absent; undeclared objects stay."""
        items = self.params[kind.path]
        names = [item["name"] for item in items]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise api.DirectusProblem(f"The {kind.word} {twice[0]} is declared twice.")
        for item in items:
            found = self.find(kind, item["name"], *self.key_of(kind, item))
            if item["state"] == "absent" and found:
                if api.is_owned(found["id"]):
                    self.take_away(kind, f"{kind.word} {item['name']}", found["id"])
                else:
                    self.undeclared.append(f"{kind.word} {item['name']}, which was not created by this module")
        return [item for item in items if item["state"] == "present"]

    def key_of(self, kind: Kind, item: dict) -> tuple[str, str | None]:
        return ("email", item["email"]) if kind is USER and item.get("email") else ("name", None)

    def reference(self, kind: Kind, name: str, by: str) -> str:
        """The id of an object that `by` refers to by name. Raises DirectusProblem if there is none."""
        states = {item["name"]: item["state"] for item in self.params[kind.path]}
        if states.get(name) == "present":
            return self.ids[kind, name]
        for item in self.there.get(kind, []):
            if item["name"] == name and name not in states:
                return item["id"]
        raise api.DirectusProblem(f"The {by} refers to the {kind.word} {name}, which is not declared nor in Directus.")

    # ---------------------------------------------------------------- the kinds

    def schema(self) -> None:
        if self.params["schema"]:
            self.compare_schema()
        if self.params["collections"]:
            there = {item["collection"] for item in self.directus.read_one("/collections")}
            if missing := sorted(set(self.params["collections"]) - there):
                raise api.DirectusProblem(
                    f"Directus lacks required collections: {', '.join(missing)}. The set-up that creates"
                    " them, such as cms-setup, is incomplete; see its log."
                )

    def compare_schema(self) -> None:
        comparison = Comparison(self.directus, self.params["schema"], self.params["schema_force"])
        comparison.refuse_losses(remove=False, data_loss=False)
        self.undeclared += removals(comparison.diff)
        self.changes.noted(names(comparison.wanted()))
        if not self.dry:
            comparison.apply()

    def settings(self) -> None:
        wanted = self.params["settings"]
        if not wanted:
            return
        found = self.directus.read_one("/settings") or {}
        if unknown := sorted(set(wanted) - set(found)) if found else []:
            raise api.DirectusProblem(f"Directus has no setting {unknown[0]}.")
        if changed := differing(wanted, found):
            self.changes.corrected("settings", {name: found.get(name) for name in changed}, changed)
            self.ask("PATCH", "settings", changed)

    def folders(self) -> None:
        items = self.present(FOLDER)
        for item in _parents_first(items):
            wanted = {"name": item["name"]}
            if item["parent"] is not None:
                wanted["parent"] = self.reference(FOLDER, item["parent"], f"folder {item['name']}")
            self.put(FOLDER, item["name"], wanted, self.find(FOLDER, item["name"]))

    def policies(self) -> None:
        for item in self.present(POLICY):
            self.put(POLICY, item["name"], declared(item, POLICY_FIELDS), self.find(POLICY, item["name"]), NEW_POLICY)

    def roles(self) -> None:
        for item in _parents_first(self.present(ROLE)):
            wanted = declared(item, ROLE_FIELDS)
            if item["parent"] is not None:
                wanted["parent"] = self.reference(ROLE, item["parent"], f"role {item['name']}")
            self.put(ROLE, item["name"], wanted, self.find(ROLE, item["name"]))

    def users_there(self) -> list[dict]:
        """The declared users, of possibly very many; with prune, also those that this module created."""
        fields = ("id", "role", "status", "email", "first_name", "last_name")
        items = self.params["users"]
        if self.params["prune"]:
            ids = [user["id"] for user in self.directus.search("users", fields=["id"]) if api.is_owned(user["id"])]
        else:
            ids = []
        ids += [api.stable_id("user", item["name"]) for item in items]
        emails = [item["email"] for item in items if item["email"]]
        conditions = [{"id": {"_in": ids}}] * bool(ids) + [{"email": {"_in": emails}}] * bool(emails)
        return self.directus.search("users", {"_or": conditions}, fields) if conditions else []

    def users(self) -> None:
        for item in self.present(USER):
            found = self.find(USER, item["name"], *self.key_of(USER, item))
            wanted = declared(item, USER_FIELDS)
            if item["role"] is not None:
                wanted["role"] = self.reference(ROLE, item["role"], f"user {item['name']}")
            wanted |= self.credentials(item, found)
            # Directus never returns credentials, so a credential in `wanted` is a difference.
            self.put(USER, item["name"], wanted, found, {"first_name": item["name"]})

    def credentials(self, item: dict, found: dict | None) -> dict:
        """The user's password and token, if they differ in Directus."""
        wanted = {}
        if item["password"] and not self.password_right(item, found):
            wanted["password"] = item["password"]
        if item["token"]:
            token = self.tokens.get(item["name"])
            # Only an active user's token can be tested; setting another user's token again is harmless.
            tried = found and token and found["status"] == "active" and self.directus.owner_of(token) == found["id"]
            if not tried:
                wanted["token"] = token
        return wanted

    def password_right(self, item: dict, found: dict | None) -> bool:
        if not found or not found["email"] or found["status"] != "active":
            return False
        return self.directus.takes(found["email"], item["password"])

    def access(self) -> None:
        """Assignments of policies to roles and users."""
        holders: list[tuple[str, str, str, list[str]]] = []
        for field, kind in (("role", ROLE), ("user", USER)):
            for item in self.params[kind.path]:
                if item["state"] == "present" and item["policies"] is not None:
                    holders.append((field, kind.word, item["name"], item["policies"]))
        ids = {(word, name): self.ids[ROLE if field == "role" else USER, name] for field, word, name, _ in holders}
        public = [item for item in self.params["policies"] if item["state"] == "present" and item["public"] is not None]
        if not holders and not public:
            return
        conditions = [
            {"role": {"_in": [i for (w, _), i in ids.items() if w == "role"]}},
            {"user": {"_in": [i for (w, _), i in ids.items() if w == "user"]}},
            {"_and": [{"role": {"_null": True}}, {"user": {"_null": True}}]},
        ]
        conditions = [c for c in conditions if c.get("role", c.get("user", {"_in": [1]})).get("_in", [1])]
        rows = self.directus.search("access", {"_or": conditions})
        for field, word, name, policies in holders:
            has = {row["policy"]: row["id"] for row in rows if row[field] == ids[word, name]}
            wanted = {self.reference(POLICY, policy, f"{word} {name}"): policy for policy in policies}
            for policy, policy_name in wanted.items():
                if policy not in has:
                    self.grant(f"{word} {name}", policy_name, {field: ids[word, name], "policy": policy})
            for policy in sorted(set(has) - set(wanted)):
                self.surplus(ACCESS, f"{word} {name}: policy {self.policy_name(policy)}", has[policy])
        for item in public:
            policy = self.ids[POLICY, item["name"]]
            has = [row["id"] for row in rows if not row["role"] and not row["user"] and row["policy"] == policy]
            if item["public"] and not has:
                self.grant("everybody", item["name"], {"policy": policy})  # part of the id: do not rename
            for row in has if not item["public"] else []:
                self.surplus(ACCESS, f"everybody: policy {item['name']}", row)

    def grant(self, holder: str, policy: str, row: dict) -> None:
        self.changes.created(f"{holder}: policy {policy}", {})
        self.ask("POST", "access", {"id": api.stable_id("access", f"{holder}/{policy}"), **row})

    def policy_name(self, identifier: str) -> str:
        return next((item["name"] for item in self.there[POLICY] if item["id"] == identifier), identifier)

    def permissions(self) -> None:
        """Permissions have no name and need not be unique: they are identified by policy, collection and action."""
        items = [i for i in self.params["policies"] if i["state"] == "present" and i["permissions"] is not None]
        if not items:
            return
        rows = self.directus.search("permissions", {"policy": {"_in": [self.ids[POLICY, i["name"]] for i in items]}})
        rows = sorted((row for row in rows if not row.get("system")), key=lambda row: row["id"])
        for item in items:
            policy = self.ids[POLICY, item["name"]]
            wanted = _permissions(item)
            seen = set()
            for row in rows:
                if row["policy"] != policy:
                    continue
                place = (row["collection"], row["action"])
                what = f"permission of policy {item['name']}: {row['action']} {row['collection']}"
                if place in seen or place not in wanted:
                    self.surplus(PERMISSION, what + (" (a second one)" if place in seen else ""), row["id"])
                    continue
                seen.add(place)
                if changed := differing(wanted[place], row):
                    self.changes.corrected(what, {field: row[field] for field in changed}, changed)
                    self.ask("PATCH", f"permissions/{row['id']}", changed)
            for place in sorted(wanted.keys() - seen):
                collection, action = place
                self.changes.created(f"permission of policy {item['name']}: {action} {collection}", wanted[place])
                payload = {"policy": policy, "collection": collection, "action": action, **wanted[place]}
                self.ask("POST", "permissions", payload)

    def flows(self) -> None:
        items = self.present(FLOW)
        if not items:
            return
        ids = [self.ids[FLOW, item["name"]] for item in items]
        self.there[OPERATION] = self.directus.search("operations", {"flow": {"_in": ids}})
        for item in items:
            self.put(FLOW, item["name"], declared(item, FLOW_FIELDS), self.find(FLOW, item["name"]))
            if item["operations"] is not None:
                self.operations(item)

    def operations(self, flow: dict) -> None:
        """A flow's operations, each after those that it refers to, and finally the flow's entry."""
        flow_id = self.ids[FLOW, flow["name"]]
        there = {row["key"]: row for row in self.there[OPERATION] if row["flow"] == flow_id}
        ids = {
            item["key"]: there.get(item["key"], {}).get("id")
            or api.stable_id("operation", f"{flow['name']}/{item['key']}")
            for item in flow["operations"]
        }
        for item in _followers_first(flow["operations"], flow["name"]):
            name = f"{flow['name']}/{item['key']}"
            self.ids[OPERATION, name] = ids[item["key"]]
            wanted = {**declared(item, OPERATION_FIELDS), "flow": flow_id}
            for field in ("resolve", "reject"):
                wanted[field] = ids[item[field]] if item[field] else None
            new = {**NEW_OPERATION, "name": item["key"]}
            self.put(OPERATION, name, wanted, there.get(item["key"]), new)
        # An operation is removed before those that it refers to, as the database's foreign keys require.
        for key in reversed(_leading_last({key: there[key] for key in sorted(there.keys() - ids.keys())})):
            self.surplus(OPERATION, f"operation {flow['name']}/{key}", there[key]["id"])
        entry = flow["entry"] or next((item["key"] for item in flow["operations"]), None)
        if entry is not None and entry not in ids:
            raise api.DirectusProblem(f"The flow {flow['name']} begins with {entry}, which is none of its operations.")
        found = next((row for row in self.there[FLOW] if row["id"] == flow_id), {"operation": None, "id": flow_id})
        wanted = {"operation": ids.get(entry)} if entry else {"operation": None}
        if changed := differing(wanted, found):
            self.changes.corrected(f"flow {flow['name']}", {"operation": found["operation"]}, changed)
            self.ask("PATCH", f"flows/{flow_id}", changed)

    # ---------------------------------------------------------------- undeclared objects

    def surplus(self, kind: Kind, what: str, identifier: t.Any) -> None:
        """An addition to a declared object."""
        if self.params["prune"]:
            self.take_away(kind, what, identifier)
        else:
            self.undeclared.append(what)

    def forgotten(self) -> None:
        """Objects of this module that are no longer declared. Users are searched only if they may be removed."""
        kept = set(self.ids.values())
        for kind in (USER, ROLE, POLICY, FOLDER, FLOW):
            for item in self.there.get(kind, []):
                if api.is_owned(item["id"]) and item["id"] not in kept:
                    name = item.get("name") or item.get("email") or item.get("first_name")
                    self.surplus(kind, f"{kind.word} {name}", item["id"])


def _permissions(policy: dict) -> dict[tuple[str, str], dict]:
    """A policy's permissions by collection and action. Raises DirectusProblem if one is declared twice."""
    result: dict[tuple[str, str], dict] = {}
    for item in policy["permissions"]:
        fields = {
            "fields": item["fields"],
            "permissions": item["filter"] or {},
            "validation": item["validation"],
            "presets": item["presets"],
        }
        for action in item["actions"]:
            place = (item["collection"], action)
            if place in result:
                raise api.DirectusProblem(f"The policy {policy['name']} declares {action} {item['collection']} twice.")
            result[place] = fields
    return result


def _parents_first(items: list[dict]) -> list[dict]:
    """Folders or roles in an order in which declared parents precede their children."""
    by_name = {item["name"]: item for item in items}
    ordered: list[dict] = []

    def visit(item: dict, above: tuple[str, ...]) -> None:
        if item["name"] in above:
            raise api.DirectusProblem(f"{item['name']} is its own parent, through {' and '.join(above)}.")
        if item["parent"] in by_name:
            visit(by_name[item["parent"]], (*above, item["name"]))
        if item not in ordered:
            ordered.append(item)

    for item in items:
        visit(item, ())
    return ordered


def _leading_last(rows: dict[str, dict]) -> list[str]:
    """Keys of operations in Directus, each after those that it refers to."""
    by_id = {row["id"]: key for key, row in rows.items()}
    ordered: dict[str, None] = {}

    def visit(key: str) -> None:
        for following in (rows[key]["resolve"], rows[key]["reject"]):
            if following in by_id:
                visit(by_id[following])
        ordered.setdefault(key)

    for key in rows:
        visit(key)
    return list(ordered)


def _followers_first(operations: list[dict], flow: str) -> list[dict]:
    """Operations, each after those that it refers to. Raises DirectusProblem for a cycle."""
    by_key = {item["key"]: item for item in operations}
    ordered: list[dict] = []

    def visit(key: str, before: tuple[str, ...]) -> None:
        if key not in by_key:
            raise api.DirectusProblem(f"The flow {flow} has no operation {key}, which {before[-1]} refers to.")
        if key in before:
            raise api.DirectusProblem(f"The flow {flow} leads from {key} back to {key}.")
        for following in (by_key[key]["resolve"], by_key[key]["reject"]):
            if following:
                visit(following, (*before, key))
        if by_key[key] not in ordered:
            ordered.append(by_key[key])

    for item in operations:
        visit(item["key"], ())
    return ordered
