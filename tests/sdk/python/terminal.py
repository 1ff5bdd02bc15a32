"""A person at a terminal: runs a program in a pseudo-terminal of 97 columns and 31 rows, types what follows what it shows, and tells how it ended.

Argument, as one JSON object: program, arguments, talk: pairs of what must be shown, and what is typed then.
"""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

given = json.loads(sys.argv[1])
outer, inner = pty.openpty()
fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
before = termios.tcgetattr(inner)


def own_terminal():
    os.setsid()
    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)


child = subprocess.Popen(
    [given["program"], *given["arguments"]], stdin=inner, stdout=inner, stderr=inner, preexec_fn=own_terminal, close_fds=True
)
shown, unread, end = "", "", time.monotonic() + 60


def read():
    """Takes what is shown; false when nothing more comes."""
    global shown, unread
    if not select.select([outer], [], [], 0.2)[0]:
        return child.poll() is None
    try:
        text = os.read(outer, 65536).decode(errors="replace")
    except OSError:
        return False
    shown += text
    unread += text
    return True


for awaited, typed in given["talk"]:
    while awaited not in unread:
        if not read() or time.monotonic() > end:
            sys.exit(f"{awaited!r} was not shown: {shown!r}")
    unread = unread.split(awaited, 1)[1] if awaited else unread
    os.write(outer, typed.encode())
while child.poll() is None:
    read()
    if time.monotonic() > end:
        child.kill()
        sys.exit(f"it did not end: {shown!r}")
while select.select([outer], [], [], 0)[0] and read():
    pass
print(json.dumps({"code": child.returncode, "shown": shown, "same": termios.tcgetattr(inner) == before}))
