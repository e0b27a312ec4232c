#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile what is inside Vault: who may do what, engines, policies, audit, token roles, values of secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_config
short_description: Reconcile Vault's engines, policies, audit, service tokens and seeds in one call
description:
  - Looks at a HashiCorp Vault or OpenBao and, if it is open, brings it to the declared state. Changes only what differs
    and leaves alone what is not declared.
  - Works with an identity of its own, an AppRole whose policy lets it manage what is declared here and no more. Only
    O(elevate) may use a root token, to make or mend that identity. A root token does not outlive the call that used it.
  - If Vault is not open, or that identity is not as it should be, changes nothing and says so in RV(state). A role can
    so begin with this module and come to M(openmates.server.vault_init), M(openmates.server.vault_unseal) and
    O(elevate) only when there is something for them to do.
  - One module for all of it because each remote call costs more than everything Vault does in it.
  - Results and diffs hold names, never a value or a token.
options:
  elevate:
    description:
      - Make or mend the managing identity with the keys file's root token or, once that is revoked, with one that the
        unseal shares make. Afterwards every root token there is gets revoked.
    type: bool
    default: false
  access_policy:
    description: What the managing identity may do, as HCL.
    type: str
    required: true
  root_url:
    description: Where Vault makes a root token from the shares, if not at O(url).
    type: str
    default: ""
  root_container:
    description: The container in whose network O(root_url) is. Empty for the host's own.
    type: str
    default: ""
  root_marker:
    description: A file on the host that says that there may be root tokens. They are revoked, and then it goes.
    type: path
    required: true
  wipe_marker:
    description: A file on the host that says that Vault comes from a snapshot, whose tokens and logins all have to go.
    type: path
    required: true
  marker:
    description: The marker file of M(openmates.server.vault_init) on the host. While it exists nothing is changed.
    type: path
  engines:
    description: Secrets engines to have.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is mounted.
        type: str
        required: true
      type:
        description: Its type.
        type: str
        required: true
      version:
        description: For C(kv), its version.
        type: int
  audit:
    description: Audit devices to have, where the engine takes them over its API. OpenBao has them in its configuration.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Its name.
        type: str
        required: true
      type:
        description: Its type.
        type: str
        required: true
      options:
        description: The type's options.
        type: dict
        default: {}
  policies:
    description: Names and texts (HCL) of the policies to have.
    type: dict
    default: {}
  roles:
    description:
      - AppRoles to have, one for each token that is not a person's. Their tokens get no default policy.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, which is its role id as well.
        type: str
        required: true
      policies:
        description: What its tokens may do, by policy.
        type: list
        elements: str
        required: true
      period:
        description: For how long a token lives after each renewal, like C(768h). Without, tokens live ten minutes.
        type: str
      credential:
        description: Encrypted systemd credential on the host that lets a unit there log in as this role.
        type: path
      file:
        description: The file that this unit keeps a token in. Looked at, never written, except for owner and mode.
        type: path
      uid:
        description: Owner of the file, by number because the user may exist only inside a container.
        type: int
        default: 0
      gid:
        description: Group of the file, by number.
        type: int
        default: 0
  seeds_ensure:
    description: Paths of secrets that are written elsewhere if they never held anything, see RV(seeds_due).
    type: list
    elements: str
    default: []
  seeds_enforce:
    description: Values of secrets by path. Fields given here win over Vault's, fields that are not given stay.
    type: dict
    default: {}
  seeds_generate:
    description: Lengths of random values to make here, by path and field, for paths that never held anything.
    type: dict
    default: {}
  seeds_engine:
    description: The version 2 C(kv) engine that the seeds are in.
    type: str
    default: kv
  shares:
    description: Unseal shares for O(elevate) if the keys file has none in clear.
    type: list
    elements: str
  root_token:
    description: Set by the action plugin.
    type: str
requirements:
  - systemd-creds on the host, for O(roles[].credential)
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault, openmates.server.vault.custody, openmates.server.vault.managed]
attributes:
  check_mode:
    description: Says what would be changed, also where there is no Vault yet.
    support: full
  diff_mode:
    description: Names only.
    support: full
