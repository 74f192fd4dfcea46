"""Holds many connections open from one address without using them: the attack of tests/it/nginx_connections.rs.

Usage: idle.py ADDRESS PORT COUNT WHAT SOURCE
WHAT is `nothing` (says nothing), `half` (half a head) or `kept` (a whole request, then nothing). A connection that the server closes is
opened again. Prints `holding N` when N connections stand and no more are made, or when as many as possible stand; N is what the
kernel took, the server may not have accepted them. Runs until its standard input ends.
"""

import errno
import resource
import select
import socket
import sys
import time

SAYS = {
    "nothing": b"",
    "half": b"GET / HTTP/1.1\r\nHost: ",
    "kept": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
# So many connections are opened at a time, so that the queue of a server that accepts them never overflows.
AT_A_TIME = 200
SETTLED_SECONDS = 1.5
IP_BIND_ADDRESS_NO_PORT = 24


def main(address, port, count, what, source):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Some are for the interpreter.
    count = min(count, hard - 100)
    poll = select.epoll()
    poll.register(0, select.EPOLLIN | select.EPOLLHUP)
    waiting, open_ones = {}, {}
    told, changed = False, time.monotonic()
    while True:
        while len(waiting) + len(open_ones) < count and len(waiting) < AT_A_TIME:
            client = socket.socket()
            client.setblocking(False)
            # Linux looks for a port when it connects, which is far quicker than when it binds.
            client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            client.bind((source, 0))
            if client.connect_ex((address, port)) not in (0, errno.EINPROGRESS):
                client.close()
                break
            waiting[client.fileno()] = client
            poll.register(client, select.EPOLLOUT)
        for number, _ in poll.poll(0.1):
            if number == 0:
                return
            if number in waiting:
                client = waiting.pop(number)
                try:
                    client.sendall(SAYS[what])
                    poll.modify(client, select.EPOLLIN)
                    open_ones[number] = client
                    changed = time.monotonic()
                except OSError:
                    poll.unregister(client)
                    client.close()
            else:
                try:
                    if open_ones[number].recv(65536):
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                client = open_ones.pop(number)
                poll.unregister(client)
                client.close()
        settled = len(open_ones) >= count or time.monotonic() - changed > SETTLED_SECONDS
        if settled and not told:
            told = True
            print(f"holding {len(open_ones)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
