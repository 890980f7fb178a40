"""A server to publish, and what the tests of published ports ask of the machine.

The server answers each connection to port 8000 by what its first line says; on 9000 it answers datagrams.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from boxes import await_true, children_of

from pylxc.runtime import record

if TYPE_CHECKING:
    import pylxc

PROXY = b"pylxc-ports\n"
SERVER = r"""
import asyncio, os, resource, socket, struct, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
log = open("/log", "a", buffering=1)

async def serve(reader, writer):
    try:
        what, *operands = (await reader.readline()).decode().split()
        if what == "echo":                      # until the client's end, then a word
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.write(b"end")
        elif what == "give":                    # so many bytes
            writer.write(bytes(int(operands[0])))
        elif what == "flood":                   # for ever
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
        elif what == "first":                   # says its end first, and then listens
            writer.write(b"mine")
            writer.write_eof()
            log.write(f"got {len(await reader.read())}\n")
        elif what == "peer":
            writer.write(writer.get_extra_info("peername")[0].encode())
        elif what == "reset":
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        elif what == "wait":                    # for the client's end, whatever that is
            writer.write(b"here")
            log.write(f"ended {await reader.read()!r}\n")
        elif what == "exit":                    # answers and ends the container
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            writer.transport.pause_reading()
            fd = os.dup(writer.get_extra_info("socket").fileno())
            os.set_blocking(fd, True)
            left = memoryview(bytes(int(operands[0])))
            while left:
                left = left[os.write(fd, left):]
            os._exit(int(operands[1]))
        await writer.drain()
    except ValueError:                          # nobody of the tests says that
        writer.write(b"what?")
    except ConnectionError as error:
        log.write(f"{type(error).__name__}\n")
    finally:
        writer.close()

class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, address):
        answer = str(address[1]).encode() if data == b"who" else data[::-1]
        self.transport.sendto(answer or b"nothing", address)

async def main():
    loop = asyncio.get_running_loop()
    address = sys.argv[1]
    await loop.create_datagram_endpoint(Datagrams, local_addr=(address, 9000))
    await (await asyncio.start_server(serve, address, 8000, backlog=4096)).serve_forever()

asyncio.run(main())
"""


def command(address: str = "127.0.0.1") -> tuple[str, ...]:
    """Return the command of the server, on an address inside."""
    return ("python3", "-c", SERVER, address)


def proxies(container: pylxc.Container) -> list[int]:
    """Return the pids of the processes that serve a container's ports."""
    monitor = record.monitor_pid(container._directory())
    found = []
    for pid in children_of(monitor):
        try:
            if Path(f"/proc/{pid}/comm").read_bytes() == PROXY:
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def proxy(container: pylxc.Container) -> int:
    """Return the pid of the one process that serves a container's ports."""
    await_true(lambda: len(proxies(container)) == 1, "one process that serves the ports")
    return proxies(container)[0]


def descriptors_of(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def open_files(pid: int) -> list[str]:
    """Return what a process has open, but for what it closes at this moment."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def dial(container: pylxc.Container, port: int = 8000, words: str = "") -> socket.socket:
    """Return a connection to a published port, and say the first line."""
    connection = socket.create_connection(container.address(port), 20)
    try:
        if words:
            connection.sendall(f"{words}\n".encode())
    except BaseException:
        connection.close()
        raise
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the end."""
    data = bytearray()
    while chunk := connection.recv(1 << 20):
        data += chunk
    return bytes(data)


def datagrams(address: tuple[str, int], own: str = "") -> socket.socket:
    """Return a socket of UDP that is connected to an address."""
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(20)
    if own:
        made.bind((own, 0))
    made.connect(address)
    return made


def ask(address: tuple[str, int], data: bytes) -> bytes:
    """Return the answer to a datagram."""
    with datagrams(address) as asking:
        asking.send(data)
        return asking.recv(1 << 16)
