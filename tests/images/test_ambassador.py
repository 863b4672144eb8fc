"""What the large image of the ambassador has, and the small one has not."""

import pytest

# The chain of the SDK, of which Web Identity asks STS: what that is described by is in the image.
CHAIN = """
import asyncio, aiohttp, botocore.session, httptools, jwt
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
assert jwt.decode(jwt.encode({"sub": "a"}, key, "ES256"), key.public_key(), ["ES256"]) == {"sub": "a"}
assert botocore.session.get_session().create_client("sts", region_name="eu-central-1")
"""
ROUTES = [
    "127.0.0.1:8080=http://127.0.0.1:9?auth-jwt-jwks=https://login.example/keys",
    "127.0.0.1:8080=http://127.0.0.1:9?credential-sigv4-region=eu-central-1&credential-sigv4-service=s3",
]


@pytest.mark.parametrize("route", ROUTES)
def test_the_small_image_names_the_large_one_where_that_is_needed(start, route):
    container = start("ambassador", "--check-config", route)
    assert container.wait() == 2
    assert "needs the image ambassador-full" in container.stderr()


def test_the_large_image_takes_what_the_small_one_refuses(start):
    both = (ROUTES[0], ROUTES[1].replace(":8080", ":8081"))
    container = start("ambassador-full", "--check-config", *both)
    assert container.wait() == 0, container.stderr()


def test_what_is_imported_late_is_whole_in_the_large_image(start):
    container = start("ambassador-full", "-c", CHAIN, entrypoint="python")
    assert container.wait() == 0, container.stderr()


def test_the_large_image_runs_as_the_small_one_does(start):
    container = start("ambassador-full", "127.0.0.1:7000=tcp://127.0.0.1:9105").wait_until_ready()
    assert container.run("ambassador", "healthcheck")[0] == 0
