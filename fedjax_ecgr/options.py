"""The options of the command line that go to factories: how they are named, and what they ask for.

An option is named by the kind of what takes it, `--algorithm.alpha`, or, as there may be several,
by the transform, `--top-k.share`. The part behind the dot is enough, `--alpha`, where only one of
the names that a command line chooses takes such an option.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.markup import escape

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.kinds import Kind, read, write
from fedjax_ecgr.runs.config import (
    LISTINGS,
    SEVERAL,
    Choice,
    RunConfig,
    chosen_file,
    from_json,
    options_of,
    run_fields,
)
from fedjax_ecgr.runs.parameters import Parameter, descriptions
from fedjax_ecgr.trackers import TRACKERS

PANELS = {
    "dataset": "Data",
    "partition": "Partition",
    "model": "Model",
    "algorithm": "Algorithm",
    "regulator": "Regulator",
    "transforms": "Transforms",
    "aggregator": "Aggregator",
    "attack": "Attack",
    "sampler": "Sampler",
    "system": "System",
    "augmentations": "Augmentations",
}
_OF_COMMAND = ("config", "out", "resume", "track", "help")  # of `run` itself


class Flag(NamedTuple):
    """An option that goes to factories.

    Attributes:
      space: what stands before the dot.
      name: what stands behind it.
      kind: the listing it belongs to.
      takers: for each name of the listing that takes it, the parameter.
      everyone: whether that is all of the listing, of more than one.
    """

    space: str
    name: str
    kind: str
    takers: Mapping[str, Parameter]
    everyone: bool

    @property
    def option(self) -> str:
        """The full name, as it is written behind two dashes."""
        return f"{self.space}.{self.name}"

    @property
    def takes(self) -> Kind:
        """What its value must be."""
        return next(iter(self.takers.values())).kind

    @property
    def help(self) -> str:
        """What it is, and for which names, each with its default."""
        told: dict[str, list[str]] = {}
        for name, parameter in self.takers.items():
            default = "" if parameter.default is None else f" [default: {write(parameter.default)}]"
            told.setdefault(parameter.help + default, []).append(name)
        if self.kind in SEVERAL or (self.everyone and len(told) == 1):
            return "\n\n".join(told)
        return "\n\n".join(f"{', '.join(names)}: {text}" for text, names in told.items())


def flags() -> tuple[Flag, ...]:
    """Returns all options that go to factories, kind by kind, of what is listed by now."""
    return _flags(tuple((kind, *listing.items()) for kind, listing in LISTINGS.items()))


@cache
def _flags(known: tuple[Any, ...]) -> tuple[Flag, ...]:
    found: list[Flag] = []
    for kind, *listing in known:
        spaces: dict[tuple[str, str], dict[str, Parameter]] = {}
        for name, _ in listing:
            space = dashed(name) if kind in SEVERAL else kind
            for option, parameter in options_of(kind, name).items():
                spaces.setdefault((space, dashed(option)), {})[name] = parameter
        for (space, option), takers in spaces.items():
            everyone = len(takers) == len(listing) > 1
            found.append(Flag(space, option, kind, takers, everyone))
    return tuple(found)


def track_option(panel: str | None = None) -> Any:
    """Returns the option of commands that run something, in a panel of their help."""
    names = ", ".join(TRACKERS)
    text = f"{names}: where else to show it, with commas between [default: none]"
    return typer.Option(help=escape(text), metavar="NAME", rich_help_panel=panel)


def short_forms(found: Iterable[Flag]) -> dict[str, list[Flag]]:
    """Returns what each short form may stand for.

    What a run's own options are called has no other meaning: theirs are written in full.
    """
    taken = {dashed(name) for name in (*LISTINGS, *run_fields(), *_OF_COMMAND)}
    forms: dict[str, list[Flag]] = {}
    for flag in found:
        if flag.name not in taken:
            forms.setdefault(flag.name, []).append(flag)
    return forms


def with_options(function: Any, kinds: Iterable[str], fields: Iterable[str]) -> Any:
    """Returns `function` as typer takes it: with a keyword for each option, None if not given.

    Args:
      function: takes a dict of what was given, by keyword.
      kinds: of what is chosen from listings.
      fields: of a run's other fields.
    """

    own = _own(function)

    def command(**given: Any) -> int:
        return function(given, **{parameter.name: given.pop(parameter.name) for parameter in own})

    command.__doc__ = function.__doc__
    taken = [*_keywords(tuple(kinds), tuple(fields)), *own]
    command.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    return command


def configure(
    given: dict[str, Any], path: Path | None = None, kinds: Iterable[str] = LISTINGS
) -> RunConfig:
    """Returns the configuration of a file, or the default one, with what was given in its place."""
    base = RunConfig() if path is None else _read_config(path)
    said = {_option(name): value for name, value in given.items() if value is not None}
    config, left = describe(said, base, kinds)
    if left:
        raise InputError(next(iter(left.values())))
    return config


def describe(
    given: Mapping[str, Any], base: RunConfig, kinds: Iterable[str] = LISTINGS
) -> tuple[RunConfig, dict[str, str]]:
    """Returns a configuration, and what is wrong with options that none of the chosen names takes.

    Args:
      given: by name, as on the command line but for the two dashes: names of what is chosen, fields
        of a run, and options of factories, in full or short.
      base: what holds where nothing is said.
      kinds: those whose options there are.

    Raises:
      InputError: for an unknown name or option, a value of another type, or an option that more
        than one of the chosen names takes.
    """
    names = {kind: _name(kind, given[kind]) for kind in LISTINGS if kind in given}
    known = {dashed(name): (name, parameter) for name, parameter in run_fields().items()}
    fields = {
        name: parse(parameter.kind, given[option])
        for option, (name, parameter) in known.items()
        if option in given
    }
    options = {o: value for o, value in given.items() if o not in names and o not in known}
    chosen, left = choices(base, names, options, kinds)
    made = {kind: tuple(of) if kind in SEVERAL else of[0] for kind, of in chosen.items()}
    return dataclasses.replace(base, **{**made, **fields}), left


def _identifier(option: str) -> str:
    """Returns what Python calls an option; `_option` is the way back."""
    return option.replace("-", "_").replace(".", "__")


def _option(identifier: str) -> str:
    return dashed(identifier.replace("__", "."))


def choices(
    base: RunConfig,
    names: Mapping[str, str],
    given: Mapping[str, Any],
    kinds: Iterable[str] = LISTINGS,
) -> tuple[dict[str, list[Choice]], dict[str, str]]:
    """Returns what is chosen, by kind, and a complaint of each option that nothing chosen takes.

    Args:
      base: what is chosen where nothing is said.
      names: by kind, the name given, or several with commas between.
      given: what was said of options, in full (`algorithm.alpha`) or short (`alpha`).
      kinds: those whose options there are.

    Raises:
      InputError: for an unknown name or option, or an option that more than one of the chosen names
        takes.
    """
    chosen = {kind: _chosen(kind, base, names.get(kind)) for kind in LISTINGS}
    found = [flag for flag in flags() if flag.kind in kinds]
    full, forms = {flag.option: flag for flag in found}, short_forms(found)
    left: dict[str, str] = {}
    for said, value in given.items():
        if said not in full and said not in forms:
            known = [*full, *forms, *LISTINGS, *map(dashed, run_fields())]
            raise InputError(f"{said}: no such option{check.nearest(said, known)}")
        could = [full[said]] if said in full else forms[said]
        does = [flag for flag in could if _takers(flag, chosen)]
        if not does:
            left[said] = _not_taken(said, value, could, chosen)
            continue
        if len(does) > 1:
            options = ", ".join(f"--{flag.option}" for flag in does)
            raise InputError(f"--{said}: ambiguous, one of {options}")
        if said not in full and does[0].option in given:
            raise InputError(f"{said}: {value!r} is not allowed beside --{does[0].option}")
        for choice in _takers(does[0], chosen):
            parameter = does[0].takers[choice.name]
            choice.options[parameter.name] = parse(parameter.kind, value)  # type: ignore[index]
    return chosen, left


def parse(kind: Kind, value: Any) -> Any:
    """Returns what was given as `kind`, or as it is where it is none, to be refused by name."""
    try:
        return read(kind, value) if isinstance(value, str) else value
    except ValueError:
        return value


def dashed(name: str) -> str:
    """Returns a Python name as options are written."""
    return name.replace("_", "-")


def _name(kind: str, value: Any) -> str:
    """Returns what is chosen as text: of a kind with several, a list of names will do."""
    if kind in SEVERAL and isinstance(value, list | tuple):
        value = ",".join(map(str, value)) or "none"
    if not isinstance(value, str):
        known = ", ".join(LISTINGS[kind])
        raise InputError(f"{kind}: {value!r} is not allowed, it must be a name (known: {known})")
    return value


def _chosen(kind: str, base: RunConfig, said: str | None) -> list[Choice]:
    """Returns the choices of one kind, with those options of the base that stay."""
    before = list(getattr(base, kind)) if kind in SEVERAL else [getattr(base, kind)]
    if said is None:
        return [Choice(name, dict(options)) for name, options in before]
    if kind not in SEVERAL:
        name, options = chosen_file(Choice(said)) if kind == "dataset" else Choice(said)
        return [Choice(name, {**_kept(kind, name, before[0]), **options})]
    by_name = {choice.name: dict(choice.options) for choice in before}
    names = [] if said == "none" else [name for name in said.split(",") if name]
    for name in names:
        check.known(kind, name, LISTINGS[kind])
    return [Choice(name, by_name.get(name, {})) for name in names]


def _kept(kind: str, name: str, before: Choice) -> dict[str, Any]:
    """Returns the options that stay when another name is chosen: what was set, if it takes it."""
    takes, took = options_of(kind, name), options_of(kind, before.name)
    same = name == before.name
    return {
        option: value
        for option, value in before.options.items()
        if option in takes and (same or value != took[option].default)
    }


def _takers(flag: Flag, chosen: Mapping[str, list[Choice]]) -> list[Choice]:
    return [choice for choice in chosen[flag.kind] if choice.name in flag.takers]


def _not_taken(said: str, value: Any, could: list[Flag], chosen: Mapping[str, list[Choice]]) -> str:
    kinds = dict.fromkeys(flag.kind for flag in could)
    names = [f"{kind} {', '.join(c.name for c in chosen[kind]) or 'none'}" for kind in kinds]
    owners = dict.fromkeys(name for flag in could for name in flag.takers)
    return (
        f"{said}: {value!r} is not allowed with {' and '.join(names)}, "
        f"it is an option of {', '.join(owners)}"
    )


def _own(function: Any) -> list[inspect.Parameter]:
    """Returns the parameters of a command's own, behind what was given."""
    own = list(inspect.signature(function).parameters.values())[1:]
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]