"""

EXAMPLES = r"""
- name: Reconcile Vault
  openmates.server.vault_config:
    url: http://172.18.0.5:8200
    keys_file: /home/operator/keys/prod1.yml
    access_file: /home/operator/keys/prod1.access.yml
    access_policy: "{{ lookup('ansible.builtin.template', 'openmates-manage.hcl.j2') }}"
    root_marker: /opt/openmates/.vault-root
    wipe_marker: /opt/openmates/.vault-wipe
    engines:
      - {path: transit, type: transit}
      - {path: kv, type: kv, version: 2}
    policies:
      api-service: "{{ lookup('ansible.builtin.file', 'policies/api-service.hcl') }}"
    roles:
      - name: openmates-api
        policies: [api-service]
        period: 768h
"""

RETURN = r"""
state:
  description:
    - C(ready) if Vault is open and reconciled (in check mode, compared).
    - C(uninitialized), C(sealed), C(unreachable) (check mode only) as they say.
    - C(interrupted) if the marker of an interrupted initialisation is there, C(no_keys) if Vault is open but without a
      keys file. M(openmates.server.vault_init) deals with both.
    - C(no_access) if the managing identity is missing or not as declared, or Vault was restored. O(elevate) deals with
      it.
  returned: success
  type: str
changes:
  description: What was changed, or would be, by name.
  returned: success
  type: list
  elements: str
tokens_due:
  description: Files without a token as declared, which the host's unit has to put there.
  returned: success
  type: list
  elements: str
seeds_due:
  description: Those of O(seeds_ensure) that never held anything.
  returned: success
  type: list
  elements: str
"""

import contextlib
import os
import pathlib
import secrets
import stat
import string
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import vault

READY = "ready"
INTERRUPTED = "interrupted"
NO_KEYS = "no_keys"
NO_ACCESS = "no_access"

TOKEN_MODE = 0o400
GENERATED = string.ascii_letters + string.digits
ROLES = "/v1/auth/approle/role"


def engine_fault(wanted: dict[str, t.Any], mounted: dict[str, t.Any] | None) -> str | None:
    """Return None if the engine is as wanted, "missing", or raise VaultProblem if another one is in its place."""
    if mounted is None:
        return "missing"
    version = (mounted.get("options") or {}).get("version")
    found = f"{mounted['type']} version {version}" if version else mounted["type"]
    if mounted["type"] != wanted["type"] or (wanted["version"] and str(wanted["version"]) != version):
        raise vault.VaultProblem(
            f"The path {wanted['path']} in Vault already holds another engine ({found}). It is not replaced, because"
            " its secrets would go with it: move it away with `secrets move`, or give the path up here."
        )
    return None


def token_fault(wanted: dict[str, t.Any], found: dict[str, t.Any] | None) -> str | None:
    """Return why a token is not the one wanted, or None. `found` is Vault's description of it, None if invalid."""
    if found is None:
        return "is not valid"
    if not found.get("orphan"):
        return "is not an orphan"
    if found.get("period") != vault.seconds(wanted["period"]):
        return "has another period"
    if set(found.get("policies") or []) != set(wanted["policies"]):
        return "has other policies"
    if (found.get("meta") or {}).get("role_name") != wanted["name"]:
        return "could not be replaced by the host alone"
    return None


