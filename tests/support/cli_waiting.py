"""A program for tests: tells its process id and where its secret comes from, and then waits."""

import os
import signal
import sys

if __name__ == "__main__":
    sys.stdout.write(f"{os.getpid()}\n")
    if path := os.environ.get("SECRET_PATH"):
        with open(path, "rb") as file:
            sys.stdout.write(f"{len(file.read())} bytes\n")
    sys.stdout.flush()
    while True:
        signal.pause()
