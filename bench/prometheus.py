"""A Prometheus that watches a run of `bench/run`: it gets k6's series by remote write, and scrapes the measured services.

Which services there are stands in a file that bench/prometheus.yml names, because they listen on free ports.
"""

import atexit
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

import service

TARGETS = service.RESULTS / "prometheus-targets.json"
# What Prometheus gets of each time: k6 sends no histograms by default.
TREND_STATS = "p(50),p(90),p(99),p(99.9),max"
PUSH_SECONDS = 1
START = "prometheus --config.file=bench/prometheus.yml --web.enable-remote-write-receiver --storage.tsdb.path=target/bench/prometheus"


class Watcher:
    """Prometheus at an address. `run` is the label by which it can tell this run's series from those of others."""

    def __init__(self, address, run):
        self.address, self.run = address.rstrip("/"), run
        self.write = f"{self.address}/api/v1/write"
        try:
            # An empty message is refused, but with another code if writing is not enabled.
            urllib.request.urlopen(urllib.request.Request(self.write, data=b"", method="POST"), timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                service.fail(f"{self.write} takes no series: start it as `{START}`")
        except OSError as error:
            service.fail(f"no Prometheus answers at {self.address} ({error}): start it as `{START}`, or leave the knob `prometheus` out")

    def announce(self, services):
        """Lets it scrape the services, by the names of their stores, until this script ends."""
        atexit.register(tell, [])
        tell([{"targets": [f"127.0.0.1:{process.port}"], "labels": {"store": store}} for store, process in services.items()])

    def words(self, scenario, side):
        """Arguments of k6: where its series go, and their labels. The side distinguishes two k6 that run at the same time."""
        labels = {"testid": self.run, "bench": scenario, "side": side}
        return ["--out", "experimental-prometheus-rw", *(word for name, value in labels.items() for word in ("--tag", f"{name}={value}"))]

    def environment(self):
        return {
            "K6_PROMETHEUS_RW_SERVER_URL": self.write,
            "K6_PROMETHEUS_RW_TREND_STATS": TREND_STATS,
            "K6_PROMETHEUS_RW_PUSH_INTERVAL": f"{PUSH_SECONDS}s",
            # Otherwise the last values stay for five minutes.
            "K6_PROMETHEUS_RW_STALE_MARKERS": "true",
        }

    def check(self):
        """Says how many series have arrived. k6 itself does not fail if none does."""
        matching = urllib.parse.urlencode({"match[]": f'{{__name__=~"k6_.+", testid="{self.run}"}}'})
        with urllib.request.urlopen(f"{self.address}/api/v1/series?{matching}", timeout=10) as answer:
            arrived = len(json.load(answer)["data"])
        if not arrived:
            service.fail(f"no series of k6 has arrived at {self.address}: its log says why")
        print(f'{self.address} has {arrived} series of k6: testid="{self.run}"', file=sys.stderr)


def tell(targets):
    """Writes the file whole: Prometheus reads it whenever it changes."""
    service.RESULTS.mkdir(parents=True, exist_ok=True)
    new = TARGETS.with_suffix(".new")
    new.write_text(json.dumps(targets, indent=1) + "\n")
    os.replace(new, TARGETS)
