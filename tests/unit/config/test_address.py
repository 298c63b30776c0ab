"""Addresses and TLS: what is understood, what is refused, and that no text tells a password."""

from __future__ import annotations

import datetime
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from nuropb_rmq.config.address import Broker, TLSConfig
from nuropb_rmq.exceptions import NuropbConfigurationError

SECRET = "hunter2"


def parse(url: Any) -> Broker:
    return Broker.parse(url)


@pytest.mark.parametrize(
    ("url", "host", "vhost", "username", "password"),
    [
        ("amqp://localhost", ("localhost", 5672), "/", "guest", "guest"),
        ("amqp://localhost/", ("localhost", 5672), "/", "guest", "guest"),
        ("amqp://localhost//", ("localhost", 5672), "/", "guest", "guest"),
        ("amqp://localhost/%2F", ("localhost", 5672), "/", "guest", "guest"),
        ("amqp://localhost/%2f", ("localhost", 5672), "/", "guest", "guest"),
        ("amqp://localhost/a%2Fb", ("localhost", 5672), "a/b", "guest", "guest"),
        ("AMQP://u:p@h:1234/v", ("h", 1234), "v", "u", "p"),
        ("amqp://u%40x:p%2F%3A%23@h/%C3%A9", ("h", 5672), "é", "u@x", "p/:#"),
        ("amqp://u:p@ss@h/v", ("h", 5672), "v", "u", "p@ss"),
        ("amqp://u@h/v", ("h", 5672), "v", "u", ""),
        ("amqp://:token@h/v", ("h", 5672), "v", "", "token"),
        ("amqp://[::1]:99/v", ("::1", 99), "v", "guest", "guest"),
        ("amqp://a+b:c+d@h/e+f", ("h", 5672), "e+f", "a+b", "c+d"),
        ({"host": "h"}, ("h", 5672), "/", "guest", "guest"),
        ({"hostname": "h", "vhost": "a/b"}, ("h", 5672), "a/b", "guest", "guest"),
        ({"host": "h", "hostname": "h", "port": 7}, ("h", 7), "/", "guest", "guest"),
        ({"host": "h", "port": "7"}, ("h", 7), "/", "guest", "guest"),
        ({"host": "[::1]", "port": None}, ("::1", 5672), "/", "guest", "guest"),
        ({"host": "h", "username": "", "password": ""}, ("h", 5672), "/", "guest", "guest"),
        ({"host": "h", "username": "u", "password": "p%40"}, ("h", 5672), "/", "u", "p%40"),
    ],
)
def test_plain_addresses(
    url: Any, host: tuple[str, int], vhost: str, username: str, password: str
) -> None:
    assert parse(url) == Broker(
        hosts=(host,), vhost=vhost, username=username, password=password, tls=None
    )


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [
        ("amqps://h", 5671, TLSConfig()),
        ("amqps://h:1/?verify=FALSE", 1, TLSConfig(verify=False)),
        ("amqps://h?cafile=%2Fa%2Fb.pem&verify=1", 5671, TLSConfig(cafile="/a/b.pem")),
        ("amqps://h/?certfile=c&keyfile=k", 5671, TLSConfig(certfile="c", keyfile="k")),
        ({"host": "h", "ssl": True, "verify": False}, 5671, TLSConfig(verify=False)),
        ({"host": "h", "cafile": "a"}, 5671, TLSConfig(cafile="a")),
        ({"host": "h", "certfile": "a", "ssl": None}, 5671, TLSConfig(certfile="a")),
        ({"host": "h", "cafile": Path("/a"), "port": 2}, 2, TLSConfig(cafile="/a")),
    ],
)
def test_tls_addresses(url: Any, port: int, tls: TLSConfig) -> None:
    broker = parse(url)
    assert broker.tls == tls
    assert broker.hosts == (("h", port),)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:5672", "is not a URL"),
        (f"u:{SECRET}@h", "is not a URL"),
        (f"http://u:{SECRET}@h/", "amqp:// or amqps://"),
        (f"amqp://u:{SECRET}@/v", "host is missing"),
        ("amqp:///v", "host is missing"),
        (f"amqp://u:{SECRET}@h:0/", "from 1 to 65535"),
        (f"amqp://u:{SECRET}@h:65536/", "port"),
        (f"amqp://u:{SECRET}@h:x/", "port"),
        (f"amqp://u:{SECRET}@h1:1,h2:2/", "list of URLs"),
        (f"amqp://u:{SECRET}@h1,h2/", "one name"),
        (f"amqp://u:{SECRET}@[::1/", "cannot be read"),
        (f"amqp://u:\u2100{SECRET}@h/", "cannot be read"),
        (f"amqp://u:a/{SECRET}@h/v", "percent-encode"),
        (f"amqp://u:1/{SECRET}@h/v", "percent-encode"),
        (f"amqp://u:a#{SECRET}@h/v", "percent-encode"),
        (f"amqp://u:a?{SECRET}@h/v", "percent-encode"),
        (f"amqp://u:{SECRET}@h/v?cafile=@", "percent-encode"),
        (f"amqp://u:{SECRET}@h/v\n", "white space"),
        (f"amqp://u:{SECRET}%ff@h/v", "UTF-8"),
        (f"amqp://u:{SECRET}@h/a/b", "%2F"),
        (f"amqp://u:{SECRET}@h/{'v' * 128}", "at most 127"),
        (f"amqps://u:{SECRET}@h/?verify=maybe", "true, false"),
        (f"amqps://u:{SECRET}@h/?cafile=a&cafile=b", "more than once"),
        (f"amqps://u:{SECRET}@h/?cafile=", "is empty"),
        (f"amqps://u:{SECRET}@h/?keyfile=k", "without certfile"),
        (f"amqps://u:{SECRET}@h/?ssl_options=x", "cafile, certfile, keyfile, verify"),
        (f"amqps://u:{SECRET}@h/?colour=x", "'colour'"),
        (f"amqp://u:{SECRET}@h/?cafile=x", "amqps://"),
        (f"amqp://u:{SECRET}@h/?verify=true", "amqps://"),
        (SECRET.encode(), "not bytes"),
        (None, "not NoneType"),
        ({}, "host is missing"),
        ({"host": "h", "pasword": SECRET}, "'pasword'; known are host"),
        ({"host": "h", 1: SECRET}, "unknown key 1"),
        ({"host": 1}, "must be a string, not int"),
        ({"host": "h:1"}, "without the port"),
        ({"host": "[::1"}, "without the port"),
        ({"host": "::1]"}, "without the port"),
        ({"host": "h", "hostname": "g"}, "differ"),
        ({"host": "h", "port": True}, "not bool"),
        ({"host": "h", "port": 0}, "from 1 to 65535"),
        ({"host": "h", "port": "x"}, "an integer"),
        ({"host": "h", "port": "9" * 5000}, "from 1 to 65535"),
        ({"host": "h", "vhost": 1}, "must be a string"),
        ({"host": "h", "password": SECRET}, "username: is missing"),
        ({"host": "h", "username": "u", "password": b"x"}, "not bytes"),
        ({"host": "h", "ssl": "yes"}, "True or False"),
        ({"host": "h", "ssl": True, "verify": 0}, "verify: must be True or False"),
        ({"host": "h", "ssl": True, "cafile": 1}, "cafile: must be the path"),
        ({"host": "h", "ssl": False, "cafile": "a"}, "ssl=True"),
        ({"host": "h", "ssl": False, "verify": True}, "ssl=True"),
        ({"host": "h", "verify": True}, "ssl=True"),
        ({"host": "h", "keyfile": "k"}, "without certfile"),
        ([], "empty list"),
        ([[]], r"amqp_url[0]"),
        (["amqp://h", 1], r"amqp_url[1]"),
        (["amqp://h/a", "amqp://h/b"], "amqp_url[1]: vhost must be the same"),
        (["amqp://a:x@h", "amqp://b:x@h"], "username must be the same"),
        ([f"amqp://a:{SECRET}@h", "amqp://a:x@h"], "password must be the same"),
        (["amqps://a:x@h", "amqp://a:x@h"], "tls must be the same"),
    ],
)
def test_wrong_addresses_are_typed_errors_without_secrets(url: Any, says: str) -> None:
    with pytest.raises(NuropbConfigurationError) as caught:
        parse(url)
    assert says in str(caught.value)
    assert caught.value.field.startswith("amqp_url")
    chain: BaseException | None = caught.value
    while chain is not None:
        shown = not chain.__suppress_context__
        assert SECRET not in f"{chain} {chain!r}"
        chain = chain.__cause__ or (chain.__context__ if shown else None)


