"""docs/reference/command-line.md: every verb, by what typer knows of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import typer

from nuropb_rmq.cli.app import EXIT_STATUS, app
from nuropb_rmq.cli.conventions import MANAGEMENT_VARIABLE, URL_VARIABLE
from nuropb_rmq.health_probe import FOLDER_VARIABLE, USAGE

from .tables import code, table


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    command: Any = typer.main.get_command(app)
    yield from _INTRODUCTION.splitlines()
    yield ""
    rows = []
    for name, verb in command.commands.items():
        rows.append((f"[`{name}`](#{name})", _first(verb)))
    yield from table(("verb", ""), rows)
    for name, verb in command.commands.items():
        yield from _verb(f"nuropb-rmq {name}", verb, "##")


def _verb(path: str, verb: Any, hashes: str) -> Iterator[str]:
    yield from (f"{hashes} {path.removeprefix('nuropb-rmq ')}", "")
    if path == "nuropb-rmq health":
        yield from ("```text", USAGE.rstrip(), "```", "")
        return
    below = getattr(verb, "commands", {})
    if not below:
        yield from ("```text", f"{path} {' '.join(_usage(verb))}".rstrip(), "```", "")
    yield from _text(verb.help)
    arguments = [each for each in verb.params if _is_argument(each)]
    options = [each for each in verb.params if not _is_argument(each) and not each.hidden]
    if arguments:
        told = [(code(_name(each)), each.help or "") for each in arguments]
        yield from table(("argument", ""), told)
    if options:
        rows = [(_option(each), code(_default(each)), _help(each)) for each in options]
        yield from table(("option", "default", ""), rows)
    if verb.epilog:
        yield from (verb.epilog, "")
    for name, each in below.items():
        yield from _verb(f"{path} {name}", each, hashes + "#")


def _first(verb: Any) -> str:
    return str(inspect.cleandoc(verb.help).split("\n\n")[0].replace("\n", " "))


def _text(help_text: str) -> Iterator[str]:
    """Yield the paragraphs of a help; one that is a command is shown as such."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        text = paragraph.replace("\n", " ")
        if text.startswith("nuropb-rmq "):
            yield from ("```sh", text, "```", "")
        else:
            yield from (text, "")


def _usage(verb: Any) -> Iterator[str]:
    if any(not _is_argument(each) for each in verb.params):
        yield "[OPTIONS]"
    for each in verb.params:
        if _is_argument(each):
            yield _name(each) if each.required else f"[{_name(each)}]"


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _name(parameter: Any) -> str:
    return f"{parameter.metavar or parameter.name.upper()}{'...' if parameter.nargs != 1 else ''}"


def _option(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    value = f" {option.metavar}" if option.metavar and not option.is_flag else ""
    if not value and not option.is_flag:
        value = f" {option.name.upper()}"
    return ", ".join(code(name + value) for name in names)


def _default(option: Any) -> str:
    """Return the default; nothing where there is none, or the option is a switch that is off."""
    if option.default in (None, "", False) or callable(option.default):
        return ""
    return str(option.default)


def _help(option: Any) -> str:
    kind = getattr(option, "type", option)  # later versions of typer have the range at the option
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    text = option.help or ""
    if low is None and high is None:
        return text
    bounds = f"{low:g} to {high:,}" if high is not None else f"from {low:g} on"
    return f"{text} ({bounds})"


_INTRODUCTION: Final = f"""\
# Command line

`pip install 'nuropb-rmq-aio[cli]'` brings the command `nuropb-rmq`; `python -m nuropb_rmq` is the same. Its
guide is [the command](../operations/command.md).

| environment | |
|---|---|
| `{URL_VARIABLE}` | the broker's address, where `--url` is not given |
| `{MANAGEMENT_VARIABLE}` | the management API, where `--management-url` is not given |
| `{FOLDER_VARIABLE}` | the folder of the sockets that `health` asks |
| `NO_COLOR` | no colours |

{EXIT_STATUS} 141: whoever read the output has gone. A verb with other statuses names them.

`nuropb-rmq --version` prints the version, `--install-completion` installs completion for the shell, `--show-completion`
prints it, and `-h` or `--help` explains each verb.
"""
