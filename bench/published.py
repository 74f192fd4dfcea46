"""A service with many published lists: makes their store and files, starts on them, and waits until it is at rest."""

import subprocess
import time

import service


def pool(size):
    """The settings of the pool of the lists."""
    return f"status-list-pools: {{ p: {{ api-key: {service.KEY}, size: {size}, formats: [jwt] }} }}\n"


def files(folder):
    return list((folder / "public" / "lists").glob("*.jwt"))


def make(folder, settings, count):
    """Opens and publishes the lists in a folder that has none; returns the seconds."""
    file = folder / "settings.yaml"
    file.write_text(settings)
    begun = time.monotonic()
    command = [service.program("examples") / "many_lists", file, str(count)]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if made.returncode:
        service.fail(f"the lists could not be made:\n{made.stdout}{made.stderr}")
    seconds = time.monotonic() - begun
    if len(files(folder)) < count:
        service.fail(f"{count} lists were made, {len(files(folder))} files are there")
    return seconds


def start(folder, port, settings):
    """Starts the service, waits until it is at rest, and stops it."""
    process = service.statuslist(folder, port, settings, ready="/health/ready")
    ready_mib = process.memory_kib() / 1024
    # At its start it compares all files in the background; it is idle when two seconds pass without work.
    cpu = process.cpu_seconds()
    while True:
        time.sleep(2)
        before, cpu = cpu, process.cpu_seconds()
        if cpu - before < 0.02:
            break
        if time.monotonic() - process.begun > 300:
            service.fail("the service does not come to rest")
    run = {
        "ready_seconds": process.ready_seconds,
        "ready_mib": ready_mib,
        "settled_cpu_seconds": cpu,
        "idle_mib": process.memory_kib() / 1024,
        "peak_mib": process.memory_kib("VmHWM") / 1024,
    }
    process.stop()
    return run
