"""The knobs of `bench/run`: everything that a measurement depends on, read from a file (TOML) and from the command line.

Prints the file with all defaults: `python3 bench/knobs.py > bench/knobs.toml`.
"""

import argparse
import difflib
import json
import textwrap
import tomllib
from dataclasses import dataclass

import scenarios
import service
import stand

# How wide the comments of a printed file are.
WIDTH = 120


@dataclass(frozen=True)
class Whole:
    """Whole numbers."""

    least: int
    most: int
    divisible_by: int = 1
    parse = int

    def accepts(self, value):
        return type(value) is int and self.least <= value <= self.most and value % self.divisible_by == 0

    def __str__(self):
        divisible = f", divisible by {self.divisible_by}" if self.divisible_by > 1 else ""
        return f"a whole number from {self.least} to {self.most}{divisible}"


@dataclass(frozen=True)
class Number:
    """Numbers with a fraction."""

    least: float
    most: float
    parse = float

    def accepts(self, value):
        return type(value) in (int, float) and self.least <= value <= self.most

    def __str__(self):
        return f"a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Word:
    """One of some words or numbers."""

    words: tuple

    @property
    def parse(self):
        return type(self.words[0])

    def accepts(self, value):
        return type(value) is self.parse and value in self.words

    def __str__(self):
        return f"one of {', '.join(map(str, self.words))}"


@dataclass(frozen=True)
class Text:
    """Any text."""

    parse = str

    def accepts(self, value):
        return type(value) is str

    def __str__(self):
        return "a text"


@dataclass(frozen=True)
class Address:
    """The address of a server, or nothing."""

    parse = str

    def accepts(self, value):
        return type(value) is str and (value == "" or value.startswith(("http://", "https://")))

    def __str__(self):
        return "an address that begins with http:// or https://, or \"\""


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    def accepts(self, value):
        return type(value) is bool

    def __str__(self):
        return "true or false"


@dataclass(frozen=True)
class Several:
    """A list of values, in any order."""

    each: object
    least: int = 1
    # The value that must be among them.
    needs: str = ""

    def accepts(self, value):
        if type(value) is not list or len(value) < self.least or len(value) != len(set(map(str, value))):
            return False
        return all(map(self.each.accepts, value)) and (not self.needs or self.needs in value)

    def __str__(self):
        of = "a list" + (", not empty" if self.least else "") + (f", with {self.needs}" if self.needs else "")
        return f"{of}, without repetitions; each value is {self.each}"


@dataclass(frozen=True)
class Knob:
    """A setting of a measurement."""

    name: str
    default: object
    allowed: object
    # Its unit, and what it changes.
    about: str

    @property
    def key(self):
        return self.name.replace("-", "_")

    def line(self, value):
        """Its line in a file. The values of JSON are TOML's as well."""
        return f"{self.name} = {json.dumps(value, ensure_ascii=False)}"

    def add_to(self, parser):
        """Adds the option of the same name."""
        about = f"{self.about} (default: {json.dumps(self.default)})"
        options = {"dest": self.key, "default": self.default, "help": about.replace("%", "%%")}
        if isinstance(self.allowed, Flag):
            parser.add_argument(f"--{self.name}", action=argparse.BooleanOptionalAction, **options)
        elif isinstance(self.allowed, Several):
            least = "+" if self.allowed.least else "*"
            parser.add_argument(f"--{self.name}", nargs=least, type=self.allowed.each.parse, action=Checked, knob=self, **options)
        else:
            parser.add_argument(f"--{self.name}", type=self.allowed.parse, action=Checked, knob=self, **options)


class Checked(argparse.Action):
    """Takes an option's value only if its knob accepts it."""

    def __init__(self, *arguments, knob, **options):
        super().__init__(*arguments, metavar=knob.key.upper(), **options)
        self.knob = knob

    def __call__(self, parser, options, value, _option=None):
        if not self.knob.allowed.accepts(value):
            parser.error(f"--{self.knob.name} is {self.knob.allowed}, not {json.dumps(value)}")
        setattr(options, self.dest, value)


