"""grok: patterns made of named patterns, `%{IPORHOST:client} %{NUMBER:duration:float}`."""

from __future__ import annotations

import re

from sidecars.core.errors import WrongSettings

# The usual names, each written from what it stands for, in a form that does not backtrack where that can be had.
PATTERNS = {
    "WORD": r"\b\w++\b", "NOTSPACE": r"\S+", "SPACE": r"\s*", "DATA": r".*?", "GREEDYDATA": r".*",
    "GREEDYMULTILINE": r"(?s:.*)", "INT": r"[+-]?\d{1,18}", "BASE10NUM": r"[+-]?(?:\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})",
    "NUMBER": r"%{BASE10NUM}", "BASE16NUM": r"[+-]?(?:0x)?[0-9A-Fa-f]{1,32}", "POSINT": r"\b[1-9]\d{0,17}\b",
    "NONNEGINT": r"\b\d{1,18}\b", "DQUOTED": r'[^"\\]*+(?:\\.[^"\\]*+)*+', "BOOL": r"(?:true|false|yes|no|on|off)",
    "QUOTEDSTRING": r"""(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')""", "QS": r"%{QUOTEDSTRING}",
    "UUID": r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}",
    "USERNAME": r"[a-zA-Z0-9._-]+", "USER": r"%{USERNAME}", "EMAILLOCALPART": r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}",
    "EMAILADDRESS": r"%{EMAILLOCALPART}@%{HOSTNAME}", "HTTPDUSER": r"(?:%{EMAILADDRESS}|%{USER})",
    "IPV4": r"\b(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\b",
    "IPV6": r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:%{IPV4}|[0-9A-Fa-f]{0,4})(?:%[\w.]{1,16})?", "IP": r"(?:%{IPV6}|%{IPV4})",
    "HOSTNAME": r"\b[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,62})(?:\.[0-9A-Za-z_][0-9A-Za-z_-]{0,62}){0,63}\.?",
    "HOST": r"%{HOSTNAME}", "IPORHOST": r"(?:%{IP}|%{HOSTNAME})", "HOSTPORT": r"%{IPORHOST}:%{POSINT}",
    "MAC": r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}",
    "PATH": r"(?:%{UNIXPATH}|%{WINPATH})", "UNIXPATH": r"/[^\s\0]*", "WINPATH": r"(?:[A-Za-z]:|\\)\\[^\s\0]*",
    "URIPROTO": r"[A-Za-z][A-Za-z0-9+.-]{0,31}", "URIHOST": r"%{IPORHOST}(?::\d{1,5})?", "URIPATH": r"/[^\s?#\"]*",
    "URIPARAM": r"\?[^\s#\"]*", "URIPATHPARAM": r"%{URIPATH}(?:%{URIPARAM})?",
    "URI": r"%{URIPROTO}://(?:[^\s@/]{1,256}@)?(?:%{URIHOST})?(?:%{URIPATHPARAM})?",
    "MONTH": r"\b(?:[Jj]an(?:uary)?|[Ff]eb(?:ruary)?|[Mm]ar(?:ch)?|[Aa]pr(?:il)?|[Mm]ay|[Jj]une?|[Jj]uly?"
    r"|[Aa]ug(?:ust)?"
    r"|[Ss]ep(?:tember)?|[Oo]ct(?:ober)?|[Nn]ov(?:ember)?|[Dd]ec(?:ember)?)\b",
    "MONTHNUM": r"(?:0?[1-9]|1[0-2])", "MONTHNUM2": r"(?:0[1-9]|1[0-2])", "MONTHDAY": r"(?:0[1-9]|[12]\d|3[01]|[1-9])",
    "DAY": r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}", "YEAR": r"(?:\d\d){1,2}", "HOUR": r"(?:2[0-3]|[01]?\d)",
    "MINUTE": r"[0-5]\d", "SECOND": r"(?:[0-5]?\d|60)(?:[:.,]\d{1,9})?", "TIME": r"%{HOUR}:%{MINUTE}(?::%{SECOND})?",
    "DATE_US": r"%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}", "DATE_EU": r"%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}",
    "DATE": r"(?:%{DATE_US}|%{DATE_EU})", "TZ": r"[A-Z]{3,4}", "ISO8601_TIMEZONE": r"(?:Z|[+-]%{HOUR}(?::?%{MINUTE}))",
    "TIMESTAMP_ISO8601": r"%{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?%{ISO8601_TIMEZONE}?",
    "DATESTAMP": r"%{DATE}[- ]%{TIME}",
    "DATESTAMP_RFC2822": r"%{DAY}, %{MONTHDAY} %{MONTH} %{YEAR} %{TIME} %{ISO8601_TIMEZONE}",
    "DATESTAMP_OTHER": r"%{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{TZ} %{YEAR}",
    "HTTPDATE": r"%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}",
    "HTTPDERROR_DATE": r"%{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{YEAR}",
    "SYSLOGTIMESTAMP": r"%{MONTH} +%{MONTHDAY} %{TIME}", "PROG": r"[\x21-\x5a\x5c\x5e-\x7e]+",
    "SYSLOGPROG": r"%{PROG:process}(?:\[%{POSINT:pid:int}\])?", "SYSLOGHOST": r"%{IPORHOST}",
    "SYSLOGFACILITY": r"<%{NONNEGINT:facility:int}\.%{NONNEGINT:priority:int}>",
    "SYSLOGBASE": r"%{SYSLOGTIMESTAMP:time} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:host} %{SYSLOGPROG}:",
    "SYSLOGLINE": r"%{SYSLOGBASE} %{GREEDYDATA:message}",
    "LOGLEVEL": r"(?i:trace|debug|info(?:rmation)?|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|severe|alert"
    r"|emerg(?:ency)?|panic)",
    "JAVACLASS": r"(?:[a-zA-Z$_][a-zA-Z$_0-9]*\.)*[a-zA-Z$_][a-zA-Z$_0-9]*", "JAVAFILE": r"[a-zA-Z$_0-9. -]+",
    "JAVAMETHOD": r"(?:<(?:cl)?init>|[a-zA-Z$_][a-zA-Z$_0-9]*)", "JAVALOGMESSAGE": r".*",
    "COMMONAPACHELOG": r'%{IPORHOST:client} \S+ (?:-|%{HTTPDUSER:user}) \[%{HTTPDATE:time}\] "(?:%{WORD:method} '
    r'%{NOTSPACE:path}(?: %{NOTSPACE:protocol})?|%{DQUOTED:request})" (?:-|%{INT:status:int}) (?:-|%{INT:bytes:int})',
    "COMBINEDAPACHELOG": r'%{COMMONAPACHELOG} "(?:-(?=")|%{DQUOTED:referrer})" "(?:-(?=")|%{DQUOTED:user_agent})"',
}  # fmt: skip
PATTERNS |= {
    "HTTPD_COMMONLOG": PATTERNS["COMMONAPACHELOG"],
    "HTTPD_COMBINEDLOG": PATTERNS["COMBINEDAPACHELOG"],
    "NGINXACCESS": PATTERNS["COMBINEDAPACHELOG"],
}

