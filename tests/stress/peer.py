"""What host and guest say to each other over any stream: the caller names how many bytes go each way at
the same time, and each side ends its bytes with their SHA-256, as computed by who sent them."""
import hashlib
import random
import socket
import struct
import threading

HEADER = struct.Struct("<QQQ")  # the seed of the answer, bytes to the server, bytes to the caller
CHUNK = 1 << 16


class Wrong(Exception):
    """What came is not what was sent, or a program's result is not what it has to be."""


def receive(stream, size):
    """Exactly so many bytes, in one piece."""
    data = bytearray()
    while len(data) < size:
        part = stream.recv(min(CHUNK, size - len(data)))
        if not part:
            raise Wrong(f"the stream ended after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


def send_random(stream, seed, size):
    source, digest = random.Random(seed), hashlib.sha256()
    while size:
        data = source.randbytes(min(size, CHUNK))
        digest.update(data)
        stream.sendall(data)
        size -= len(data)
    stream.sendall(digest.digest())


def take_random(stream, size):
    digest = hashlib.sha256()
    while size:
        data = receive(stream, min(size, CHUNK))
        digest.update(data)
        size -= len(data)
    if receive(stream, 32) != digest.digest():
        raise Wrong("a wrong checksum of what came over a stream")


def both_ways(stream, seed, out, into):
    """Sends and takes at once; what goes wrong with either is raised here."""
    failed = []

    def send():
        try:
            send_random(stream, seed, out)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        take_random(stream, into)
    finally:
        thread.join()
    if failed:
        raise failed[0]


def call(stream, seed, out, into):
    with stream:
        stream.sendall(HEADER.pack(seed + 1, out, into))
        both_ways(stream, seed, out, into)
        stream.shutdown(socket.SHUT_WR)
        if stream.recv(1):
            raise Wrong("bytes behind the end")


def answer(stream):
    with stream:
        seed, into, out = HEADER.unpack(receive(stream, HEADER.size))
        both_ways(stream, seed, out, into)
        if stream.recv(1):  # the caller closes first, and only its direction
            raise Wrong("bytes behind the end")


def serve(listener, on_wrong):
    """Answers every caller in a thread of its own, for ever."""

    def one(stream):
        try:
            answer(stream)
        except (OSError, Wrong) as error:
            on_wrong(f"as the server: {error!r}")

    def loop():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def echo(datagrams):
    """Sends every datagram back, for ever."""

    def loop():
        while True:
            data, sender = datagrams.recvfrom(1 << 16)
            datagrams.sendto(data, sender)

    threading.Thread(target=loop, daemon=True).start()
