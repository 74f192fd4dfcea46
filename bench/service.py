"""Builds, starts, queries and stops the measured programs. Uses only the standard library."""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
RESULTS = TARGET / "bench"
KEY = "the key of the benchmarks"


def fail(message):
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def build(*examples):
    """The release build of the service and of these examples."""
    command = ["cargo", "build", "--release", "--quiet", "--bin", "statuslist"]
    for example in examples:
        command += ["--example", example]
    if subprocess.run(command, cwd=ROOT).returncode:
        fail("the release build failed")


def program(name):
    return TARGET / "release" / name


def folder():
    """A temporary folder. Not in /tmp, which may be in memory, where fsync costs nothing."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="run-", dir=RESULTS))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def cpu_seconds(pid):
    """User and system time of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Process:
    """A program that listens on a local port; stopped when the script ends, in whatever way."""

    def __init__(self, command, port, log, ready="/health/live", seconds=60):
        self.port, self.log = port, log
        self.begun = time.monotonic()
        with open(log, "ab") as output:
            self.child = subprocess.Popen(command, cwd=log.parent, stdout=output, stderr=output)
        atexit.register(self.stop)
        while not self.answers(ready):
            if self.child.poll() is not None or time.monotonic() - self.begun > seconds:
                fail(f"{command[0]} does not respond on {ready}:\n{log.read_text()}")
            time.sleep(0.002)
        self.ready_seconds = time.monotonic() - self.begun

    def answers(self, path):
        try:
            return self.ask("GET", path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"X-Api-Key": KEY, **(headers or {})}
            if body is not None:
                body, headers["Content-Type"] = json.dumps(body), "application/json"
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def pids(self):
        """The ids of the processes that do its work."""
        return [self.child.pid]

    def cpu_seconds(self):
        """User and system time so far, all threads."""
        return sum(cpu_seconds(pid) for pid in self.pids())

    def memory_kib(self, name="VmRSS"):
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def statuslist(folder, port, settings, **options):
    """The service with its data in `folder`."""
    file = folder / "settings.yaml"
    file.write_text(settings)
    command = [program("statuslist"), "--config", file, "serve"]
    return Process(command, port, folder / "service.log", **options)


class Redis(Process):
    """A Redis that fsyncs before it answers, with its data in `folder`; or one in memory only."""

    def __init__(self, folder, durable=True):
        port = free_port()
        self.durable = durable
        options = {"port": port, "bind": "127.0.0.1", "dir": folder}
        options |= {"appendonly": "yes", "appendfsync": "always"} if durable else {"appendonly": "no"}
        command = ["redis-server", "--save", ""]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        super().__init__(command, port, folder / "redis.log")

    def answers(self, _):
        return self.cli("PING") == "PONG"

    def cli(self, *command):
        """The reply to a command."""
        done = subprocess.run(["redis-cli", "-p", str(self.port), *command], capture_output=True, text=True)
        return done.stdout.strip()

    def scripts_called(self):
        """The number of scripts run so far: one for each batch of updates."""
        lines = self.cli("INFO", "commandstats").splitlines()
        calls = [line.partition("calls=")[2].partition(",")[0] for line in lines if line.startswith("cmdstat_evalsha:")]
        return int(calls[0]) if calls else 0

    def settings(self):
        """The settings of a service that uses it."""
        strategy = "append-fsync-always" if self.durable else "disabled"
        return f"storage-type: redis\nredis: {{ host: 127.0.0.1, port: {self.port}, persistence-strategy: {strategy} }}\n"


class Postgres(Process):
    """A PostgreSQL that writes to the disk before it answers, with its data in `folder`. root lets the user postgres run it."""

    def __init__(self, folder):
        data, port = folder / "postgres", free_port()
        data.mkdir(mode=0o700)
        if os.getuid() == 0:
            shutil.chown(data, "postgres")
            for parent in (folder, folder.parent):
                parent.chmod(0o711)
        words = self.tool("initdb", "--pgdata", data, "--auth", "trust", "--username", "postgres", "--encoding", "UTF8", "--locale", "C")
        made = subprocess.run(words, cwd="/", capture_output=True, text=True)
        if made.returncode:
            fail(f"initdb failed: {made.stderr}")
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "shared_buffers": "128MB"}
        command = self.tool("postgres", "-D", data)
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        super().__init__(command, port, folder / "postgres.log")

    @staticmethod
    def program(name):
        """Debian has the servers of each version in a folder of their own."""
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
        if not found and not shutil.which(name):
            fail(f"{name} is missing: apt-get install postgresql, or leave postgres out with --stores")
        return found[-1] if found else name

    @classmethod
    def tool(cls, name, *arguments):
        user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"] if os.getuid() == 0 else []
        return [*user, cls.program(name), *arguments]

    def answers(self, _):
        words = [self.program("pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        return subprocess.run(words).returncode == 0

    def pids(self):
        """The server and the processes of its connections and background work."""
        pid = self.child.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def sql(self, statement):
        """The rows of the answer, one on a line."""
        words = [self.program("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        words += ["--host", "127.0.0.1", "--port", str(self.port), "--username", "postgres", "--command", statement]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            fail(f"PostgreSQL: {done.stderr}")
        return done.stdout.strip()

    def settings(self):
        """The settings of a service that uses it."""
        return f"storage-type: postgres\npostgres: {{ hosts: ['127.0.0.1:{self.port}'], username: postgres, database: postgres }}\n"


def paths(folder, port):
    """The settings of all paths."""
    return f"""
server: {{ listen: 127.0.0.1:{port} }}
public-url: http://127.0.0.1:{port}/lists
storage-directory: {folder}/public
key-directory: {folder}/keys
instance-directory: {folder}/instance
sqlite: {{ path: {folder}/statuslist.db }}
"""


def machine():
    """The facts that the figures depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    # The hash alone, also of a commit with a tag.
    git = ["git", "describe", "--always", "--exclude=*", "--dirty"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": os.uname().release,
        "commit": commit or "unknown",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_results(name, results, table):
    """Prints the table; writes table and numbers into target/bench."""
    print(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(table + "\n")
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {RESULTS / name}.json and .md", file=sys.stderr)


# So that atexit stops and removes everything.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
