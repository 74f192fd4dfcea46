"""Starts nginx as shipped, over the files of a service, and with a second server for plain files."""

import os
import shutil
from pathlib import Path

import service

# A plain static server, as an administrator would write it.
STATIC_SERVER = """
server {{
    listen 127.0.0.1:{port};
    root {folder};
    access_log {folder}/static.log combined buffer=32k flush=5s;
}}
"""


class Nginx(service.Process):
    """The shipped nginx, with one more server for plain files."""

    def pids(self):
        """The worker processes; the master only waits."""
        return [int(pid) for pid in Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()]


class Port:
    """Another port of the same process."""

    def __init__(self, process, port):
        self.port, self.cpu_seconds = port, process.cpu_seconds
        self.ask = lambda *arguments: service.Process.ask(self, *arguments)


def program():
    found = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    return found or service.fail("nginx is missing: run scripts/install-test-tools")


def start(folder, public):
    """Starts nginx as shipped except for its settings, over the site in `public`, with one more server for the files in `folder`."""
    shutil.copytree(service.ROOT / "nginx", folder / "nginx")
    port, static_port, api_port = (service.free_port() for _ in range(3))
    file = folder / "nginx" / "conf.d" / "status_lists.conf"
    text = file.read_text()
    for before, after in {
        "    listen 8080;": f"    listen 127.0.0.1:{port};",
        "listen 127.0.0.1:8091;": f"listen 127.0.0.1:{api_port};",
        "$storage_directory /var/lib/statuslist/public;": f"$storage_directory {public};",
        "$rate_limit on;": "$rate_limit off;",
        "/var/log/nginx/status_lists.log": f"{folder}/lists.log",
        "/var/log/nginx/status_lists_api.log": f"{folder}/api.log",
    }.items():
        if text.count(before) != 1:
            service.fail(f"`{before}` must stand in {file.relative_to(folder)} exactly once")
        text = text.replace(before, after)
    file.write_text(text)
    (file.parent / "static.conf").write_text(STATIC_SERVER.format(port=static_port, folder=folder))
    # Its workers must be able to read the folder.
    user = " user root;" if os.geteuid() == 0 else ""
    command = [program(), "-p", folder, "-c", folder / "nginx" / "nginx.conf", "-g", f"daemon off;{user}"]
    nginx = Nginx(command, port, folder / "nginx.log", ready="/lists/jwks.json")
    return nginx, Port(nginx, static_port)
