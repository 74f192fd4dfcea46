"""A service with many published lists: makes their store and files, starts the service on them, and waits until it is idle."""

import subprocess
import time

import service


def pool(size):
    """The settings of the pool of the lists."""
    return f"status-list-pools: {{ p: {{ api-key: {service.KEY}, size: {size}, formats: [jwt], quotas: {{ lists: 100000000 }} }} }}\n"


def files(folder):
    return list((folder / "public" / "lists").glob("*.jwt"))


def make(folder, settings, count):
    """Opens and publishes lists in an empty folder; returns the seconds it took."""
    file = folder / "settings.yaml"
    file.write_text(settings)
    begun = time.monotonic()
    command = [service.program("examples") / "many_lists", file, str(count)]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if made.returncode:
        service.fail(f"cannot make the lists:\n{made.stdout}{made.stderr}")
    seconds = time.monotonic() - begun
    if len(files(folder)) < count:
        service.fail(f"made {count} lists, but there are {len(files(folder))} files")
    return seconds


def start(folder, port, settings):
    """Starts the service, waits until it is idle, and stops it."""
    process = service.statuslist(folder, port, settings, ready="/health/ready")
    ready_mib = process.memory_kib() / 1024
    # At the start it compares all files in the background; it is idle if two seconds pass without work.
    cpu = process.cpu_seconds()
    while True:
        time.sleep(2)
        before, cpu = cpu, process.cpu_seconds()
        if cpu - before < 0.02:
            break
        if time.monotonic() - process.begun > 300:
            service.fail("the service does not become idle")
    run = {
        "ready_seconds": process.ready_seconds,
        "ready_mib": ready_mib,
        "settled_cpu_seconds": cpu,
        "idle_mib": process.memory_kib() / 1024,
        "peak_mib": process.memory_kib("VmHWM") / 1024,
    }
    process.stop()
    return run
