"""Polling for what is asked until enough are answered."""

from __future__ import annotations

import click

from sigil.device.approval_checks import Shown
from sigil.device.client import DeviceClient
from sigil.device.commands.context import MATCH_CODE, CommandContext, one_line
from sigil.device.display import lines_of, printable
from sigil.device.errors import DeviceError, ServerRefused, Unreachable

# Answered elsewhere, cancelled or expired between the poll and the answer.
_TOO_LATE = (404, 409, 410)


class Watcher:
    """Asks about each once; `count` None means no end."""

    def __init__(
        self, client: DeviceClient, around: CommandContext, *, auto_approve: bool = False, count: int | None = None
    ) -> None:
        self._client, self._around, self._auto_approve = client, around, auto_approve
        self._left, self._seen = count, set[str]()

    def run(self, interval: float) -> None:
        """Until `count` are answered. What may pass by itself is reported and tried again; the rest raises."""
        while True:
            try:
                self.poll()
            except (Unreachable, ServerRefused) as error:
                if isinstance(error, ServerRefused) and not error.passing:
                    raise
                self._report(error)
            if self._left == 0:
                return
            self._around.sleep(interval)

    def poll(self) -> None:
        inbox = self._client.inbox()
        self._seen &= inbox.listed_ids()
        for refused in inbox.refused:
            if refused.challenge_id not in self._seen:
                self._report(refused.error, f"REFUSED {refused.challenge_id} ")
                self._seen.add(refused.challenge_id)
        for shown in inbox.shown:
            if shown.id not in self._seen and self._left != 0:
                self._take(shown)
                self._seen.add(shown.id)

    def _take(self, shown: Shown) -> None:
        for line in lines_of(shown, self._around.clock()):
            click.echo(line)
        try:
            answered = self._approve_unasked(shown) if self._auto_approve else self._ask(shown)
        except ServerRefused as error:
            if error.status not in _TOO_LATE:
                raise
            self._report(error)
            return
        if answered and self._left is not None:
            self._left -= 1

    def _approve_unasked(self, shown: Shown) -> bool:
        if shown.number_matching:
            # Nobody here has seen the number; guessing would end the challenge at the third try.
            click.echo(f"Left: 'sigil device approve {shown.id} --match-code NN' answers it.", err=True)
            return False
        click.echo(f"Approved: {self._client.approve(shown).status}")
        return True

    def _ask(self, shown: Shown) -> bool:
        if not click.confirm("Approve?", default=False, err=True):
            click.echo(f"Rejected: {self._client.reject(shown, 'cancelled').status}")
            return True
        code = click.prompt("The number that the service shows", type=MATCH_CODE) if shown.number_matching else None
        click.echo(f"Approved: {self._client.approve(shown, code).status}")
        return True

    def _report(self, error: DeviceError, prefix: str = "") -> None:
        click.echo(printable(prefix) + one_line(error), err=True)