def _keywords(kinds: Sequence[str], fields: Sequence[str]) -> Iterator[inspect.Parameter]:
    defaults = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    documented, found = descriptions(RunConfig), [f for f in flags() if f.kind in kinds]
    for kind in kinds:
        panel = PANELS[kind]
        default = "none" if kind in SEVERAL else defaults[kind].name
        several = ", with commas between" if kind in SEVERAL else ""
        names = f"{', '.join(LISTINGS[kind])}{several} [default: {default}]"
        yield _keyword(kind, str, f"{documented[kind].rstrip('.')}: {names}", panel, "NAME")
        for flag in found:
            if flag.kind == kind:
                yield _keyword(flag.option, flag.takes.scalar, flag.help, panel, flag.takes.metavar)
    for name, of in short_forms(found).items():
        yield _keyword(name, of[0].takes.scalar, "", "Short", hidden=True)
    for name in fields:
        parameter = run_fields()[name]
        default = "" if parameter.default is None else f" [default: {write(parameter.default)}]"
        text, kind_ = parameter.help + default, parameter.kind
        yield _keyword(dashed(name), kind_.scalar, text, "Run", kind_.metavar)


def _keyword(
    name: str, kind: type, text: str, panel: str, metavar: str = "", *, hidden: bool = False
) -> inspect.Parameter:
    space, dot, last = name.rpartition(".")
    option = typer.Option(
        f"--{name}/--{space}{dot}no-{last}" if kind is bool else f"--{name}",
        help=escape(text),
        rich_help_panel=panel,
        show_default=False,
        metavar=None if kind is bool else metavar,
        hidden=hidden,
    )
    # Numbers come in as text, so that all that is wrong with one is said by the same checks.
    taken = kind if kind in (bool, Path) else str
    return inspect.Parameter(
        _identifier(name),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[taken | None, option],
    )


def _read_config(path: Path) -> RunConfig:
    try:
        return from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"config: {str(path)!r} cannot be read: {reason}") from None