@pytest.mark.parametrize("field", ["host", "vhost", "username", "password"])
@pytest.mark.parametrize(("text", "says"), [("hush\udcff", "UTF-8"), ("hush\0", "NUL")])
def test_what_cannot_be_sent_is_named_and_not_quoted(field: str, text: str, says: str) -> None:
    where = {"host": "localhost", "username": "guest", "password": "guest", field: text}
    with pytest.raises(NuropbConfigurationError, match=rf"^amqp_url\.{field}: .*{says}") as caught:
        parse(where)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("amqp://a%00:b@h/", "username"),
        ("amqp://a:b%00@h/", "password"),
        ("amqp://a:b@h/c%00", "vhost"),
    ],
)
def test_a_nul_in_a_url(url: str, field: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=rf"amqp_url: {field}: .*NUL"):
        parse(url)


def test_the_field_named_in_errors_is_the_callers() -> None:
    with pytest.raises(NuropbConfigurationError, match=r"^broker: "):
        Broker.parse("nothing", field="broker")


def test_nuropbs_own_defaults_without_tls_are_accepted() -> None:
    assert parse({"host": "h", "ssl": False, "verify": False}).tls is None


def test_pikas_options_are_ignored_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parse(f"amqp://u:{SECRET}@h/v?heartbeat=60&retry_delay=1")
    assert len(caplog.records) == 1
    assert "heartbeat, retry_delay" in caplog.text
    assert SECRET not in caplog.text


