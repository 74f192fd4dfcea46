"""Runs the service of a container image, with podman or docker, in place of the program that is built here."""

import functools
import os
import shutil
import subprocess

import service

ENGINES = ["podman", "docker"]
REVISION = "org.opencontainers.image.revision"


class Image:
    """An image that is on this machine, or can be pulled."""

    def __init__(self, tag):
        self.tag = tag
        engines = [engine for engine in ENGINES if shutil.which(engine)]
        if not engines:
            service.fail(f"measuring the image {tag} needs podman or docker: install one of them, or leave the knob `image` out")
        failures = []
        for take in ("inspect", "pull"):
            for engine in engines:
                done = say(engine, "image", take, tag)
                if done.returncode == 0:
                    self.engine = engine
                    return
                failures.append(f"{engine} image {take}: {done.stderr.strip()}")
        service.fail(f"there is no image {tag}: build it (see Dockerfile) or correct the knob `image`\n" + "\n".join(failures))

    def facts(self):
        """Its tag, its id, and the commit that it says it was built from."""
        template = '{{.Id}} {{index .Config.Labels "' + REVISION + '"}}'
        words = say(self.engine, "image", "inspect", "--format", template, self.tag).stdout.split()
        return {"image": self.tag, "image_id": words[0], "image_revision": words[1] if len(words) == 2 else None}

    def start(self, folder, port, settings):
        """The service with its data in `folder`, like service.statuslist."""
        file = folder / "settings.yaml"
        file.write_text(settings)
        return Container(self, folder, port, ["--config", file, "serve"])


class Container(service.Process):
    """The service in a container: with the network, the files and the user of this machine, so that only the program differs."""

    def __init__(self, image, folder, port, words):
        self.engine, self.name = image.engine, f"{folder.parent.name}-{folder.name}"
        command = [self.engine, "run", "--rm", "--name", self.name, "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}"]
        if self.engine == "podman" and os.getuid():
            command += ["--userns", "keep-id"]
        command += ["--volume", f"{folder}:{folder}", "--workdir", folder]
        # These replace the settings of the image itself.
        for name, value in {"SERVER__LISTEN": f"127.0.0.1:{port}", "LOG__FORMAT": "human"}.items():
            command += ["--env", f"STATUSLIST__{name}={value}"]
        super().__init__([*command, image.tag, *words], port, folder / "service.log")

    @functools.cache
    def pids(self):
        """The service itself, not the program that started its container."""
        done = say(self.engine, "inspect", "--format", "{{.State.Pid}}", self.name)
        return [int(done.stdout)]

    def stop(self):
        if self.child.poll() is None:
            say(self.engine, "stop", "--time", "20", self.name)
        super().stop()


def say(*words):
    return subprocess.run(words, capture_output=True, text=True)
