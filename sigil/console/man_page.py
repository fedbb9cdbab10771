"""A man page from the same texts as --help (man(7), in the macros that man-db and mandoc share)."""

from __future__ import annotations

from collections.abc import Iterator

import click


def man_page(command: click.Group, program: str, see_also: str) -> str:
    """Of the program and of all its commands; the same text for the same commands."""
    root = click.Context(command, info_name=program, **command.context_settings)
    lines = [
        f'.TH {_escaped(program).upper()} 1 "" Sigil "User Commands"',
        ".SH NAME",
        f"{_escaped(program)} \\- {_escaped(_first_sentence(command))}",
        ".SH SYNOPSIS",
        f".B {_escaped(program)}",
        _escaped(" ".join(command.collect_usage_pieces(root))),
        ".SH DESCRIPTION",
        *_text(command.help or ""),
        ".SH OPTIONS",
        *_options(root),
        ".SH COMMANDS",
    ]
    for context in _commands(root):
        pieces = context.command.collect_usage_pieces(context)
        lines += [f".SS {_escaped(' '.join([context.command_path, *pieces]))}", *_text(context.command.help or "")]
        lines += _options(context)
    lines += [
        ".SH EXIT STATUS",
        "0 for success, 1 for an error, 2 for wrong usage, 130 after Ctrl\\-C, 141 when the reader of the output left.",
        "A command may have more, named with it.",
        ".SH ENVIRONMENT",
        "Settings are variables of the environment: see docs/configuration.md and docs/relay.md.",
        ".TP",
        ".B NO_COLOR, FORCE_COLOR",
        "Output without colours; with colours also in pipes and files.",
        ".SH SEE ALSO",
        f".BR {_escaped(see_also)} (1)",
    ]
    return "\n".join(lines) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """The contexts of all commands below, in the order of --help."""
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, parent=context, info_name=name, **command.context_settings)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield inner
        yield from _commands(inner)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            names, text = record
            yield from (".TP", f".B {_escaped(names)}", _escaped(" ".join(text.split())) or "\\&")


def _text(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _first_sentence(command: click.Command) -> str:
    return " ".join((command.help or "").split()).partition(".")[0]


def _escaped(text: str) -> str:
    r"""No text is a macro, an escape or a typographic hyphen; other characters in the form \[uXXXX]."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    if text.startswith((".", "'")):
        text = f"\\&{text}"
    return "".join(character if character.isascii() else f"\\[u{ord(character):04X}]" for character in text)