def role_settings(wanted: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return an AppRole as Vault shows it. A login never ends; its tokens do, unless they are renewed."""
    lasting = {"token_period": vault.seconds(wanted["period"] or 0), "token_ttl": 0, "token_max_ttl": 0}
    brief = {"token_period": 0, "token_ttl": 600, "token_max_ttl": 600}
    return {
        "token_policies": sorted(wanted["policies"]),
        "token_no_default_policy": True,
        "token_num_uses": 0,
        "bind_secret_id": True,
        "secret_id_ttl": 0,
        **(lasting if wanted["period"] else brief),
    }


def same_text(one: str | None, other: str) -> bool:
    """Return whether two policies say the same, by the letter."""
    return one is not None and one.strip() == other.strip()


class AppRoles:
    """What both identities need, root and the managing one: AppRoles as they should be, and their secrets."""

    def __init__(self, client: vault.hvac.Client) -> None:
        self.client = client

    def differs(self, wanted: dict[str, t.Any]) -> bool:
        """Return whether the role is missing or not as wanted."""
        path = f"{ROLES}/{wanted['name']}"
        try:
            found = self.client.adapter.get(path)["data"]
            role_id = self.client.adapter.get(f"{path}/role-id")["data"]["role_id"]
        except vault.hvac.exceptions.InvalidPath:
            return True
        found["token_policies"] = sorted(found.get("token_policies") or [])
        return role_id != wanted["name"] or any(found.get(key) != value for key, value in role_settings(wanted).items())

    def write(self, wanted: dict[str, t.Any]) -> None:
        path = f"{ROLES}/{wanted['name']}"
        self.client.adapter.post(path, json=role_settings(wanted))
        self.client.adapter.post(f"{path}/role-id", json={"role_id": wanted["name"]})

    def knows(self, role: str, secret_id: str) -> bool:
        """Return whether somebody can log in to the role with that secret, without doing it."""
        answer = self.client.adapter.post(f"{ROLES}/{role}/secret-id/lookup", json={"secret_id": secret_id})
        return isinstance(answer, dict) and bool(answer.get("data"))  # an unknown one gives 204

    def install(self, role: str, secret_id: str) -> None:
        """Make that secret the only one of the role."""
        self.forget(role)
        self.client.adapter.post(f"{ROLES}/{role}/custom-secret-id", json={"secret_id": secret_id})

    def forget(self, role: str) -> None:
        """Make every login of the role impossible."""
        try:
            accessors = self.client.adapter.list(f"{ROLES}/{role}/secret-id")["data"]["keys"]
        except vault.hvac.exceptions.InvalidPath:
            return
        for accessor in accessors:
            body = {"secret_id_accessor": accessor}
            self.client.adapter.post(f"{ROLES}/{role}/secret-id-accessor/destroy", json=body)


class Access:
    """The managing identity: its login, and what a root token has to do for it."""

    def __init__(self, module: AnsibleModule, root_marker: pathlib.Path, wipe_marker: pathlib.Path) -> None:
        self.module = module
        self.params = module.params
        self.root_marker, self.wipe_marker = root_marker, wipe_marker
        self.role = {"name": self.params["access_role"], "policies": [self.params["access_role"]], "period": None}

    def log_in(self) -> vault.hvac.Client | None:
        """Return a client of the identity, or None."""
        secret = self.params["access_secret"]
        return vault.log_in(self.params["url"], self.role["name"], secret, self.params["deadline"]) if secret else None

    def fault(self, client: vault.hvac.Client | None) -> str | None:
        """Return why a root token is needed, or None."""
        if self.wipe_marker.exists():
            return "Vault comes from a snapshot, whose tokens are valid again"
        if client is None:
            return "the managing identity cannot log in"
        try:
            policy = client.sys.read_acl_policy(self.role["name"])["data"]["policy"]
            if not same_text(policy, self.params["access_policy"]) or AppRoles(client).differs(self.role):
                return "the managing identity may do something else than declared"
        except vault.hvac.exceptions.Forbidden:
            return "the managing identity may do less than declared"
        return None

    def elevate(self) -> None:
        """Make the identity with a root token. The marker stays until every root token is known to be gone."""
        params = self.params
        vault.write_marker(self.root_marker, "root")
        client = vault.connect(params["url"], self.root_token(), params["deadline"])
        roles = AppRoles(client)
        if self.wipe_marker.exists():
            vault.revoke(client, lambda token: True)
            if "approle/" in client.sys.list_auth_methods()["data"]:
                for name in [self.role["name"], *(role["name"] for role in params["roles"])]:
                    roles.forget(name)
        if "approle/" not in client.sys.list_auth_methods()["data"]:
            client.sys.enable_auth_method("approle")
        client.sys.create_or_update_acl_policy(self.role["name"], params["access_policy"])
        roles.write(self.role)
        roles.install(self.role["name"], params["access_secret"])
        vault.drop_marker(self.wipe_marker)

    def root_token(self) -> str:
        """Return a valid root token: the first one, while it lasts, or one made from the shares."""
        params = self.params
        if params["root_token"]:
            first = vault.connect(params["url"], params["root_token"], params["deadline"])
            try:
                first.auth.token.lookup_self()
                return params["root_token"]
            except vault.hvac.exceptions.Forbidden:
                pass  # as it should be, once Vault is configured
        if not params["shares"]:
            raise vault.VaultProblem(
                "A root token is needed, because the identity that manages Vault is missing or out of date, and the"
                " keys file has no unseal share in clear to make one. Run again with the shares: see docs/vault.md,"
                " 'When the way in is lost'."
            )
        with vault.network_of(self.module, params["root_container"]):
            maker = vault.connect(params["root_url"] or params["url"], timeout=params["deadline"])
            token = vault.generate_root(maker, params["shares"])
        self.module.no_log_values.add(token)
        return token

    def revoke_roots(self, client: vault.hvac.Client) -> int:
        """Revoke every root token, whoever made it, and return how many there were."""
        count = vault.revoke(client, lambda token: "root" in (token.get("policies") or []))
        vault.drop_marker(self.root_marker)
        return count


class Reconciler:
    """Brings an open Vault to the declared state, or only notes what differs in check mode."""

    def __init__(self, module: AnsibleModule, client: vault.hvac.Client) -> None:
        """`client` has to hold a token that may manage all that the module's parameters declare."""
        self.module = module
        self.params = module.params
        self.client = client
        self.check = module.check_mode
        self.changes: list[str] = []
        self.tokens_due: list[str] = []
        self.seeds_due: list[str] = []

    def run(self) -> None:
        """Reconcile everything. Raises VaultProblem."""
        self.engines()
        self.audit()
        self.policies()
        for wanted in self.params["roles"]:
            self.role(wanted)
        self.seeds()

    def engines(self) -> None:
        """Mount the engines that are missing."""
        mounted = self.client.sys.list_mounted_secrets_engines()["data"] if self.params["engines"] else {}
        for wanted in self.params["engines"]:
            if not engine_fault(wanted, mounted.get(wanted["path"].strip("/") + "/")):
                continue
            self.changes.append(f"engine {wanted['path']}: enabled")
            if not self.check:
                options = {"version": str(wanted["version"])} if wanted["version"] else None
                self.client.sys.enable_secrets_engine(wanted["type"], path=wanted["path"], options=options)

    def audit(self) -> None:
        """Enable the audit devices that are missing."""
        enabled = self.client.sys.list_enabled_audit_devices()["data"] if self.params["audit"] else {}
        for wanted in self.params["audit"]:
            if wanted["path"].strip("/") + "/" in enabled:
                continue
            self.changes.append(f"audit {wanted['path']}: enabled")
            if not self.check:
                self.client.sys.enable_audit_device(wanted["type"], path=wanted["path"], options=wanted["options"])

    def policies(self) -> None:
        """Write the policies whose text differs."""
        for name, text in self.params["policies"].items():
            try:
                found = self.client.sys.read_acl_policy(name)["data"]["policy"]
            except vault.hvac.exceptions.InvalidPath:
                found = None
            if same_text(found, str(text)):
                continue
            self.changes.append(f"policy {name}: {'created' if found is None else 'updated'}")
            if not self.check:
                self.client.sys.create_or_update_acl_policy(name, str(text))

    def role(self, wanted: dict[str, t.Any]) -> None:
        """Have the AppRole, its credential on the host, and a look at the token that a unit there makes with it."""
        roles = AppRoles(self.client)
        missing = roles.differs(wanted)
        if missing:
            self.changes.append(f"login {wanted['name']}: written")
            if not self.check:
                roles.write(wanted)
        if wanted["credential"]:
            self.credential(roles, wanted, missing and self.check)
        if wanted["file"]:
            self.token(wanted)

    def credential(self, roles: AppRoles, wanted: dict[str, t.Any], role_missing: bool) -> None:
        """Have a credential on the host that opens the role. Its secret is made here and is nowhere else in clear."""
        credential = vault.Credential(self.module, wanted["credential"])
        held = (credential.read() or {}).get("secret_id")
        if held:
            self.module.no_log_values.add(held)
        if held and not role_missing and roles.knows(wanted["name"], held):
            return
        self.changes.append(f"credential {credential.path.name}: {'replaced' if held else 'made'}")
        if not self.check:
            secret_id = secrets.token_urlsafe(32)
            self.module.no_log_values.add(secret_id)
            credential.write({"role_id": wanted["name"], "secret_id": secret_id})
            roles.install(wanted["name"], secret_id)

    def token(self, wanted: dict[str, t.Any]) -> None:
        """Tell whether the file holds a token as wanted; put owner and mode right."""
        path = pathlib.Path(wanted["file"])
        value, status = self.read_token(path)
        fault = token_fault(wanted, self.describe(value)) if value else "is missing"
        if fault:
            self.changes.append(f"token in {path}: to be issued, because it {fault}")
            self.tokens_due.append(str(path))
            return
        owner = (wanted["uid"], wanted["gid"])
        if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (*owner, TOKEN_MODE):
            self.changes.append(f"token in {path}: owner and mode put right")
            if not self.check:  # in place: a new file would look like a new token
                os.chown(path, *owner, follow_symlinks=False)
                path.chmod(TOKEN_MODE)

    def read_token(self, path: pathlib.Path) -> tuple[str | None, os.stat_result | None]:
        """Return what the token file holds and its status; None, None if there is no such regular file."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None, None
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            value = file.read().strip()
            if not value:
                return None, None
            self.module.no_log_values.add(value)
            return value, os.fstat(file.fileno())

    def describe(self, token: str) -> dict[str, t.Any] | None:
        """Return Vault's description of a token, or None if the token is not valid.

        Asked with our own token: a token's own lookup needs a policy, and a mistake there must not look like an invalid
        token.
        """
        try:
            return self.client.auth.token.lookup(token)["data"]
        except vault.hvac.exceptions.VaultError as error:
            if isinstance(error, (vault.hvac.exceptions.Forbidden, vault.hvac.exceptions.InvalidPath)):
                return None
            raise

    def seeds(self) -> None:
        """Bring each seed about as its kind asks for, or leave it to the caller."""
        params, engine = self.params, self.params["seeds_engine"]
        for path in params["seeds_ensure"]:
            if self.version(path) is None:
                self.changes.append(f"seed {engine}/{path}: written")
                self.seeds_due.append(path)
        for path, lengths in params["seeds_generate"].items():
            if self.version(path) is None:
                self.changes.append(f"seed {engine}/{path}: generated")
                if not self.check:
                    made = {name: "".join(secrets.choice(GENERATED) for _ in range(n)) for name, n in lengths.items()}
                    self.module.no_log_values.update(made.values())
                    self.write_secret(path, made, 0)
        for path, values in params["seeds_enforce"].items():
            self.enforce(path, values)

    def enforce(self, path: str, values: dict[str, t.Any]) -> None:
        """Write the given fields where Vault has others, as a new version that keeps all other fields."""
        version = self.version(path)
        found = self.read_secret(path) if version else {}
        self.module.no_log_values.update(str(value) for value in found.values() if len(str(value)) > 3)
        if all(found.get(name) == value for name, value in values.items()):
            return
        self.changes.append(f"seed {self.params['seeds_engine']}/{path}: {'put right' if version else 'written'}")
        if not self.check:
            self.write_secret(path, {**found, **values}, version or 0)

    def version(self, path: str) -> int | None:
        """Return the path's latest version, None if it never held anything. Asks for metadata, so no value is read."""
        read = self.client.secrets.kv.v2.read_secret_metadata
        try:
            answer = self.patiently(read, path=path, mount_point=self.params["seeds_engine"])
        except vault.hvac.exceptions.InvalidPath:
            return None
        except vault.hvac.exceptions.Forbidden:
            if self.check:
                return None  # the engine is not there yet
            raise vault.VaultProblem(
                f"The seed {path} is outside of what may be seeded. Add its first part to vault_seed_folders."
            ) from None
        return answer["data"]["current_version"]

    def read_secret(self, path: str) -> dict[str, t.Any]:
        """Return the latest values, none if that version was deleted."""
        read = self.client.secrets.kv.v2.read_secret_version
        try:
            answer = read(path=path, mount_point=self.params["seeds_engine"], raise_on_deleted_version=True)
        except vault.hvac.exceptions.InvalidPath:
            return {}
        return answer["data"]["data"] or {}

    def write_secret(self, path: str, values: dict[str, t.Any], version: int) -> None:
        """Write a version, which Vault refuses (check-and-set) if it would not follow that one: somebody was faster."""
        write = self.client.secrets.kv.v2.create_or_update_secret
        self.patiently(write, path=path, secret=values, cas=version, mount_point=self.params["seeds_engine"])

    def patiently(self, call: t.Callable[..., t.Any], **arguments: t.Any) -> t.Any:
        """Call, and again while a kv engine says that it is still being set up, as a new one may for a moment."""
        end = time.monotonic() + self.params["deadline"]
        while True:
            try:
                return call(**arguments)
            except vault.hvac.exceptions.InvalidRequest as error:
                if "Upgrading from non-versioned" not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(vault.POLL_SECONDS)


def reconcile(module: AnsibleModule) -> dict:
    """Look at Vault, reconcile it if it is open, and return the result."""
    params = module.params
    client = vault.connect(params["url"], timeout=params["deadline"])
    state = vault.answering_state(client, params["deadline"], module.check_mode)
    if state == vault.UNREACHABLE:
        return nothing_there_yet()
    if state in (vault.UNINITIALIZED, vault.SEALED):
        return not_open(state)
    if params["marker"] and vault.read_marker(pathlib.Path(params["marker"])) is not None:
        return not_open(INTERRUPTED)
    if not params["keys_present"]:
        return not_open(NO_KEYS)
    vault.wait_for(client, (vault.ACTIVE,), params["deadline"])
    return manage(module)


def manage(module: AnsibleModule) -> dict:
    """Reconcile an open Vault as the managing identity, after mending that if it may."""
    params = module.params
    access = Access(module, pathlib.Path(params["root_marker"]), pathlib.Path(params["wipe_marker"]))
    client = access.log_in()
    fault = access.fault(client)
    changes = []
    if fault and not params["elevate"]:
        log_out(client)
        return not_open(NO_ACCESS)
    if fault:
        changes.append(f"login {params['access_role']}: mended with a root token, because {fault}")
        if not module.check_mode:
            log_out(client)
            access.elevate()
            client = access.log_in()
    if client is None:  # in check mode there is no other way in
        return finish(module, changes, [], [])
    reconciler = Reconciler(module, client)
    try:
        reconciler.run()
        if access.root_marker.exists():
            count = "" if module.check_mode else f"{access.revoke_roots(client)} "
            changes.append(f"root tokens: {count}revoked")
    except vault.hvac.exceptions.Forbidden:
        if not (fault and module.check_mode):
            raise  # else the identity is to be mended first, and what it may not look at is not told
    finally:
        log_out(client)
    return finish(module, changes + reconciler.changes, reconciler.tokens_due, reconciler.seeds_due)


def log_out(client: vault.hvac.Client | None) -> None:
    """Revoke our own token, which would live for minutes yet."""
    if client is not None:
        with contextlib.suppress(vault.hvac.exceptions.Forbidden):  # a policy changed by hand may forbid even that
            client.auth.token.revoke_self()


def finish(module: AnsibleModule, changes: list[str], tokens_due: list[str], seeds_due: list[str]) -> dict:
    """Return the result for a Vault that was looked into."""
    result = {
        "changed": bool(changes),
        "state": READY,
        "changes": changes,
        "tokens_due": tokens_due,
        "seeds_due": seeds_due,
    }
    if module._diff:
        result["diff"] = {"before": "", "after": "".join(f"{change}\n" for change in changes)}
    return result


def not_open(state: str) -> dict:
    """Return the result for a Vault that cannot be looked into; somebody else's turn, so no change."""
    return {"changed": False, "state": state, "changes": [], "tokens_due": [], "seeds_due": []}


def nothing_there_yet() -> dict:
    """Return what check mode says about a host without a Vault."""
    return {**not_open(vault.UNREACHABLE), "changed": True}


def main() -> None:
    """Run the module."""
    text = {"type": "str"}
    module = AnsibleModule(
        argument_spec={
            **vault.CONNECTION,
            **vault.CUSTODY,
            **vault.MANAGED,
            "elevate": {"type": "bool", "default": False},
            "access_policy": {"type": "str", "required": True},
            "root_url": {"type": "str", "default": ""},
            "root_container": {"type": "str", "default": ""},
            "root_marker": {"type": "path", "required": True},
            "wipe_marker": {"type": "path", "required": True},
            "marker": {"type": "path"},
            "engines": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "type": {"type": "str", "required": True},
                    "version": {"type": "int"},
                },
            },
            "audit": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "type": {"type": "str", "required": True},
                    "options": {"type": "dict", "default": {}},
                },
            },
            "policies": {"type": "dict", "default": {}},
            "roles": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "policies": {"type": "list", "elements": "str", "required": True},
                    "period": text,
                    "credential": {"type": "path"},
                    "file": {"type": "path"},
                    "uid": {"type": "int", "default": 0},
                    "gid": {"type": "int", "default": 0},
                },
            },
            "seeds_ensure": {"type": "list", "elements": "str", "default": []},
            "seeds_enforce": {"type": "dict", "default": {}, "no_log": True},
            "seeds_generate": {"type": "dict", "default": {}},
            "seeds_engine": {"type": "str", "default": "kv"},
            "shares": {"type": "list", "elements": "str", "no_log": True},
            "root_token": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    vault.run(module, "configured", reconcile, nothing_there_yet())


if __name__ == "__main__":
    main()
