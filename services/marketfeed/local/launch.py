"""Becomes another program that ends when its parent does: `launch.py SIGNAL PARENT USER PROGRAM ARGUMENT…`.

Run as a script by a bare interpreter (`python -I -S`), it imports nothing of ours. It drops root if USER is not "-",
asks the kernel to send SIGNAL when the parent dies, checks that the parent has not died before that, and executes the
program in its place: same process id, no process in between. The order matters: a change of user clears the request.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> None:
    """Replace this process; returns never, exits 127 if that cannot be."""
    number, parent, user, *command = argv
    if user != "-":
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(127)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
