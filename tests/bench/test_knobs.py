"""The knobs of bench/run: what a file and the command line may say. tests/it/bench.rs runs this."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import container
import knobs
import scenarios
import stand

# `run` has no ending, so it cannot be imported by name.
RUN = str(BENCH / "run")


def parsed(*words):
    """The options of `bench/run`, by its own function."""
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    spec = spec_from_loader("run", SourceFileLoader("run", RUN))
    module = module_from_spec(spec)
    sys.modules["run"] = module
    spec.loader.exec_module(module)
    return module.parse_arguments(list(words))


class Knobs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, text):
        file = self.folder / "knobs.toml"
        file.write_text(text)
        return file

    def refusal(self, text):
        """What is said of a file with this content."""
        with self.assertRaises(SystemExit) as refused:
            knobs.read(self.file(text))
        return str(refused.exception)

    def test_the_shipped_file_has_every_knob_with_its_default(self):
        shipped = BENCH / "knobs.toml"
        defaults = {knob.key: knob.default for knob in knobs.ALL.values()}
        self.assertEqual(knobs.read(shipped), defaults)
        self.assertEqual(shipped.read_text(), knobs.text(defaults), "make it anew: python3 bench/knobs.py > bench/knobs.toml")
        self.assertEqual(knobs.used(parsed("--knobs", str(shipped))), defaults)

    def test_a_file_needs_only_what_differs_and_the_command_line_wins(self):
        file = str(self.file('size = 8000\nseconds = 3\nrounds = 7\nstores = ["sqlite"]\nconnections = [50, 5]\nscenarios = []\n'))
        from_file = parsed("--knobs", file)
        self.assertEqual((from_file.size, from_file.seconds, from_file.rounds, from_file.bits), (8000, 3, 7, 1))
        self.assertEqual((from_file.stores, from_file.connections, from_file.scenarios), (["sqlite"], [5, 50], []))
        both = parsed("--knobs", file, "--size", "16000", "--stores", "redis-always", "--bits", "2", "--scenarios", "ramp", "--no-reports")
        self.assertEqual((both.size, both.seconds, both.stores, both.bits), (16000, 3, ["redis-always"], 2))
        self.assertEqual((both.scenarios, both.reports), (["ramp"], False))
        quick = parsed("--knobs", file, "--quick", "--rounds", "2")
        self.assertEqual((quick.size, quick.seconds, quick.rounds), (8000, 1, 2))

    def test_the_knobs_of_a_run_can_be_used_again(self):
        options = parsed("--size", "8000", "--formats", "jwt", "cwt", "--only", 'a "name" of ×', "--long", "--no-k6")
        used = knobs.used(options)
        self.assertEqual(knobs.read(self.file(knobs.text(used))), used)

    def test_an_unknown_knob_is_refused_by_name(self):
        said = self.refusal("sizes = 8000\n")
        self.assertIn("there is no knob `sizes`; did you mean `size`?", said)
        for name in knobs.ALL:
            self.assertIn(name, said)

    def test_wrong_values_are_refused_with_the_allowed_ones(self):
        for text, allowed in {
            "size = 8001": "a whole number from 8000 to 10000000, divisible by 8",
            "size = 80": "a whole number from 8000 to 10000000",
            "size = 8000.0": "a whole number",
            "size = true": "a whole number",
            'rounds = "5"': "a whole number from 1 to 1000",
            "rounds = 0": "a whole number from 1 to 1000",
            "bits = 3": "one of 1, 2, 4, 8",
            "bits = true": "one of 1, 2, 4, 8",
            'stores = "sqlite"': "one of sqlite, redis-always, redis-disabled, postgres",
            'stores = ["mysql"]': "one of sqlite, redis-always, redis-disabled, postgres",
            "stores = []": "not empty",
            'stores = ["sqlite", "sqlite"]': "without repetitions",
            'servers = ["apache"]': "one of built-in, nginx",
            'formats = ["cwt"]': "with jwt",
            "connections = [0]": "a whole number from 1 to 10000",
            'scenarios = ["soak"]': f"one of {', '.join(scenarios.SCRIPTS)}",
            "interval = 0": "a number from 0.05 to 60",
            "interval = nan": "a number from 0.05 to 60",
            "long = 1": "true or false",
            "only = 1": "a text",
            'prometheus = "localhost:9090"': "http:// or https://",
            "[size]\nof = 1": "a whole number",
            "beat = 2026-11-27": "a whole number from 1 to 3600",
        }.items():
            name = text.strip("[]").split(" ")[0].split("]")[0]
            with self.subTest(text):
                said = self.refusal(text)
                self.assertIn(f"knob `{name}`", said)
                self.assertIn(allowed, said)

    def test_what_is_not_a_file_of_knobs_is_refused_with_its_name(self):
        self.assertIn("knobs.toml: Invalid value (at line 2", self.refusal("size = 8000\nbits = x\n"))
        self.assertIn("knobs.toml: Cannot overwrite a value", self.refusal("size = 8000\nsize = 8008\n"))
        with self.assertRaises(SystemExit) as refused:
            knobs.read(self.folder / "none.toml")
        self.assertIn("No such file", str(refused.exception))

    def test_the_command_refuses_before_it_builds_or_starts_anything(self):
        for words, complaint in (
            (["--knobs", self.file("sizes = 1\n")], "there is no knob `sizes`"),
            (["--size", "81"], "--size is a whole number from 8000 to 10000000, divisible by 8, not 81"),
            (["--size", "many"], "argument --size: invalid int value"),
            (["--formats", "cwt"], "--formats is a list, not empty, with jwt"),
        ):
            done = subprocess.run([sys.executable, RUN, *map(str, words)], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(complaint, done.stderr)

    def test_an_image_without_podman_and_docker_is_refused(self):
        with mock.patch.dict(os.environ, {"PATH": str(self.folder)}), self.assertRaises(SystemExit) as refused:
            container.Image("localhost/statuslist")
        self.assertIn("measuring the image localhost/statuslist needs podman or docker", str(refused.exception))


class Chosen(unittest.TestCase):
    """What the knobs choose."""

    def names(self, *words):
        return [scenario.name for scenario in scenarios.chosen(parsed(*words))]

    def test_scenarios(self):
        every = self.names("--long")
        self.assertEqual(len(every), len(scenarios.SCENARIOS))
        self.assertEqual(len(self.names()), len(every) - 1, "the one that takes five minutes")
        self.assertEqual(self.names("--no-k6"), [])
        self.assertEqual(self.names("--scenarios", "ramp", "lifecycle"), ["lifecycle, 100 clients", "ramp, 100 clients"])
        self.assertEqual(self.names("--only", "fetch-status-list, 100 clients, b"), ["fetch-status-list, 100 clients, built-in"])
        self.assertNotIn("ramp, 100 clients", self.names("--servers", "built-in"), "it fetches from nginx")
        self.assertIn("update-status, 10 clients", self.names("--servers", "built-in"))

    def test_clients_and_beats_are_in_the_names_and_nothing_runs_twice(self):
        few = self.names("--vus", "7", "--scenarios", "update-status")
        self.assertEqual(few, ["update-status, 7 clients"])
        beats = self.names("--scenario-beat", "5", "--scenarios", "fetch-vs-update")
        self.assertEqual(beats, ["fetch-vs-update, beat of 5 s, fetches first", "fetch-vs-update, beat of 5 s, control"])

    def test_settings_of_the_service(self):
        settings = stand.settings(parsed("--size", "8000", "--bits", "4", "--formats", "jwt", "cwt", "--beat", "3", "--scenario-beat", "2"))
        pools = {line.strip().partition(":")[0]: line for line in settings.splitlines() if "update-interval" in line}
        for pool, size, beat in (("u", 8000, 3), ("s", 8000, 1), ("k", 50000, 2), ("k-fail", 50000, 2), ("k-slow", 50000, 5)):
            for text in (f"size: {size},", f"update-interval: {beat}s", "bits: 4, formats: [jwt, cwt]"):
                self.assertIn(text, pools[pool])


if __name__ == "__main__":
    unittest.main()
