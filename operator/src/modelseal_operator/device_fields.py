"""What an EncryptedModel says about devices, read from `spec.device`."""

from typing import Final

from modelseal_operator.fields import Fields

DEVICES: Final = ("CPU", "GPU", "NPU")
_PROPERTY: Final = rf"({'|'.join(DEVICES)})\.[A-Z_]{{1,64}}=[A-Za-z0-9_]{{1,32}}"


def read_devices(device: Fields) -> tuple[str, ...]:
    """Return the wanted devices in order; CPU if none is named."""
    found = device.texts("preference", pattern="|".join(DEVICES), limit=3) or ("CPU",)
    if len(set(found)) != len(found):
        raise device.wrong("preference", "a list that names each device once")
    return found


def read_combine(device: Fields) -> str:
    """Return `AUTO`, `MULTI` or `HETERO`, or nothing where one device serves."""
    if not device.has("combine"):
        return ""
    found = device.choice("combine", ["Auto", "Multi", "Hetero"], "Auto")
    names = read_devices(device)
    if "CPU" not in names[1:]:
        raise device.wrong(
            "combine", "set only where preference names another device and CPU after it"
        )
    return found.upper()


def read_properties(device: Fields) -> tuple[str, ...]:
    """Return OpenVINO's properties of single devices, such as `CPU.NUM_STREAMS=2`.

    The runtime knows which are allowed; here they are only kept from being anything else.
    """
    return device.texts("properties", pattern=_PROPERTY, limit=32)
