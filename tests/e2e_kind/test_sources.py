"""The other places of ciphertext, and the other delivery."""

import http.client
import json

import numpy as np
import pytest

from modelseal.contract import Reason
from support.images import Images
from support.kind_asking import answers_right, is_right, question
from support.kind_place import Place
from support.kind_workloads import as_image, foreign_server, serve_over_https

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]


def test_a_model_behind_https_is_served_with_its_own_ca_and_token(place: Place) -> None:
    place.provide()
    place.put(place.seal(), "filetype/1")
    address = f"{serve_over_https(place)}/filetype/1"
    source = {
        "url": address,
        "caConfigMapRef": {"name": "origin-ca"},
        "tokenSecretRef": {"name": "origin-token"},
    }
    place.apply(source={"http": source})
    place.until_ready()
    assert answers_right(place)
    place.apply(name="no-token", source={"http": {**source, "tokenSecretRef": None}})
    place.until_reason(Reason.SOURCE_DENIED, "no-token")


def test_a_model_in_an_oci_image_is_served_without_a_volume(place: Place) -> None:
    place.provide()
    reference = as_image(place, place.seal())
    place.apply(source={"image": {"reference": reference, "path": "filetype"}})
    place.until_ready()
    assert answers_right(place)


def test_another_server_gets_files_in_memory_and_loses_them_with_the_right(
    place: Place, images: Images
) -> None:
    server = foreign_server(place, images.runtime)
    place.provide(delivery={"allowTmpfs": True, "serverImages": [server]})
    place.put(place.seal(), "filetype/1")
    place.apply(delivery="Tmpfs", server={"image": server})
    place.until_ready()
    with place.kube.forward("service/filetype", 8080) as ports:
        connection = http.client.HTTPConnection("127.0.0.1", ports[8080], timeout=20)
        connection.request("POST", "/", json.dumps(question().tolist()))
        scores = np.array(json.load(connection.getresponse()), dtype=np.float32)
        connection.close()
    assert is_right(place, scores)
    place.revoke()
    place.until_reason(Reason.KEY_ACCESS_DENIED)
    place.kube.until("the server was stopped", place.never_served)
