"""Access logs of web servers and proxies, whose records are one line each."""

from __future__ import annotations

from sidecars.adapter.formats.columnar import Row
from sidecars.adapter.formats.fields import scaled, signed, unbackslash, unhex

# A user that Basic authentication gives may hold blanks.
_CLIENT = r"(?P<client>[^ \"\r\n]++) [^ \r\n]++ (?:-(?= \[)|(?P<user>[^ \"\r\n]++(?: (?!\[)[^ \"\r\n]*+)*+)) "
_TIME = r"\[(?P<time>[^\]\"\r\n]++)\]"
_COMMON = _CLIENT + _TIME + r' "{REQUEST}" (?:-|{ZEROS}(?P<status>{INT})) (?:-|{ZEROS}(?P<bytes>{INT}))'
_COMBINED = _COMMON + r' "(?:-(?=")|(?P<referrer>{QUOTED}))" "(?:-(?=")|(?P<user_agent>{QUOTED}))"'
# What people put behind the agent: the addresses of X-Forwarded-For, then the time in seconds, then more.
_FORWARDED = r'(?: "(?:-?(?=")|(?P<forwarded_for>[0-9a-fA-F:., ]++|unknown)(?="))")?'
_TAIL = _FORWARDED + r"(?: (?P<duration>{NUM})(?=[ \r\n]))?(?: (?P<extra>{REST}))?"

NGINX = (
    Row("nginx", _COMBINED, unescape=unhex, quotes=False),
    Row("nginx", _COMBINED + _TAIL, unescape=unhex),
)

# ngx_http_log_module and ingress-nginx's `log-format-upstream`. Times and states of several upstreams are lists.
INGRESS = (
    Row(
        "nginx-ingress",
        _COMBINED + r" (?P<request_bytes>{INT}) (?P<duration>{NUM}) \[(?P<upstream_name>[^\]\r\n]*+)\]"
        r" \[(?P<upstream_alternative>[^\]\r\n]*+)\] (?:-(?= )|(?P<upstream>[^ ,\r\n]++(?:, [^ ,\r\n]++)*+))"
        r" (?:-(?= )|(?P<upstream_bytes>[0-9-]++(?:, [0-9-]++)*+)) (?:-(?= )|(?P<upstream_duration>[0-9.-]++"
        r"(?:, [0-9.-]++)*+))"
        r" (?:-(?= )|(?P<upstream_status>[0-9-]++(?:, [0-9-]++)*+))(?: (?P<request_id>{WORD}))?",
        {"upstream_status": None, "upstream_duration": None},
        unhex,
    ),
)

TRAEFIK = (
    Row(
        "traefik",
        _COMBINED + r' (?P<count>{INT}) "(?:-(?=")|(?P<router>{QUOTED}))" "(?:-(?=")|(?P<upstream>{QUOTED}))"'
        r" (?P<duration>[0-9]{1,12}+)ms",
        {"duration": scaled(1000)},
        unbackslash,
    ),
)

# Apache escapes with a backslash, so a quote may stand inside.
_APACHE_REQUEST = (
    r'"(?:(?P<method>[A-Z]{1,20}+) (?P<path>[^ "\\\r\n]*+(?:\\[^\r\n][^ "\\\r\n]*+)*+)'
    r' (?P<protocol>HTTP/[0-9.]{1,5}+)(?=")'
    r'|-?(?=")|(?P<request>{ESCAPED}))"'
)
_APACHE_COMMON = (
    _CLIENT + _TIME + " " + _APACHE_REQUEST + r" (?:-|{ZEROS}(?P<status>{INT})) (?:-|{ZEROS}(?P<bytes>{INT}))"
)
_APACHE = _APACHE_COMMON + r' "(?:-(?=")|(?P<referrer>{ESCAPED}))" "(?:-(?=")|(?P<user_agent>{ESCAPED}))"'
_VHOST = r"(?P<server>[^ :\"\r\n]++|\[[^\]\"\r\n]++\]):(?P<port>{INT}) "

APACHE_COMMON = (Row("apache-common", _APACHE_COMMON, unescape=unbackslash, quotes=False),)
APACHE = (
    Row("apache", _APACHE, unescape=unbackslash, quotes=False),
    Row("apache", _APACHE + _FORWARDED + r"(?: (?P<extra>{REST}))?", unescape=unbackslash),
)
APACHE_VHOST = (
    Row("apache-vhost", _VHOST + _APACHE, unescape=unbackslash, quotes=False),
    Row("apache-vhost", _VHOST + _APACHE_COMMON + r"(?: (?P<extra>{REST}))?", unescape=unbackslash),
)