def test_several_hosts() -> None:
    broker = parse(
        [
            f"amqp://u:{SECRET}@h1/v",
            {"host": "h2", "port": 1, "vhost": "v", "username": "u", "password": SECRET},
            f"amqp://u:{SECRET}@h1:5672/v",
        ]
    )
    assert broker.hosts == (("h1", 5672), ("h2", 1))
    assert str(broker) == "amqp://u:***@h1:5672,h2:1/v"


def test_broker_is_masked() -> None:
    broker = parse(f"amqps://u%40:{SECRET}@[::1]/a%2Fb")
    assert str(broker) == "amqps://u%40:***@[::1]:5671/a%2Fb"
    assert SECRET not in repr(broker)


@pytest.mark.parametrize(
    ("url", "management"),
    [
        (f"amqp://u:{SECRET}@h", "http://h:15672"),
        ("amqps://h/v", "https://h:15671"),
        ("amqp://h:1000", "http://h:11000"),
        (["amqps://[::1]:1", "amqps://h"], "https://[::1]:10001"),
    ],
)
def test_management_url(url: Any, management: str) -> None:
    assert parse(url).management_url() == management


def test_management_url_out_of_range() -> None:
    with pytest.raises(NuropbConfigurationError, match="60000"):
        parse("amqp://h:60000").management_url()


@given(st.text())
def test_any_text_is_read_or_refused_with_a_typed_error(text: str) -> None:
    for url in (text, f"amqp://{text}", f"amqp://u:{text}@h/v", f"amqp://h/{text}"):
        try:
            parse(url)
        except NuropbConfigurationError as error:
            assert error.field.startswith("amqp_url")  # noqa: PT017 - either way is right


# TLS


def certificate(folder: Path, name: str) -> tuple[str, str, bytes]:
    """A self-signed certificate and its key as files, and the key encrypted."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start.replace(year=2120))
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(made.public_bytes(pem))
    plain = key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(plain)
    locked = key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x"))
    return str(folder / f"{name}.pem"), str(folder / f"{name}.key"), locked


def test_tls_context_verifies(tmp_path: Path) -> None:
    cert, key, _ = certificate(tmp_path, "a")
    for config in (TLSConfig(), TLSConfig(cafile=cert, certfile=cert, keyfile=key)):
        context = config.context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_tls_context_without_verification() -> None:
    context = TLSConfig(verify=False).context()
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


def test_tls_files_that_will_not_do(tmp_path: Path) -> None:
    cert, _, locked = certificate(tmp_path, "a")
    _, other_key, _ = certificate(tmp_path, "b")
    (tmp_path / "locked.key").write_bytes(locked)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    text, broken, missing = str(tmp_path / "text"), str(tmp_path / "broken"), str(tmp_path / "no")
    cases: list[tuple[TLSConfig, str, str]] = [
        (TLSConfig(cafile=missing), "cafile", "No such file"),
        (TLSConfig(cafile=str(tmp_path)), "cafile", "directory"),
        (TLSConfig(cafile=text), "cafile", "not a PEM"),
        (TLSConfig(cafile=broken), "cafile", "no PEM certificates"),
        (TLSConfig(cafile="a\0b"), "cafile", "cannot read"),
        (TLSConfig(certfile=missing), "certfile", "No such file"),
        (TLSConfig(certfile=text), "certfile", "not a PEM"),
        (TLSConfig(certfile=cert), "certfile", "key"),
        (TLSConfig(certfile=cert, keyfile=missing), "keyfile", "No such file"),
        (TLSConfig(certfile=cert, keyfile=text), "keyfile", "unencrypted key"),
        (TLSConfig(certfile=cert, keyfile=other_key), "keyfile", "does not belong"),
        (TLSConfig(certfile=cert, keyfile=str(tmp_path / "locked.key")), "keyfile", "unencrypted"),
    ]
    for config, field, says in cases:
        with pytest.raises(NuropbConfigurationError, match=says) as caught:
            config.context()
        assert caught.value.field == field
