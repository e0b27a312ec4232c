"""Keeps a wrong password from locking the account out.

Directus suspends a user after a number of refused logins in a row (25 by default). A check that tries every few seconds
would get the administrator suspended within two minutes.
"""

from dataclasses import dataclass

FIRST_PAUSE = 10.0  # seconds, doubled after every refusal
MAXIMUM_REFUSALS = 5


@dataclass
class LoginGuard:
    """Counts refused logins. All times are seconds of one clock."""

    refusals: int = 0
    _not_before: float = 0.0

    def obstacle(self, now: float) -> str | None:
        """Return why no login may be tried now, or None if one may."""
        if self.refusals >= MAXIMUM_REFUSALS:
            return (
                f"login refused {self.refusals} times: not trying again, so that Directus does not suspend the account;"
                " correct the password and restart the api"
            )
        if now < self._not_before:
            return f"login refused ({self.refusals} of {MAXIMUM_REFUSALS}); next try in {self._not_before - now:.0f} s"
        return None

    def refused(self, now: float) -> None:
        """Note a refusal."""
        self._not_before = now + FIRST_PAUSE * 2**self.refusals
        self.refusals += 1

    def accepted(self) -> None:
        """Note a success."""
        self.refusals = 0
        self._not_before = 0.0