_ENVOY_REQUEST = (
    r'\[(?P<time>[^\]\r\n]++)\] "(?:-(?= )|(?P<method>{WORD})) (?:-(?= )|(?P<path>[^ "\r\n]++))'
    r' (?:-(?=")|(?P<protocol>[^" \r\n]++))" {ZEROS}(?P<status>{INT}) (?:-(?= )|(?P<flags>{WORD}))'
)
_ENVOY_SIZES = (
    r" (?P<bytes_received>{INT}) (?P<bytes>{INT}) (?P<duration>[0-9]{1,12}+) (?:-|(?P<upstream_duration>[0-9]{1,12}+))"
    r' "(?:-(?=")|(?P<forwarded_for>{QUOTED}))" "(?:-(?=")|(?P<user_agent>{QUOTED}))" "(?:-(?=")|'
    r'(?P<request_id>{QUOTED}))"'
    r' "(?:-(?=")|(?P<authority>{QUOTED}))" "(?:-(?=")|(?P<upstream>{QUOTED}))"'
)
_ENVOY_READ = {"duration": scaled(1000), "upstream_duration": scaled(1000)}
# Envoy's default format string, and Istio's, which puts more around it.
ENVOY = (
    Row("envoy", _ENVOY_REQUEST + _ENVOY_SIZES, _ENVOY_READ),
    Row(
        "envoy",
        _ENVOY_REQUEST
        + r' (?:-|(?P<response_details>{WORD})) (?:-(?= )|(?P<termination>{WORD})) "(?:-(?=")|(?P<failure>{QUOTED}))"'
        + _ENVOY_SIZES
        + r" (?:-(?= )|(?P<upstream_cluster>{WORD})) (?:-(?= )|(?P<upstream_local>{WORD})) (?:-(?= )|(?P<local>{WORD}))"
        r" (?:-(?= )|(?P<client>{WORD})) (?:-(?= )|(?P<server>{WORD})) (?:-|(?P<route>{WORD}))",
        _ENVOY_READ,
    ),
)


def _alb(name: str, quoted: bool = True) -> str:
    """Give one of the fields that were added over the years: a line may end before it."""
    text = rf'"(?:-(?=")|(?P<{name}>{{QUOTED}}))"' if quoted else rf"(?:-(?=[ \r\n])|(?P<{name}>{{WORD}}))"
    return rf"(?: {text}(?=[ \r\n]))?+"


# elasticloadbalancing's access log entries, in their documented order; the later fields have their documented names.
ALB = (
    Row(
        "alb",
        r"(?P<type>https?|h2|grpcs|wss?) (?P<time>{WORD}) (?P<server>{WORD}) (?P<client>[^ \r\n]{1,64}):"
        r"(?P<client_port>{INT})"
        r" (?:-(?= )|(?P<upstream>{WORD})) (?P<request_duration>[0-9.-]++) (?P<upstream_duration>[0-9.-]++)"
        r" (?P<response_duration>[0-9.-]++) (?:-|(?P<status>{INT})) (?:-|(?P<upstream_status>{INT}))"
        r' (?P<bytes_received>{INT}) (?P<bytes>{INT}) "(?:(?P<method>[A-Z]{1,20}+) (?P<path>[^ "\r\n]++)'
        r' (?P<protocol>HTTP/[0-9.]++)|(?P<request>{ESCAPED}))" "(?:-(?=")|(?P<user_agent>{ESCAPED}))"'
        r" (?:-(?= )|(?P<tls_cipher>{WORD})) (?:-(?= )|(?P<tls_protocol>{WORD})) (?:-(?= )|(?P<target_group>{WORD}))"
        + _alb("trace_id")
        + _alb("domain")
        + _alb("chosen_cert_arn")
        + _alb("matched_rule_priority", quoted=False)
        + _alb("request_creation_time", quoted=False)
        + _alb("actions_executed")
        + _alb("redirect_url")
        + _alb("error_reason")
        + _alb("target_port_list")
        + _alb("target_status_code_list")
        + _alb("classification")
        + _alb("classification_reason")
        + _alb("conn_trace_id", quoted=False)
        + _alb("transformed_host")
        + _alb("transformed_uri")
        + _alb("request_transform_status")
        + r"(?: (?P<extra>{REST}))?",
        {
            "request_duration": scaled(1),
            "upstream_duration": scaled(1),
            "response_duration": scaled(1),
            "matched_rule_priority": signed,
        },
        unbackslash,
    ),
)

