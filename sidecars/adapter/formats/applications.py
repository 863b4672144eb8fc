"""What applications write by the usual libraries for logging; what follows a line, such as a trace, is joined to it."""

from __future__ import annotations

from sidecars.adapter.formats.columnar import Row
from sidecars.adapter.formats.logfmt import structured

# log4j and logback write an hour without its day too.
_TIME = r"(?P<time>{ISO}|[0-9]{2}:[0-9]{2}:[0-9]{2}[.,][0-9]{3})"
_JAVA_HEAD = r"\[?(?:{ISO}|[0-9]{2}:[0-9]{2}:[0-9]{2}[.,][0-9]{3})(?=[ \]|:])"
_LOGGER = r"(?P<logger>[A-Za-z_$][^ \r\n\[\]:]*+)"
_THREAD = r"\[ *+(?P<thread>[^\]\r\n]*+)\]"
_LEVEL = r"\[?(?P<level>{LEVEL})(?: *+\])?+"
_LOG4J = tuple(
    Row("log4j", pattern, head=_JAVA_HEAD)
    for pattern in (
        # %d [%t] %-5level %logger{36} - %msg%n
        _TIME + rf" ++{_THREAD} ++{_LEVEL} ++{_LOGGER}(?::(?P<line>{{INT}}))? ++-{{1,2}} (?P<message>{{REST}})",
        # Spring Boot: %d %-5level %pid --- [app] [%15.15t] %-40.40logger{39} : %m%n
        _TIME + rf" ++{_LEVEL} ++(?P<pid>{{INT}}) --- (?:\[(?P<application>[^\]\r\n]*+)\] (?=\[))?{_THREAD}"
        r"(?: \[(?P<trace_id>[^\]\r\n]*+)\])? (?P<logger>[^ \r\n]++) *+: (?P<message>{REST})",
        # %d %-5p [%t] %c{1}:%L - %m%n
        _TIME + rf" ++{_LEVEL} ++{_THREAD} ++{_LOGGER}(?::(?P<line>{{INT}}))?(?: ++-{{1,2}}|:) (?P<message>{{REST}})",
        # WildFly, Quarkus: %d %-5p [%c] (%t) %m%n
        _TIME + rf" ++{_LEVEL} ++\[(?P<logger>[^\]\r\n]*+)\] \((?P<thread>[^)\r\n]*+)\) (?P<message>{{REST}})",
        # %d %-5p %c{1}:%L - %m%n
        _TIME + rf" ++{_LEVEL} ++{_LOGGER}(?::(?P<line>{{INT}}))?(?: ++-{{1,2}}|:) (?P<message>{{REST}})",
        # Kafka, ZooKeeper: [%d] %p %m (%c)%n, and whatever else has a time and a level.
        rf"\[?{_TIME}\]?[ |]++{_LEVEL}[ |:-]++(?P<message>{{REST}})",
    )
)
LOG4J = _LOG4J

_PYTHON_LEVEL = "DEBUG|INFO|WARNING|ERROR|CRITICAL|FATAL|NOTSET|TRACE|SUCCESS"
_PYTHON_HEAD = rf"\[?{{ISO}}[ \],:-]|(?:{_PYTHON_LEVEL}):[^:\r\n ]++:"
_NAME = r"(?P<logger>[^\r\n :\[\]]++)"
PYTHON = tuple(
    Row("python", pattern, head=_PYTHON_HEAD)
    for pattern in (
        # %(asctime)s - %(name)s - %(levelname)s - %(message)s
        rf"(?P<time>{{ISO}}) ++- ++(?P<logger>[^\r\n ]++) ++- ++(?P<level>{_PYTHON_LEVEL}) ++- ++(?P<message>{{REST}})",
        # logging.BASIC_FORMAT
        rf"(?P<level>{_PYTHON_LEVEL}):(?P<logger>[^: \r\n]++):(?P<message>{{REST}})",
        # Flask, Celery
        rf"\[(?P<time>{{ISO}})\] (?P<level>{_PYTHON_LEVEL}) in (?P<module>[^: \r\n]++): (?P<message>{{REST}})",
        rf"\[(?P<time>{{ISO}}): (?P<level>{_PYTHON_LEVEL})/(?P<process>[^\]\r\n]++)\] (?P<message>{{REST}})",
        # loguru
        rf"(?P<time>{{ISO}}) \| (?P<level>{_PYTHON_LEVEL}) *+\| (?P<logger>[^:\r\n]++):"
        rf"(?P<function>[^:\r\n]++):(?P<line>{{INT}})"
        r" - (?P<message>{REST})",
        # %(asctime)s %(levelname)s %(name)s: %(message)s, with brackets or without
        rf"(?P<time>{{ISO}}) \[?(?P<level>{_PYTHON_LEVEL})(?: *+\])?+:? ++(?:{_NAME}: |\["
        rf"(?P<module>[^\]\r\n]++)\] )?(?P<message>{{REST}})",
        rf"(?P<time>{{ISO}}) ++- ++(?P<level>{_PYTHON_LEVEL}) ++- ++(?P<message>{{REST}})",
    )
)

# gunicorn's own log; its access log is nginx's combined format.
GUNICORN = (
    Row(
        "gunicorn",
        r"\[(?P<time>{ISO})\] \[(?P<pid>{INT})\] \[(?P<level>[A-Z]++)\] (?P<message>{REST})",
        head=r"\[{ISO}\] \[[0-9]++\] \[",
    ),
)

# Ruby's Logger::Formatter, and with it Rails. ANY is what Logger#unknown writes.
RUBY = (
    Row(
        "ruby",
        r"[DIWEFA], \[(?P<time>{ISO}) #(?P<pid>{INT})\] ++(?:ANY|(?P<level>[A-Z]++)) -- (?P<process>[^:\r\n]*+): "
        r"(?P<message>{REST})",
        head=r"[DIWEFA], \[",
    ),
)

# k8s.io/klog and github.com/golang/glog: Lmmdd hh:mm:ss.uuuuuu threadid file:line] msg
KLOG = (
    Row(
        "klog",
        r"(?P<level>[IWEF])(?P<time>(?:[0-9]{4})?[01][0-9][0-3][0-9] [0-9:]{8}\.[0-9]{6}) ++(?P<thread>[0-9]++) "
        r"(?P<file_name>[^:\]\r\n]++):(?P<line>{INT})\] (?P<message>{REST})",
        head=r"[IWEF](?:[0-9]{4})?[01][0-9][0-3][0-9] [0-9:]{8}\.",
        refine=structured,
        marks=b"=",
    ),
)
