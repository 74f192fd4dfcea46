"""Clients that hold connections open with updates whose bodies never end, one byte at a time; for `bench/slow`.

Each has a valid API key, so that the service reads its body instead of refusing it at once. A client that is cut off reconnects.
Runs until it is stopped; fails if the service gives any other answer than that the request timed out.
"""

import asyncio
import sys

from service import KEY

BEGIN = f"""PATCH /status-lists/update HTTP/1.1
Host: localhost
X-Api-Key: {KEY}
Content-Type: application/json
Content-Length: 100000

{{""".replace("\n", "\r\n").encode()
PATIENCE_SECONDS = 1
OPENED_PER_SECOND = 500
EXPECTED = b"HTTP/1.1 408 "


async def main(port, clients):
    await asyncio.gather(*(hold(port, number / OPENED_PER_SECOND) for number in range(clients)))


async def hold(port, delay):
    await asyncio.sleep(delay)
    while True:
        try:
            said = await drip(*await asyncio.open_connection("127.0.0.1", port))
        except ConnectionError:
            # Writing to a connection that was cut off fails with a reset.
            continue
        if said and not said.startswith(EXPECTED):
            sys.exit(f"the answer to a body that does not end was {said[:200]!r}")


async def drip(reader, writer):
    """The final answer of the service."""
    try:
        writer.write(BEGIN)
        while True:
            try:
                return await asyncio.wait_for(reader.read(4096), PATIENCE_SECONDS)
            except asyncio.TimeoutError:
                writer.write(b" ")
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