REFERENCE = re.compile(r"%\{([A-Z][A-Z0-9_]*)(?::([\w.@\[\]-]+))?(?::(\w+))?\}")
_TYPES = {"int": "integer", "long": "integer", "float": "number", "double": "number", "string": "text", "str": "text"}
_DEEPEST = 12


def expanded(text: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """Give the regular expression of a grok pattern, and of each of its groups the field's name and type.

    `[http][method]` is the field http.method. Raises WrongSettings.
    """
    groups: dict[str, tuple[str, str]] = {}

    def put(found: re.Match[str], depth: int) -> str:
        name, field, kind = found.groups()
        if name not in PATTERNS or depth > _DEEPEST:
            raise WrongSettings(
                f"--from is {text!r}, in which %{{{name}}} is no pattern that is known; write an expression"
            )
        if kind and kind not in _TYPES:
            raise WrongSettings(f"--from is {text!r}, in which {kind!r} is no type; use int or float")
        inner = REFERENCE.sub(lambda each: put(each, depth + 1), PATTERNS[name])
        if not field:
            return f"(?:{inner})"
        group = f"grok_{len(groups)}"
        groups[group] = (field.strip("[]").replace("][", "."), _TYPES[kind] if kind else "")
        return f"(?P<{group}>{inner})"

    return REFERENCE.sub(lambda found: put(found, 0), text), groups