_HAPROXY_HEAD = (
    r"(?:<[0-9]{1,3}>)?+(?:(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9T:.+-]{19,35}Z?) (?:(?P<host>[^ \r\n:]++) )?)?+"
    r"(?:(?P<process>haproxy)\[(?P<pid>{INT})\]: )?+"
)
_HAPROXY_CLIENT = (
    r"(?P<client>[^ \r\n]{1,108}):(?P<client_port>{INT}) \[(?P<time>[0-9A-Za-z/:.]{20,24}+)\] (?P<frontend>[^ \r\n:]++)"
)
_HAPROXY_UPSTREAM = r" (?P<backend>[^ /\r\n]++)/(?P<upstream>{WORD})"
_HAPROXY_COUNTS = r"(?P<termination>[A-Za-z-]{2,4}) (?P<connections>[0-9/+-]++) (?P<queues>[0-9]++/[0-9]++)"
_HAPROXY_TIMES = {"duration": scaled(1000), "bytes": None, "status": None}
# HAProxy's configuration manual, 8.2: HTTP, TCP, errors; what else the process says.
HAPROXY = (
    Row(
        "haproxy",
        _HAPROXY_HEAD
        + _HAPROXY_CLIENT
        + _HAPROXY_UPSTREAM
        + r" (?P<timers>[0-9+-]++(?:/[0-9+-]++(?=/)){2,3}+)/\+?(?P<duration>[0-9-]++)"
        r" (?:-1|(?P<status>{INT})) \+?(?P<bytes>{INT}) (?:-(?= )|(?P<request_cookie>{WORD})) (?:-(?= )|"
        r"(?P<response_cookie>{WORD})) "
        + _HAPROXY_COUNTS
        + r"(?: \{(?P<request_headers>[^}\r\n]*+)\})?(?: \{(?P<response_headers>[^}\r\n]*+)\})?"
        r' "(?:(?P<method>[A-Z]{1,20}+) (?P<path>[^ "\r\n]++)(?: (?P<protocol>HTTP/[0-9.]{1,5}+))?(?=")|'
        r'(?P<request>{QUOTED}))"',
        {"duration": scaled(1000)},
    ),
    Row(
        "haproxy",
        _HAPROXY_HEAD
        + _HAPROXY_CLIENT
        + _HAPROXY_UPSTREAM
        + r" (?P<timers>[0-9+-]++/[0-9+-]++)/\+?(?P<duration>[0-9-]++)"
        r" \+?(?P<bytes>{INT}) " + _HAPROXY_COUNTS,
        {"duration": scaled(1000)},
    ),
    Row("haproxy", _HAPROXY_HEAD + _HAPROXY_CLIENT + r"(?:/(?P<bind>[^ :\r\n]++))?: (?P<message>{REST})"),
    Row(
        "haproxy",
        r"(?:<[0-9]{1,3}>)?+(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9T:.+-]{19,35}Z?) (?:"
        r"(?P<host>[^ \r\n:]++) )?"
        r"(?P<process>haproxy)\[(?P<pid>{INT})\]: (?P<message>{REST})",
    ),
    Row("haproxy", r"\[(?P<level>[A-Z]{4,9})\] ++(?:\([0-9]++\) ++)?: (?P<message>{REST})"),
    Row("haproxy", r"(?P<message>(?:Proxy|Server|backend|Stopping|Pausing|Connect from) {REST})"),
)

UVICORN = (
    Row(
        "uvicorn",
        r'(?P<level>[A-Z]{4,8}): ++(?P<client>[^ \r\n]{1,64}):(?P<client_port>{INT}) - "(?P<method>[A-Z]{1,20}+) '
        r'(?P<path>[^ "\r\n]++) (?P<protocol>HTTP/[0-9.]{1,5}+)" (?P<status>{INT})(?: [A-Za-z \'-]*+)?',
    ),
    Row("uvicorn", r"(?P<level>[A-Z]{4,8}): {1,5}+(?P<message>{REST})", head=r"[A-Z]{4,8}: {1,5}"),
)
