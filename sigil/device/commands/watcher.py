"""Polls for pending challenges until enough are answered."""

from __future__ import annotations

import click

from sigil.console.countdown import countdown_before_prompt
from sigil.device.approval_checks import Shown
from sigil.device.client import DeviceClient
from sigil.device.commands.context import CommandContext, discard_typed_ahead, one_line, prompt_number
from sigil.device.commands.output import answer_text, how_to_approve
from sigil.device.display import lines_of
from sigil.device.errors import DeviceError, MatchCodeWrong, ServerRefused, Unreachable, is_temporary
from sigil.protocol.encoding.display_text import printable

# Answered elsewhere, cancelled or expired between the poll and the answer.
_TOO_LATE = (404, 409, 410)


class Watcher:
    """Prompts once for each challenge; `count` None means no end."""

    def __init__(
        self, client: DeviceClient, context: CommandContext, *, auto_approve: bool = False, count: int | None = None
    ) -> None:
        self._client, self._context, self._auto_approve = client, context, auto_approve
        self._left, self._seen = count, set[str]()

    def run(self, interval: float) -> None:
        """Until `count` are answered. Temporary errors are reported and retried; others are raised."""
        while True:
            try:
                self.poll()
            except (Unreachable, ServerRefused) as error:
                if not is_temporary(error):
                    raise
                self._report(error)
            if self._left == 0:
                return
            self._context.sleep(interval)

    def poll(self) -> None:
        inbox = self._client.inbox()
        self._seen &= inbox.listed_ids()
        for refused in inbox.refused:
            if refused.challenge_id not in self._seen:
                self._report(refused.error, f"REFUSED {refused.challenge_id} ")
                self._seen.add(refused.challenge_id)
        for shown in inbox.shown:
            if shown.id not in self._seen and self._left != 0:
                self._answer(shown)
                self._seen.add(shown.id)

    def _answer(self, shown: Shown) -> None:
        for line in lines_of(shown, self._context.clock()):
            click.echo(line)
        try:
            answered = self._approve_automatically(shown) if self._auto_approve else self._prompt(shown)
        except ServerRefused as error:
            if error.status not in _TOO_LATE:
                raise
            self._report(error)
            return
        if answered and self._left is not None:
            self._left -= 1

    def _approve_automatically(self, shown: Shown) -> bool:
        if shown.number_matching:
            # The digits are not known here; the third wrong guess would end the challenge.
            click.echo(how_to_approve(shown.id), err=True)
            return False
        click.echo(answer_text("approved", self._client.approve(shown).status))
        return True

    def _prompt(self, shown: Shown) -> bool:
        discard_typed_ahead()
        with countdown_before_prompt(shown.seconds_left(self._context.clock())) as seconds:
            approved = click.confirm(f"{seconds}Approve?", default=False, err=True)
        if not approved:
            click.echo(answer_text("rejected", self._client.reject(shown, "cancelled").status))
            return True
        while True:
            code = prompt_number(shown, self._context) if shown.number_matching else None
            try:
                answer = self._client.approve(shown, code)
            except MatchCodeWrong as error:
                click.echo(error.message, err=True)
                if not error.tries_left:
                    return False
                continue
            click.echo(answer_text("approved", answer.status))
            return True

    def _report(self, error: DeviceError, prefix: str = "") -> None:
        click.echo(printable(prefix) + one_line(error), err=True)
