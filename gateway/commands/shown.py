"""How a command says that it cannot do what was asked: one sentence for a person, and exit code 2."""

import click

from gateway.terms.visible import visible_lines


class CannotError(click.ClickException):
    """What was asked cannot be done, and nothing was. Ends as wrong usage does, with exit code 2."""

    exit_code = 2

    def format_message(self) -> str:
        """The sentence; nothing in it that came from a file can steer a terminal."""
        return visible_lines(self.message)
