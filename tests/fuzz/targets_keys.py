"""What the readers of a key service's answers and of its audit log promise, for `targets`."""

import json
from typing import Any, Final

from modelseal.cli.auditing.cluster import Objects, read_claims, read_objects
from modelseal.cli.auditing.join import join
from modelseal.cli.auditing.keyservice import AuditLog
from modelseal.envelope import Recipient
from modelseal.errors import ModelsealError
from modelseal.keys.answers import RETRIED, Answer, read_answer, request_id
from modelseal.keys.transit import VaultTransitProvider
from modelseal.secret import Secret

_STATUSES: Final = (200, 200, 200, 204, 301, 400, 403, 404, 405, *RETRIED)
_RECIPIENT: Final = Recipient(kind="vault-transit", key="transit/models", wrapped="vault:v1:AAAA")
_CONTEXT: Final = bytes(48)


class _Told:
    """A conversation in which every question has one answer."""

    last_id = None
    expires = None

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.secrets = self.transit = self.sys = self

    def ask(self, call: Any) -> Any:
        return call(self)

    def answer(self, **_: object) -> dict[str, Any]:
        return self._document

    decrypt_data = rewrap_data = encrypt_data = get_capabilities = answer


def answer(data: bytes) -> bool:
    """Check how answers are read; the first two bytes choose status and kind of question."""
    status, login = _STATUSES[data[0] % len(_STATUSES)] if data else 200, data[1:2] == b"\1"
    try:
        document = read_answer(Answer(status=status, body=data[2:], login=login))
    except ModelsealError as error:
        return _refused(error)
    request_id(document)
    told: Any = _Told(document)
    keys = VaultTransitProvider(told, mount="transit", key="models")
    with Secret(bytearray(32)) as dek:
        found = [
            _accepts(lambda: keys.unwrap(_RECIPIENT, _CONTEXT).wipe()),
            _accepts(lambda: keys.wrap(dek, _CONTEXT)),
            _accepts(lambda: keys.check(_RECIPIENT, _CONTEXT)),
        ]
    return any(found)


def audit(data: bytes) -> bool:
    """Check how an audit log, agents' logs and objects are read and joined, all from one text."""
    lines = data.decode("utf-8", "replace").splitlines()
    log = AuditLog()
    accesses, claims = list(log.read(lines)), list(read_claims(lines))
    report = join(accesses, claims, _objects(data))
    assert len(report.openings) + len(report.refused) == len(accesses)
    return bool(accesses or claims)


def _objects(data: bytes) -> Objects:
    try:
        return read_objects([json.loads(line) for line in data.splitlines()])
    except (ValueError, RecursionError):
        return Objects()


def _accepts(call: Any) -> bool:
    try:
        call()
    except ModelsealError as error:
        return _refused(error)
    return True


def _refused(error: ModelsealError) -> bool:
    assert len(error.message) < 500, len(error.message)
    assert error.message.isprintable(), ascii(error.message)
    return False
