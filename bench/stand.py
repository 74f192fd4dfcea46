"""The test bench of `bench/run`, all at once: a service on each store, nginx over one of them, and the references."""

import shutil
import subprocess

import lists
import nginx
import service

UPDATED_LISTS = 4
STORES = ["sqlite", "redis-always", "redis-disabled", "postgres"]
SERVERS = ["built-in", "nginx"]


def settings(knobs):
    """The settings of every service. The arguments are the knobs of the measurement (bench/knobs.py)."""
    lists_of_all = f"bits: {knobs.bits}, formats: [{', '.join(knobs.formats)}]"
    rows = f"api-key: {service.KEY}, size: {knobs.size}, {lists_of_all}"
    scenarios = f"api-key: {service.KEY}, size: {knobs.scenario_size}, {lists_of_all}, precreation: {{ lists: 1, check-delay: 40s }}"
    prefetch = "capacity: 10000, threshold: 1000"
    return f"""
limits: {{ amount: 20000, batch: 100000, queue: 100000 }}
status-list-pools:
  # For references: the buffer is large enough to stay warm.
  p:
    api-key: {service.KEY}
    size: 1000000
    precreation: {{ lists: 3, check-delay: 1s }}
    prefetch: {{ capacity: 200000, threshold: 100000 }}
  # For updates: several lists, published on the beat as in production.
  u: {{ {rows}, open-lists: {UPDATED_LISTS}, update-interval: {knobs.beat}s }}
  # For fetching: changed once, then idle.
  s: {{ {rows}, open-lists: 1, update-interval: 1s }}
  # For the scenarios: as in config/append-fsync-always.delay.yaml, but fresher ...
  k: {{ {scenarios}, prefetch: {{ {prefetch} }}, update-interval: {knobs.scenario_beat}s }}
  # ... as in .fail.yaml ...
  k-fail: {{ {scenarios}, prefetch: {{ {prefetch}, on-underflow: fail }}, update-interval: {knobs.scenario_beat}s }}
  # ... and less fresh.
  k-slow: {{ {scenarios}, prefetch: {{ {prefetch} }}, update-interval: 5s }}
  k-min: {{ {scenarios}, prefetch: {{ {prefetch} }}, update-interval: 60s }}
"""


class Stand:
    """The programs, by their names in the tables."""

    def __init__(self, folder, knobs, image=None):
        self.stores, self.servers, self.size = knobs.stores, knobs.servers, knobs.size
        self.settings, self.image = settings(knobs), image
        self.services, self.databases, self.folders = {}, {}, {}
        for store in self.stores:
            self.start_service(store, folder / store)
        # Fetches do not depend on the store, so one is enough: the durable Redis if available.
        self.front = "redis-always" if "redis-always" in self.stores else self.stores[0]
        front = self.services[self.front]
        self.list_path = lists.published(front, "s", self.size)
        self.nginx, self.static = nginx.start(self.folders[self.front], self.folders[self.front] / "public")
        port = service.free_port()
        command = [service.program("examples") / "parse_only", f"127.0.0.1:{port}"]
        self.parser = service.Process(command, port, folder / "parse_only.log")
        self.updated = {store: lists.uris(self.services[store], "u", UPDATED_LISTS) for store in self.stores}

    def start_service(self, store, folder):
        folder.mkdir()
        port = service.free_port()
        settings = service.paths(folder, port) + self.settings
        if store == "postgres":
            self.databases[store] = service.Postgres(folder)
        elif store != "sqlite":
            if not shutil.which("redis-server"):
                service.fail("redis-server is missing: apt-get install redis-server, or leave it out with --stores sqlite")
            self.databases[store] = service.Redis(folder, durable=store == "redis-always")
        if store in self.databases:
            settings += self.databases[store].settings()
        self.folders[store] = folder
        start = self.image.start if self.image else service.statuslist
        self.services[store] = start(folder, port, settings)

    def versions(self):
        """Further facts that the figures depend on."""
        say = lambda *words: subprocess.run(words, capture_output=True, text=True)
        found = {"nginx": say(nginx.program(), "-v").stderr.partition("/")[2].strip()}
        if any(store.startswith("redis") for store in self.databases):
            found["redis"] = say("redis-server", "--version").stdout.partition("v=")[2].split()[0]
        if "postgres" in self.databases:
            found["postgres"] = say(service.Postgres.program("postgres"), "--version").stdout.split()[2]
        return found

    def processes(self):
        """All programs, for the sampler."""
        services = {f"service on {store}": process for store, process in self.services.items()}
        return {**services, **self.databases, "nginx": self.nginx, "parse only": self.parser}

    def front_parts(self):
        """The programs that take part in a scenario on the front store."""
        return [f"service on {self.front}", *([self.front] if self.front in self.databases else []), "nginx"]

    def rest(self, seconds=10, share=0.05):
        """Waits until the background work of earlier rows ends: refills, publications, compactions."""
        for store in self.stores:
            lists.wait_for_buffer(self.services[store])
        work = lambda: sum(process.cpu_seconds() for process in self.processes().values())
        last = work()

        def quiet():
            nonlocal last
            last, before = work(), last
            return last - before <= share * 0.2

        lists.until(quiet, "the services do not become idle", seconds, pause=0.2)

    def check_logs(self):
        for store, folder in self.folders.items():
            bad = [line for line in (folder / "service.log").read_text().splitlines() if " ERROR " in line]
            if bad:
                service.fail(f"the service on {store} logged errors:\n" + "\n".join(bad[:10]))
