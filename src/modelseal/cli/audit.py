"""`modelseal audit`: who opened which model where and when, from three records that must agree."""

import contextlib
import json as json_module
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from modelseal.cli import console
from modelseal.cli import options as opt
from modelseal.cli.auditing.cluster import Objects, read_claims, read_objects
from modelseal.cli.auditing.join import UNPROVED, Opening, Report, join
from modelseal.cli.auditing.keyservice import Access, AuditLog, Covered, Use
from modelseal.errors import InputUnreadable, SettingsError, shown

EXIT_FINDINGS: Final = 4
EXAMPLES: Final = """\
modelseal audit --audit-log audit.log --agent-log agents.log
kubectl get pods,encryptedmodels -A -o json > objects.json
modelseal audit --audit-log audit.log --agent-log agents.log --objects objects.json --json
"""
_HEAD: Final = ("time", "model", "version", "who", "where", "key", "verdict")

AuditLogs = Annotated[
    list[Path],
    typer.Option("--audit-log", metavar="FILE", help="Audit log of Vault or OpenBao. Repeatable."),
]
AgentLogs = Annotated[
    list[Path],
    typer.Option(
        "--agent-log", metavar="FILE", help="Agents' logs, such as kubectl logs. Repeatable."
    ),
]
ObjectFiles = Annotated[
    list[Path] | None,
    typer.Option("--objects", metavar="FILE", help="What `kubectl get -o json` wrote. Repeatable."),
]
OfModel = Annotated[
    str | None, typer.Option("--model", metavar="OWNER/NAME", help="Only this model.")
]
_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]
Since = Annotated[
    datetime | None,
    typer.Option(metavar="DATE", formats=_FORMATS, help="Only from this time on (UTC)."),
]
Until = Annotated[
    datetime | None,
    typer.Option(metavar="DATE", formats=_FORMATS, help="Only before this time (UTC)."),
]


def command(
    *,
    audit_log: AuditLogs,
    agent_log: AgentLogs,
    objects: ObjectFiles = None,
    model: OfModel = None,
    since: Since = None,
    until: Until = None,
    json: opt.Json = False,
) -> int:
    """Show who opened which model, and what matches nothing.

    Joins the key service's audit log with the agents' logs, by the id of the request, and with the
    cluster's pods. Nothing is asked of a network. Ends with exit code 4 where a use of a key has no
    agent or pod, where records contradict each other, where key material came out in another way,
    or where lines of the audit log cannot be read. The report says what it cannot prove.
    """
    log = AuditLog()
    with contextlib.ExitStack() as stack:
        lines = chain.from_iterable(_lines(stack, path, "the audit log") for path in audit_log)
        accesses = [each for each in log.read(lines) if _wanted(each, model, since, until)]
        told = chain.from_iterable(_lines(stack, path, "the agents' log") for path in agent_log)
        claims = [each for each in read_claims(told) if _within(each.time, since, until)]
    report = join(
        accesses,
        [each for each in claims if model in (None, each.model)],
        _objects(objects) if objects else None,
    )
    findings = report.findings + log.covered.malformed
    if json:
        console.show_json(_fields(report, log.covered, findings))
    else:
        _show(report, log.covered, findings)
    return EXIT_FINDINGS if findings else 0


def _wanted(
    access: Access, model: str | None, since: datetime | None, until: datetime | None
) -> bool:
    """Say whether an access may concern the model, which is not known of a hidden one."""
    return _within(access.time, since, until) and (
        model is None or access.model is None or access.model == model
    )


def _within(time: datetime, since: datetime | None, until: datetime | None) -> bool:
    after = since is None or time >= since.replace(tzinfo=UTC)
    return after and (until is None or time < until.replace(tzinfo=UTC))


def _lines(stack: contextlib.ExitStack, path: Path, what: str) -> Iterable[str]:
    try:
        file = stack.enter_context(path.open(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise InputUnreadable(
            f"failed to read {what} {shown(str(path))}: {error.strerror}"
        ) from None
    return file


def _objects(paths: Iterable[Path]) -> Objects:
    def documents() -> Iterator[Any]:
        for path in paths:
            with contextlib.ExitStack() as stack:
                yield json_module.loads("".join(_lines(stack, path, "the objects")))

    try:
        return read_objects(documents())
    except (ValueError, RecursionError):
        raise SettingsError(
            "failed to read the objects: they are not what kubectl wrote",
            hint="kubectl get pods,encryptedmodels -A -o json > objects.json",
        ) from None


def _fields(report: Report, covered: Covered, findings: int) -> dict[str, Any]:
    return {
        "covered": {
            "from": _time(covered.first),
            "to": _time(covered.last),
            "lines": covered.lines,
            "malformed": covered.malformed,
        },
        "openings": [_opening_fields(each) for each in report.openings],
        "refused": [_access_fields(each) for each in report.refused],
        "unrecorded": [
            {"time": _time(each.time), "model": each.model, "host": each.host, "key": each.key}
            for each in report.unrecorded
        ],
        "findings": findings,
        "notProved": list(UNPROVED),
    }


def _access_fields(access: Access) -> dict[str, Any]:
    return {
        "time": _time(access.time),
        "request": access.request,
        "use": str(access.use),
        "model": access.model,
        "seal": access.seal_id,
        "key": access.key,
        "namespace": access.namespace,
        "serviceAccount": access.account,
        "identity": access.identity,
        "address": access.address,
    }


def _opening_fields(opening: Opening) -> dict[str, Any]:
    claim, pod = opening.claim, opening.pod
    return _access_fields(opening.access) | {
        "version": claim.version if claim else None,
        "digest": claim.digest if claim else None,
        "keyVersion": claim.key_version if claim else None,
        "host": claim.host if claim else None,
        "pod": pod.name if pod else None,
        "node": pod.node if pod else None,
        "resource": pod.resource if pod else None,
        "verdict": str(opening.verdict),
    }


def _show(report: Report, covered: Covered, findings: int) -> None:
    console.show_table(_HEAD, map(_row, report.openings))
    for access in report.refused:
        what = f"{_time(access.time)} {access.model or access.key} by {_who(access)}"
        console.note(console.printable(f"refused: {what} from {access.address}"))
    for claim in report.unrecorded:
        console.warn(console.printable(f"no audit log has what {claim.host} says of {claim.model}"))
    if covered.malformed:
        console.warn(f"{covered.malformed} of {covered.lines} lines of the audit log are malformed")
    span = f"{_time(covered.first)} to {_time(covered.last)}" if covered.first else "nothing"
    console.note(f"covered: {span}; {findings} findings")
    for each in UNPROVED:
        console.note(f"not proved: {each}")


def _row(opening: Opening) -> tuple[str, ...]:
    access, claim, pod = opening.access, opening.claim, opening.pod
    version = f" v{claim.key_version}" if claim and claim.key_version else ""
    where = f"{pod.name} on {pod.node}" if pod else (claim.host if claim else access.address)
    what = "" if access.use is Use.OPENING else f" ({access.use})"
    return (
        _time(access.time) or "",
        access.model or (claim.model if claim else "unknown"),
        claim.version if claim else "unknown",
        _who(access),
        where,
        access.key + version,
        f"{opening.verdict}{what}",
    )


def _who(access: Access) -> str:
    if access.account is None:
        return access.identity
    return f"{access.namespace}/{access.account}"


def _time(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