KNOBS = {
    "What is measured": [
        Knob(
            "image", "", Text(),
            "The tag of a container image: podman or docker run its service instead of the one that is built here. \"\": the "
            "built one.",
        ),
        Knob(
            "stores", stand.STORES, Several(Word(tuple(stand.STORES))),
            "The stores that writes are measured on: SQLite, a Redis that fsyncs before it answers, a Redis that keeps "
            "nothing, a PostgreSQL.",
        ),
        Knob(
            "servers", stand.SERVERS, Several(Word(tuple(stand.SERVERS))),
            "The servers that fetches are measured on: the service's own, and nginx over its files.",
        ),
        Knob("only", "", Text(), "Only the rows and scenarios with this in their name, and their references. \"\": all."),
        Knob(
            "scenarios", scenarios.SCRIPTS, Several(Word(tuple(scenarios.SCRIPTS)), least=0),
            "The scripts of k6/ that are run. None: only the rows, and no k6 is needed.",
        ),
        Knob("long", False, Flag(), "Also runs fetch-vs-update with a beat of 60 s, which takes five minutes a round."),
    ],
    "The lists": [
        Knob(
            "size", 100_000, Whole(8_000, 10_000_000, 8),
            "Entries of each list that rows update or fetch. More: longer files, and more work to publish a changed list.",
        ),
        Knob("bits", 1, Word((1, 2, 4, 8)), "Bits of an entry, also in the scenarios. More: longer files."),
        Knob(
            "formats", ["jwt"], Several(Word(("jwt", "cwt")), needs="jwt"),
            "The formats that are published, also in the scenarios. Both: one signature more for each changed list. Fetches "
            "are of the JWT.",
        ),
        Knob(
            "beat", 10, Whole(1, 3600),
            "Seconds: the update-interval of the lists that rows update. Less: more lists are published beside the updates.",
        ),
        Knob("scenario-size", 50_000, Whole(8_000, 10_000_000, 8), "Entries of each list in the scenarios."),
        Knob(
            "scenario-beat", 1, Whole(1, 3600),
            "Seconds: the update-interval in the scenarios, but for those whose name says another beat. More: they take "
            "longer.",
        ),
    ],
    "The load": [
        Knob("connections", [10, 100], Several(Whole(1, 10_000)), "Connections of wrk; every row is measured with each number."),
        Knob("threads", 2, Whole(1, 256), "Threads of wrk. It shares the cores with what it measures."),
        Knob("seconds", 5, Whole(1, 3600), "Seconds of each measurement of a row. More: less scatter."),
        Knob(
            "rounds", 5, Whole(1, 1000),
            "Measurements of each row and scenario, interleaved. Fewer than 5 say little about speed.",
        ),
        Knob(
            "scenario-seconds", 10, Whole(1, 86_400),
            "Seconds of each scenario; of fetch-vs-update, of each of its four phases.",
        ),
        Knob(
            "vus", 0, Whole(0, 10_000),
            "Virtual users of k6 in every scenario. 0: as many as the scenario's name or script says.",
        ),
        Knob(
            "most-updates", 10_000, Whole(1, 1_000_000),
            "Updates a second at the end of fetch-vs-update's ramp. 10000 is all that its clients can make.",
        ),
    ],
    "What is observed": [
        Knob("interval", 0.2, Number(0.05, 60), "Seconds between two looks at the memory and CPU time of all processes."),
        Knob(
            "reports", True, Flag(),
            "k6 writes an HTML report of each scenario in the last round. It then needs a tenth to a fifth more CPU time, which "
            "the medians of 5 rounds hardly show.",
        ),
        Knob(
            "prometheus", "", Address(),
            "The address of a Prometheus that gets k6's series by remote write, for example http://127.0.0.1:9090. \"\": "
            "none. It costs k6 some CPU time.",
        ),
    ],
}
ALL = {knob.name: knob for group in KNOBS.values() for knob in group}


def add_to(parser):
    """Adds every knob as an option of the same name."""
    for heading, group in KNOBS.items():
        options = parser.add_argument_group(heading)
        for knob in group:
            knob.add_to(options)


def read(file):
    """The values in a file, by the names of their options. Fails if a knob or a value is not allowed."""
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        service.fail(f"cannot read the knobs in {file}: {error}")
    for name, value in found.items():
        if name not in ALL:
            alike = difflib.get_close_matches(name, ALL, 1)
            meant = f"did you mean `{alike[0]}`? " if alike else ""
            service.fail(f"{file}: there is no knob `{name}`; {meant}The knobs are {', '.join(ALL)}")
        if not ALL[name].allowed.accepts(value):
            service.fail(f"{file}: the knob `{name}` is {ALL[name].allowed}, not {json.dumps(value, default=str)}")
    return {ALL[name].key: value for name, value in found.items()}


def used(options):
    """The value of each knob, by the name of its option."""
    return {knob.key: getattr(options, knob.key) for knob in ALL.values()}


def text(values):
    """A file with these values."""
    lines = [
        "# The knobs of a measurement: bench/run --knobs FILE. Every knob has its default here, and a file needs only those that",
        "# differ. Options of the same name on the command line win over the file, and so does --quick.",
    ]
    for heading, group in KNOBS.items():
        lines += ["", f"# {heading}"]
        for knob in group:
            lines += ["", *textwrap.wrap(f"{knob.about} Allowed: {knob.allowed}.", WIDTH, initial_indent="# ", subsequent_indent="# ")]
            lines.append(knob.line(values[knob.key]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(text({knob.key: knob.default for knob in ALL.values()}), end="")
