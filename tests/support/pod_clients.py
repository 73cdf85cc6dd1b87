"""Clients that ask a model over its Service without pause; they run alone in a pod.

One line of JSON comes on standard input: `host`, `path` and `body` for REST, `method` and `message`
(hex) for gRPC. They ask until standard input ends, and then say as JSON what each of them saw.
Nobody asks a second time: whatever fails is a failure.
"""

import http.client
import json
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

PAUSE = 0.02
LONG_PAUSE = 0.7
"""Longer than a draining server waits for another request before it closes connections."""
SECONDS = 20
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
Ask = Callable[[], bytes]


class Client:
    """One client: how often it was answered, what the answers were, and what failed."""

    def __init__(self, kind: str, ask: Ask, pause: float = PAUSE) -> None:
        self.kind = kind
        self.ask = ask
        self.pause = pause
        self.answered = 0
        self.answers: set[bytes] = set()
        self.failures: list[str] = []

    def run(self, ended: threading.Event) -> None:
        """Ask until the end."""
        while not ended.is_set():
            try:
                self.answers.add(self.ask())
                self.answered += 1
            except Exception as error:
                self.failures.append(f"{time.strftime('%X')} {error!r}"[:500])
            ended.wait(self.pause)

    def seen(self) -> dict[str, Any]:
        """Return what was seen."""
        answers = [answer.hex() for answer in self.answers][:8]
        return {"kind": self.kind, "answered": self.answered, "answers": answers} | {
            "failures": self.failures[:8]
        }


def rest(told: dict[str, str], *, kept: bool) -> Ask:
    """Return how to ask over REST, on a connection that is kept or on a new one each time."""
    connection = http.client.HTTPConnection(told["host"], 8080, timeout=SECONDS)

    def ask() -> bytes:
        try:
            if connection.sock and select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # the server has closed it: urllib3 and others look, too
            headers = {"Content-Type": "application/json"}
            connection.request("POST", told["path"], told["body"], headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {content[:200]!r}")
            if not kept:
                connection.close()
            return content
        except BaseException:
            connection.close()
            raise

    return ask


def rpc(told: dict[str, str]) -> Ask:
    """Return how to ask over gRPC, on a connection of this client's own."""
    channel = grpc.insecure_channel(f"{told['host']}:9000", options=OWN_CONNECTION)
    call = channel.unary_unary(told["method"], None, None)
    message = bytes.fromhex(told["message"])

    def ask() -> bytes:
        content: bytes = call(message, timeout=SECONDS)
        return content

    return ask


def main() -> None:
    """Run all clients at once."""
    told = json.loads(sys.stdin.readline())
    clients = [
        *(Client("REST", rest(told, kept=True)) for _ in range(3)),
        Client("REST", rest(told, kept=True), LONG_PAUSE),
        Client("REST", rest(told, kept=False)),
        *(Client("gRPC", rpc(told)) for _ in range(3)),
        Client("gRPC", rpc(told), LONG_PAUSE),
    ]
    ended = threading.Event()
    threads = [threading.Thread(target=client.run, args=(ended,)) for client in clients]
    for thread in threads:
        thread.start()
    while not all(client.answered or client.failures for client in clients):
        time.sleep(0.05)
    print("asking", flush=True)  # noqa: T201 - to the test
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    print(json.dumps([client.seen() for client in clients]))  # noqa: T201 - to the test


if __name__ == "__main__":
    main()
