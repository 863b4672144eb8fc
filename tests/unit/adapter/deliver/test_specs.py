"""What --output may be, and what it answers to what it may not."""

from __future__ import annotations

import pytest

from sidecars.adapter.deliver import read_output, read_outputs
from sidecars.adapter.deliver.specs import Spec
from sidecars.adapter.settings import PREFIX, PROG, Settings
from sidecars.core.errors import WrongSettings
from sidecars.core.forward.settings import Forward
from sidecars.core.settings import load


def specs(*urls: str, **environ: str) -> tuple[Spec, ...]:
    argv = ["/logs/*.log", *(f"--output={url}" for url in urls)]
    return read_outputs(load(Settings, prog=PROG, prefix=PREFIX, argv=argv, environ=environ))


@pytest.mark.parametrize(
    ("url", "name", "to", "counts"),
    [
        ("stdout", "stdout", "jsonl", True),
        ("file:///out/a%20b?to=ecs", "file-/out/a b", "ecs", True),
        ("otlp+http://c", "otlp-c:4318", "otlp", False),
        ("otlp+https://c/v1/logs?ca=/tls/ca.crt", "otlp-c:4318", "otlp", False),
        ("otlp+http://[::1]:1/x", "otlp-[::1]:1/x", "otlp", False),
        ("gelf+udp://g?datagram=8192", "gelf-udp-g:12201", "gelf", False),
        ("gelf+tcp://g:1?tls=true&server-name=x", "gelf-tcp-g:1", "gelf", False),
        ("forward://f?tag=app", "forward-f:24224", None, False),
        ("forward+unix:///run/f.sock", "forward-unix:///run/f.sock", None, False),
    ],
)
def test_an_output_is_read(url, name, to, counts):
    (spec,) = specs(url)
    assert (spec.name, spec.to, spec.counts) == (name, to, counts)


def test_where_otlp_is_sent_to():
    urls = [specs(url)[0].output.url for url in ("otlp+http://c", "otlp+https://c:1/", "otlp+https://c:1/otlp/v1/logs")]
    assert urls == ["http://c:4318/v1/logs", "https://c:1/v1/logs", "https://c:1/otlp/v1/logs"]


def test_off_is_no_output():
    assert specs("off") == ()


def test_forward_outputs_of_two_tags_have_two_names_and_the_key_of_all():
    one, two = specs("forward://f?tag=a", "forward://f?tag=b", ADAPTER_FORWARD_KEY="hunter2")
    assert (one.name, two.name) == ("forward-f:24224", "forward-f:24224-1")
    assert isinstance(two.output, Forward)
    assert two.output.key is not None
    assert two.output.key.reveal() == "hunter2"


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        (["http://c"], "the output 'http://c' is unknown, expected stdout, file:///PATH, "),
        (["otlp+http://"], "otlp+http:// names no host"),
        (["otlp+http://c:99999"], "otlp+http://c:99999 is 'c:99999', expected host:port, "),
        (["otlp+http://c?ca=/x"], "otlp+http://c has ca without TLS; "),
        (["otlp+http://c?tokn=x"], "otlp+http://c?tokn is unknown; "),
        (["gelf+udp://g/path"], "the output 'gelf+udp://g/path' is unknown, "),
        (["gelf+udp://g?datagram=9000"], "gelf+udp://g has datagram 9000, expected 64 to 8192"),
        (["gelf+udp://g?tls=true"], "gelf+udp://g has tls, which gelf+udp cannot speak; "),
        (["gelf+tcp://g?compress=gzip"], "gelf+tcp://g?compress is 'gzip', expected off"),
        (["file://out/a"], "file://out/a is 'out/a', expected file:///PATH"),
        (["file:///tmp"], "the output file:///tmp is a directory; "),
        (["file:///logs/out.log"], "the output file:///logs/out.log lies where it would be read as a log; "),
        (["forward://f?tag={pod}"], "tag '{pod}' needs {pod}, but POD_NAME is not set; "),
        (["stdout", "stdout"], "the output stdout is given twice; "),
        (["otlp+http://c", "otlp+http://c:4318/v1/logs"], "the output otlp+http://c:4318/v1/logs is given twice; "),
        (["stdout", "off"], "the output off is given beside others; "),
    ],
)
def test_an_output_that_cannot_be_used_says_why(urls, message):
    with pytest.raises(WrongSettings) as raised:
        specs(*urls)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("url", ["otlp+http://u:hunter2@c", "gelf+tcp://hunter2@g", "forward://u:hunter2@f"])
def test_userinfo_is_refused_and_not_said(url):
    with pytest.raises(WrongSettings, match="holds a user") as raised:
        read_output(url)
    assert "hunter2" not in str(raised.value)
