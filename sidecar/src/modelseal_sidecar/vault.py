"""From the agent's environment to the key service's settings; secrets stay in their files."""

from pathlib import Path
from typing import TypeVar, assert_never

from modelseal.contract import Env
from modelseal.errors import SettingsError
from modelseal.keys import AppRoleAuth, JwtAuth, TokenAuth, VaultAuth, VaultSettings
from modelseal.secret import Secret
from modelseal_sidecar.credentials import MAX_TOKEN_BYTES, read_line
from modelseal_sidecar.settings import AuthMethod, VaultEnvironment

T = TypeVar("T")


def vault_settings(environment: VaultEnvironment, ca_file: Path | None) -> VaultSettings:
    """Return how to reach and log in to the key service.

    Credentials are read anew at each login, because the kubelet replaces projected tokens.
    """
    return VaultSettings(
        address=environment.address,
        namespace=environment.namespace,
        ca_file=ca_file,
        auth=_auth(environment),
    )


def _auth(environment: VaultEnvironment) -> VaultAuth:
    method, mount = environment.auth, environment.auth_mount or environment.auth.value
    match method:
        case AuthMethod.TOKEN:
            return TokenAuth(read=lambda: _token(environment.token_file))
        case AuthMethod.APPROLE:
            return AppRoleAuth(
                role_id=_given(environment.role, Env.VAULT_ROLE),
                read=lambda: _token(_given(environment.secret_id_file, Env.VAULT_SECRET_ID_FILE)),
                mount=mount,
            )
        case AuthMethod.JWT | AuthMethod.KUBERNETES:
            return JwtAuth(
                role=_given(environment.role, Env.VAULT_ROLE),
                read=lambda: _token(environment.token_file),
                method=method.value,
                mount=mount,
            )
    assert_never(method)


def _token(path: Path) -> Secret:
    return read_line(path, MAX_TOKEN_BYTES, "the key service's credential")


def _given(value: T | None, name: Env) -> T:
    if value is None:
        raise SettingsError(f"failed to read the settings: {name} is not set")
    return value
