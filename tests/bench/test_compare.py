"""The page of bench/compare, over recorded results. tests/it/bench.rs runs this."""

import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_name("results")
NAME = "references, 1"
ROW = f"{NAME}, sqlite, 10 connections"


class Page(HTMLParser):
    """What a reader sees: the headings and the cells of each table of the outermost level, as text."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.tables, self.depth, self.opened, self.links, self.loads = [], [], 0, None, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loads += [tag] if tag in ("script", "link", "img", "iframe") or "src" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.depth += tag == "table"
        if self.depth == 1 and tag == "table":
            self.tables.append([])
        elif self.depth == 1 and tag == "tr":
            self.tables[-1].append([])
        elif self.depth == 1 and tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")
        self.opened = tag

    def handle_endtag(self, tag):
        self.depth -= tag == "table"
        self.opened = None

    def handle_data(self, text):
        if self.opened == "h2":
            self.headings[-1] += text
        elif self.depth == 1 and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += text


class Compare(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        shutil.copytree(RECORDED, self.folder, dirs_exist_ok=True)
        self.runs = sorted(self.folder.glob("*/*/results.json"), key=lambda file: file.parent.name)

    def change(self, number, change):
        """Changes the results of a run."""
        results = json.loads(self.runs[number].read_text())
        change(results)
        self.runs[number].write_text(json.dumps(results))

    def compare(self):
        done = subprocess.run([sys.executable, ROOT / "bench/compare", "--results", self.folder], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return Page((self.folder / "compare.html").read_text())

    def cells(self, page, number=1, row=ROW):
        """The cells of a row of a table, by their headings."""
        heads, *lines = page.tables[number]
        return dict(zip(heads, next(line for line in lines if line[0] == row)))

    def test_two_recorded_runs_are_compared(self):
        old, new = (json.loads(file.read_text()) for file in self.runs)
        page = self.compare()
        self.assertEqual((len(page.headings), len(page.tables)), (1, 2))
        self.assertIn(new["machine"]["cpu"], page.headings[0])
        self.assertEqual([line[1] for line in page.tables[0][1:]], [old["machine"]["time"], new["machine"]["time"]], "the newest is last")
        before, after = (next(row for row in run["rows"] if row["name"] == NAME) for run in (old, new))
        figures = f"{after['per_second']:,.0f} ({after['per_second_min']:,.0f}–{after['per_second_max']:,.0f})"
        cells = self.cells(page)
        self.assertTrue(cells["requests/s, newest"].startswith(figures), cells)
        self.assertIn(f"{after['per_second'] / before['per_second']:.2f} ×", cells["requests/s, newest"])
        self.assertEqual(cells["× reference"], f"{after['ratio']:.2f}")
        # The rows, the scenario and its steps.
        steps = sum(len(scenario["steps"]) for scenario in new["scenarios"])
        self.assertEqual(len(page.tables[1]) - 1, len(new["rows"]) + len(new["scenarios"]) + steps)

    def test_the_page_needs_nothing_else_and_its_links_lead_to_files(self):
        (self.runs[0].parent / "k6").mkdir()
        (self.runs[0].parent / "k6" / "ramp.html").write_text("")
        page = self.compare()
        self.assertEqual(page.loads, [])
        self.assertEqual(len(page.links), 3)
        for link in page.links:
            self.assertTrue((self.folder / link).is_file(), link)

    def test_only_changes_outside_the_spread_are_marked(self):
        def rate(value, spread):
            def change(results):
                row = next(row for row in results["rows"] if row["name"] == NAME)
                row |= {"per_second": value, "per_second_min": value - spread, "per_second_max": value + spread}

            return change

        for new, spread, marked in ((700, 10, "0.70 × WORSE"), (1300, 10, "1.30 × better"), (1300, 200, "1.30 × ")):
            self.change(0, rate(1000, spread))
            self.change(1, rate(new, spread))
            self.assertTrue(self.cells(self.compare())["requests/s, newest"].endswith(marked), (new, spread))
        # With fewer rounds there is no spread.
        self.change(0, rate(1000, 0))
        self.change(1, rate(500, 0))
        self.change(1, lambda results: results["options"].update(rounds=1))
        self.assertTrue(self.cells(self.compare())["requests/s, newest"].endswith("0.50 × "))

    def test_other_knobs_or_another_machine_are_not_compared(self):
        for change in (
            lambda results: results["options"].update(size=8000),
            lambda results: results["options"].update(formats=["jwt", "cwt"]),
            lambda results: results["machine"].update(cores=64),
            lambda results: results["machine"].update(nginx="9.9"),
        ):
            self.setUp()
            self.change(1, change)
            page = self.compare()
            self.assertEqual((len(page.headings), len(page.tables)), (2, 4))
            self.assertNotIn("×", self.cells(page)["requests/s, newest"])

    def test_an_image_and_the_choice_of_rows_are_compared(self):
        self.change(1, lambda results: results["machine"].update(image="<registry>/statuslist:2"))
        self.change(1, lambda results: results["options"].update(image="<registry>/statuslist:2", only="update"))
        page = self.compare()
        self.assertEqual(len(page.headings), 1)
        self.assertEqual(page.tables[0][2][0], "<registry>/statuslist:2", "text, never markup")

    def test_without_results_it_says_what_to_do(self):
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        done = subprocess.run([sys.executable, ROOT / "bench/compare", "--results", self.folder], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("has no results: bench/run writes", done.stderr)


if __name__ == "__main__":
    unittest.main()
