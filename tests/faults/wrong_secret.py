"""A fault: the file of a secret has another content, with which the service is started."""

from __future__ import annotations

from cells import SECRETS
from lab_host import STACK, LabHost

#: Prints unseal shares that have the form of shares.
SHARES = 'import json; print(json.dumps({"shares": [f"{number:02x}" * 33 for number in range(1, 6)]}))'


class WrongSecret:
    """The file is replaced and the service restarted; an operator's remedy is the same with the right content."""

    lasting, ends_with_process = True, False

    def __init__(self, host: LabHost, service: str) -> None:
        self.host, self.service = host, service
        self.file = SECRETS[service] if SECRETS[service].startswith("/") else f"{STACK}/secrets/{SECRETS[service]}"
        self.kept = f"/run/lab-secret-{service}"

    def prepare(self) -> None:
        self.host.run(f"cp -p {self.file} {self.kept}")

    def apply(self) -> None:
        if "credstore" in self.file:
            name = self.file.rpartition("/")[2]
            self.host.run(f"python3 -Ic '{SHARES}' | systemd-creds encrypt --name={name} - {self.file}.wrong")
            self.host.run(f"cat {self.file}.wrong > {self.file} && rm {self.file}.wrong")
        else:
            self.host.run(f"printf %s {self._wrong()} > {self.file}")
        self._restart()

    def _wrong(self) -> str:
        """What the file has a form for, and no other side accepts."""
        if self.file.endswith(".flags"):
            return "--requirepass=wrong"
        return "http://198.51.100.4/refused" if self.file.endswith("URL") else "wrong"

    def keep(self) -> None:
        """Nothing: the file stays as it is."""

    def in_force(self) -> bool:
        return self.host.shell(f"cmp -s {self.file} {self.kept}", check=False).returncode == 1

    def release(self) -> None:
        self.host.run(f"cp -p {self.kept} {self.file}")
        self._restart()

    def remove(self) -> None:
        self.host.shell(f"rm -f {self.kept}", check=False)

    def _restart(self) -> None:
        for container in self.host.containers(self.service, running=False):
            self.host.shell(f"docker restart --time 10 {container['Id']}")
