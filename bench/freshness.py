"""Measures the time from the acknowledgement of an update until a fetch through nginx shows it."""

import base64
import http.client
import json
import random
import threading
import time
import zlib

import lists
import nginx
import service

LIST_SIZE = 100_000
PROBES_IN_A_BEAT = 50
LOOK_SECONDS = 0.02


class Probe(threading.Thread):
    """Revokes at random moments in a pool with this beat, and fetches the list many times a second."""

    def __init__(self, statuslist, site, beat, seconds):
        super().__init__(daemon=True)
        self.statuslist, self.beat, self.seconds = statuslist, beat, seconds
        self.gap = max(0.05, beat / PROBES_IN_A_BEAT)
        self.random = random.Random(beat)
        amount = min(9_000, int(seconds / self.gap * 2) + 50)
        self.references = lists.references(statuslist, f"beat-{beat}", amount)
        self.connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
        self.etags, self.waiting, self.waits, self.error = {}, {}, [], None

    def run(self):
        try:
            self.revoke_and_look()
        except Exception as error:
            self.error = error
        finally:
            self.connection.close()

    def revoke_and_look(self):
        end = time.monotonic() + self.seconds
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now < end and now >= due and self.references:
                self.revoke(self.references.pop())
                due = now + self.random.expovariate(1 / self.gap)
            for uri in {uri for uri, _ in self.waiting}:
                self.look(uri)
            if now >= end and not self.waiting:
                return
            if now > end + 2 * self.beat + 10:
                raise RuntimeError(f"{len(self.waiting)} updates are not visible {now - end:.0f} s after the last")
            time.sleep(LOOK_SECONDS)

    def revoke(self, reference):
        body = {"uri": reference["uri"], "index": reference["index"], "value": 1}
        status, _, answer = self.statuslist.ask("PATCH", "/status-lists/update", body)
        if status != 204:
            raise RuntimeError(f"update answered {status}: {answer.decode()}")
        self.waiting[reference["uri"], reference["index"]] = time.monotonic()

    def look(self, uri):
        """Fetches the list if it has changed, and finds the waiting updates that it shows."""
        headers = {"If-None-Match": self.etags[uri]} if uri in self.etags else {}
        self.connection.request("GET", lists.path_of(uri), None, headers)
        answer = self.connection.getresponse()
        token = answer.read()
        if answer.status == 304:
            return
        if answer.status != 200:
            raise RuntimeError(f"{uri} returned {answer.status}")
        seen, statuses = time.monotonic(), statuses_of(token)
        self.etags[uri] = answer.headers["ETag"]
        for of, index in [waiting for waiting in self.waiting if waiting[0] == uri]:
            if statuses[index // 8] >> index % 8 & 1:
                self.waits.append(seen - self.waiting.pop((of, index)))


def statuses_of(token):
    """The array of a token (JWT), one bit each. Signatures are verified elsewhere."""
    payload = token.split(b".")[1]
    lst = json.loads(unpadded(payload))["status_list"]["lst"]
    return zlib.decompress(unpadded(lst.encode()))


def unpadded(text):
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def measure(folder, beats, seconds):
    """The waits in seconds for each beat, measured at the same time with pools of one service."""
    port = service.free_port()
    settings = service.paths(folder, port) + "status-list-pools:\n"
    for beat in beats:
        pool = f"{{ api-key: {service.KEY}, size: {LIST_SIZE}, open-lists: 1, update-interval: {beat}s }}"
        settings += f"  beat-{beat}: {pool}\n"
    statuslist = service.statuslist(folder, port, settings)
    site, _ = nginx.start(folder, folder / "public")
    probes = [Probe(statuslist, site, beat, seconds) for beat in beats]
    for probe in probes:
        probe.start()
    for probe in probes:
        probe.join()
        if probe.error:
            service.fail(f"freshness at a beat of {probe.beat} s: {probe.error}")
    for process in (site, statuslist):
        process.stop()
    return {probe.beat: probe.waits for probe in probes}


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def histogram(waits, beat, bins=10):
    """Shares of the waits by tenths of the beat; the last one is for those longer than a beat."""
    counts = [0] * (bins + 1)
    for wait in waits:
        counts[min(bins, int(wait / beat * bins))] += 1
    return [count / len(waits) for count in counts]
