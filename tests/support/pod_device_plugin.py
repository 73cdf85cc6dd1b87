"""A device plugin of the kubelet's, for devices that are not there; it runs alone in a pod.

python3 pod_device_plugin.py RESOURCE...    # one device of each, such as npu.intel.com/accel

The kubelet's API is `v1beta1` of k8s.io/kubelet/pkg/apis/deviceplugin. Its few messages are written
by hand: each field that is needed is a length-delimited one below number 16.
"""

import signal
import sys
from collections.abc import Iterator
from concurrent import futures

import grpc

FOLDER = "/var/lib/kubelet/device-plugins"
VERSION = b"v1beta1"


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of a message."""
    assert number < 16
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


class Plugin(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in the stubs only
    """Serves `v1beta1.DevicePlugin` for one resource with one healthy device."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.device = resource.replace("/", "-").encode()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Return what answers a method."""
        name = handler_call_details.method.rpartition("/")[2]
        if name == "ListAndWatch":
            return grpc.unary_stream_rpc_method_handler(self.list_and_watch)
        if name == "Allocate":
            return grpc.unary_unary_rpc_method_handler(self.allocate)
        if name == "GetDevicePluginOptions":
            return grpc.unary_unary_rpc_method_handler(lambda *_: b"")
        return None

    def list_and_watch(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Say that the device is healthy, and nothing more until the kubelet goes away."""
        yield field(1, field(1, self.device) + field(2, b"Healthy"))
        while context.is_active():
            signal.sigtimedwait((), 0.5)

    def allocate(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        """Give the device to a container: with a mark, where a real one would give a file."""
        assert self.device in request
        print(f"allocated {self.resource}", flush=True)  # noqa: T201 - its log
        return field(1, field(1, field(1, b"TEST_DEVICE") + field(2, self.device)))


def register(plugin: Plugin, endpoint: str) -> None:
    """Introduce a plugin to the kubelet."""
    with grpc.insecure_channel(f"unix://{FOLDER}/kubelet.sock") as channel:
        call = channel.unary_unary("/v1beta1.Registration/Register", None, None)
        told = field(1, VERSION) + field(2, endpoint.encode()) + field(3, plugin.resource.encode())
        call(told, timeout=10, wait_for_ready=True)


def main() -> None:
    """Serve every resource until the pod ends."""
    servers = []
    for resource in sys.argv[1:]:
        plugin = Plugin(resource)
        endpoint = f"test-{plugin.device.decode()}.sock"
        server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[plugin])
        server.add_insecure_port(f"unix://{FOLDER}/{endpoint}")
        server.start()
        register(plugin, endpoint)
        servers.append(server)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
