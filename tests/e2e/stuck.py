"""stuck.py FILE DIRECTORY: a process that has FILE locked and, once killed, does not end until this program gets
a line: it waits for a file system that does not answer. Says its pid when it waits. Needs root."""
import ctypes
import fcntl
import os
import struct
import sys

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def hold(file, directory):
    fd = os.open(file, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        os.stat(directory + "/nothing")
    finally:
        os._exit(0)


def main(file, directory):
    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    fuse = os.open("/dev/fuse", os.O_RDWR)
    check(libc.mount(b"stuck", directory.encode(), b"fuse", 0,
                     b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fuse))
    _, _, unique = struct.unpack_from("<IIQ", os.read(fuse, 1 << 16))  # INIT
    answer = struct.pack("<IIIIHHIIHH32x", 7, 31, 4096, 0, 1, 1, 4096, 1, 1, 0)
    os.write(fuse, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
    pid = os.fork()
    if pid == 0:
        os.close(fuse)
        hold(file, directory)
    os.read(fuse, 1 << 16)  # a request that gets no answer
    print(pid, flush=True)
    sys.stdin.readline()
    os.close(fuse)
    os.waitpid(pid, 0)


main(*sys.argv[1:])
