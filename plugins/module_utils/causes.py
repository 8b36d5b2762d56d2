"""The cause of a failure in the words of a person who runs an app, from what programs wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

# Debian's packages that have what the building of a Python package asks for.
HEADERS = {
    "Python.h": "python3-dev", "ffi.h": "libffi-dev", "libpq-fe.h": "libpq-dev", "pg_config": "libpq-dev",
    "mysql.h": "libmariadb-dev", "sql.h": "unixodbc-dev", "krb5": "libkrb5-dev", "gssapi": "libkrb5-dev",
    "ft2build.h": "libfreetype-dev", "cairo.h": "libcairo2-dev", "tiff": "libtiff-dev", "webp/": "libwebp-dev",
    "gmp.h": "libgmp-dev", "sodium": "libsodium-dev", "gpgme.h": "libgpgme-dev", "expat.h": "libexpat1-dev",
    "magic.h": "libmagic-dev", "zmq.h": "libzmq3-dev", "lzma.h": "liblzma-dev", "bzlib.h": "libbz2-dev",
    "snappy": "libsnappy-dev", "git2": "libgit2-dev", "glib.h": "libglib2.0-dev", "geos_c.h": "libgeos-dev",
    "gdal.h": "libgdal-dev", "proj.h": "libproj-dev", "hdf5.h": "libhdf5-dev", "uuid/": "uuid-dev",
    "librdkafka/": "librdkafka-dev", "libmemcached/": "libmemcached-dev", "rrd.h": "librrd-dev",
    "systemd/": "libsystemd-dev", "dbus/": "libdbus-1-dev", "pcap": "libpcap-dev", "cups/": "libcups2-dev",
    "libvirt/": "libvirt-dev",
    "openssl/": "libssl-dev", "zlib.h": "zlib1g-dev", "jpeglib.h": "libjpeg-dev", "libxml/": "libxml2-dev",
    "libxslt/": "libxslt1-dev", "ldap.h": "libldap-dev", "lber.h": "libldap-dev", "sasl/": "libsasl2-dev",
    "yaml.h": "libyaml-dev", "sqlite3.h": "libsqlite3-dev", "curl/": "libcurl4-openssl-dev",
    "xmlsec/": "libxmlsec1-dev",
}  # fmt: skip


def _compiler(found: re.Match[str]) -> str:
    name = "g++" if found[1] in ("g++", "c++") else "gcc"
    kind = "compiler of C++" if name == "g++" else "compiler"
    return f"a package must be compiled, but this host has no {kind}: add {name} and python3-dev to `build_packages`"


def _header(found: re.Match[str]) -> str:
    name = next((package for header, package in HEADERS.items() if found[1].startswith(header)), "")
    return (
        f"a package must be compiled, and that needs {found[1]}: add {name or 'the Debian package that has it'} to "
        "`build_packages`"
    )


def _one_line(found: re.Match[str]) -> str:
    return " ".join(found[1].replace("│", " ").split())


def _unbuilt(found: re.Match[str]) -> str:
    raised = re.findall(r"^\s*((?:\w+\.)*\w*(?:Error|Exception)\b: .*\S)\s*$", found.string, re.MULTILINE)
    return f"{found[1]} cannot be built" + (f": {raised[-1]}" if raised else "")


def _unreachable(found: re.Match[str]) -> str:
    why = found[2].strip().splitlines()[-1].partition("cause:")[2].strip()
    if re.search(r"\b40[13]\b", why):
        return f"{found[1]} could not be fetched: {why}. Set or correct `build_credentials`"
    return (
        f"{found[1]} could not be fetched: {why}. Correct the address (`--index-url` in the file of requirements, "
        "`flask_apps_pip_arguments`), or the network of the host"
    )


# That the kernel starts no other process or thread, as uWSGI, shells, compilers, npm and Python say it. A lock that
# another process has is the same error of Python, raised elsewhere.
REFUSED = re.compile(
    r"(?:fork|pthread_create)\(\): Resource temporarily unavailable|can't start new thread"
    r"|\b(?:[Cc]annot fork\b|v?fork: Resource temporarily unavailable|spawn [^\n]*\bEAGAIN\b)"
    r"|(?:\b\w*fork(?:_exec|pty)?\([^\n]*|, in _execute_child)\n(?: {4}[^\n]*\n)*BlockingIOError: \[Errno 11\]"
)
BUILD: tuple[tuple[str, Callable[[re.Match[str]], str] | str], ...] = (
    (REFUSED.pattern,
     "it may not start another process or thread: let this step start fewer at a time; `max_tasks` is not for builds"),
    (r"No space left on device", "the disk is full: make room on it"),
    (r"(?:[Uu]nable to execute '?|command '(?=\S+' failed: No such file)|No such file or directory: ')"
     r"(?:\S*[-/])?(gcc|cc|g\+\+|c\+\+)(?:-\d+)?['\s:]", _compiler),
    (r"No working (compiler) found|[Uu]nknown compiler", _compiler),
    (r"fatal error: (\S+\.h): No such file", _header),
    (r"Can not find valid pkg-config name|mysql_config not found|(?:mariadb|mysql)_config: not found",
     "a package needs the client library of MariaDB: add libmariadb-dev and pkg-config to `build_packages`"),
    (r"pg_config executable not found", "a package needs pg_config: add libpq-dev to `build_packages`"),
    (r"(?:pkg-config|pkgconf)\S*:? (?:not found|No such file)",
     "a package needs pkg-config: add it to `build_packages`"),
    (r"Package '?([\w.+-]+)'?,?(?: required by '[^']*',)? (?:was )?not found|Dependency \"?([\w.+-]+)\"? not found",
     lambda found: f"a package needs the library {found[1] or found[2]}: add the Debian package that has its .pc file, "
     "often called lib...-dev, to `build_packages`"),
    (r"(?:cargo|rustc)\S* (?:not found|is not installed)", "a package needs Rust: add cargo to `build_packages`"),
    (r"Git executable not found|error: `?git`? ", "git is needed, and not on this host: add git to `build_packages`"),
    (r"could not read (?:Username|Password) for 'https?://(?:[^/@']*@)?([^/:']+)",
     lambda found: f"{found[1]} wants a user and a password that it knows: set or correct `build_credentials`"),
    (r"Authentication failed for 'https?://(?:[^/@']*@)?([^/:']+)",
     lambda found: f"{found[1]} does not take the user and the password: correct `build_credentials`"),
    (r"Hash mismatch for `([^`]+)`", lambda found: f"{found[1]} does not match its hash: lock the requirements again"),
    (r"In `--require-hashes` mode, all requirements must (?:have a hash|be pinned)[^\n]*: (\S+)",
     lambda found: f"{found[1]} has no hash, but python.require_hashes is true"),
    (r"[Ff]ailed to fetch: `?(https?://[^\s`]+)`?\n((?: *cause: .+\n?)+)", _unreachable),
    (r"[Ff]ailed to build `([^`\n]+)`", _unbuilt),
    (r"(?s)(?:╰─▶|^ *cause:|^) *(Because .+?)(?:\n\s*\n|\n\S|\Z)", _one_line),
    (r"(?m)^\s*(?:\u00d7|error:|ERROR:) *(.+)$", _one_line),
    # npm says a code first, yarn has no colon.
    (r"(?m)^(?:npm (?:error|ERR!)|error) +(?!code )(\S.+)$", _one_line),
)  # fmt: skip


def of_build(output: str) -> str:
    """Why a step of a build failed, as the end of a sentence; empty when nothing tells."""
    for pattern, cause in BUILD:
        if found := re.search(pattern, output, re.MULTILINE):
            return cause if isinstance(cause, str) else cause(found)
    return ""


# Packages that are not called like the module that they bring.
MODULES = {
    "pkg_resources": "setuptools<81", "yaml": "PyYAML", "PIL": "Pillow", "MySQLdb": "mysqlclient",
    "bs4": "beautifulsoup4",
    "psycopg2": "psycopg2-binary", "dotenv": "python-dotenv", "dateutil": "python-dateutil", "jwt": "PyJWT",
    "sklearn": "scikit-learn", "cv2": "opencv-python-headless", "magic": "python-magic", "ldap": "python-ldap",
}  # fmt: skip

# Modules that were in Python's library until 3.11 or 3.12, and the packages that have them now.
REMOVED = {
    "distutils": "setuptools", "cgi": "legacy-cgi", "cgitb": "legacy-cgi", "asyncore": "pyasyncore",
    "asynchat": "pyasynchat", "audioop": "audioop-lts", "imp": "zombie-imp",
    **{name: f"standard-{name}" for name in (
        "aifc", "chunk", "crypt", "imghdr", "mailcap", "nntplib", "pipes", "smtpd", "sndhdr", "sunau", "telnetlib",
        "uu", "xdrlib",
    )},
}  # fmt: skip


def _in_release(path: str) -> str:
    """A path as the app's source has it, where it is in that of a release."""
    return re.sub(r"^\S*/releases/[^/]+/(?:src|venv/lib/python3[^/]*/site-packages|venv)/", "", os.path.normpath(path))


def _unwritable(found: re.Match[str]) -> str:
    return (
        f"it may not write {_in_release(found[1])}: a release never changes, so let `build` make it, name the "
        "directory in `persistent`, or let the app write below its home (HOME)"
    )


def _no_table(found: re.Match[str]) -> str:
    kind, name = [part for part in found.groups() if part][:2]
    what = "column" if kind == "column" else "table"
    return (
        f"its database has no {what} {name}: let a hook make it, `hooks.before_switch` in the first deploy of an app, "
        "`hooks.prepare` where this trial start needs it later, too"
    )


def _absent(found: re.Match[str]) -> str:
    return (
        f"there is no {_in_release(found[1])} in the release: if it is a file of settings, give it by `files`; if the "
        "app writes there, name the directory in `persistent`, or let it write below its home (HOME); otherwise let "
        "`build` make it"
    )


def _missing_part(found: re.Match[str]) -> str:
    return (
        f"the source has {found[1]}, but no {found[2]} in it: see whether the file is in the repository, and not left "
        "out by `source.exclude`"
    )


def _missing_module(found: re.Match[str]) -> str:
    module = found[1].split(".")[0]
    if module in REMOVED:
        return (
            f"the module {module} is no longer in Python's library: add {REMOVED[module]}, which brings it, to "
            "`python.additional`, or choose an older Python (`python.interpreter`)"
        )
    where = "its file of requirements, or python.additional"
    if found[2]:
        packages = {one: MODULES.get(one.split(".")[0]) for one in [found[1], *found[2].split(", ")]}
        *others, last = (f"{one} (of {package})" if package else one for one, package in packages.items())
        listed = f"{', '.join(others)} and {last}"
        return f"the modules {listed} are missing: add what brings them to what the app requires ({where})"
    brings = f"{MODULES[module]}, which brings it," if module in MODULES else "what brings it"
    return f"the module {found[1]} is missing: add {brings} to what the app requires ({where})"


def _locked(found: re.Match[str]) -> str:
    return (
        f"another process has locked what it needs ({found[1]}): if that is the instance that runs, set `reload` to "
        "exclusive, and let hooks, commands and side processes not open it; or keep the data where several processes "
        "may have it open, in a database for example"
    )


TRACEBACK, FROM = (
    "Traceback (most recent call last):",
    "The above exception was the direct cause of the following exception:",
)
START: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"^(?:\w+\.)*WrongApp: (.+)", lambda found: found[1]),
    (REFUSED.pattern,
     lambda _found: "it may not start another process or thread: set `max_tasks` higher, or let it start fewer at a "
     "time"),
    (r"\bsh: (?:(?:line )?\d+: )?(\S+): (?:command )?not found\b",
     lambda found: f"there is no program {found[1]}: add the Debian package that has it to `packages`"),
    # A package of the source that lacks a part: its own code is what looked for it.
    (r"""(?s)(?:/src/|"\./)(?:[^"\n]*/)?(\w+)/__init__\.py", line """
     r""".*^ModuleNotFoundError: No module named '(?:[^']+\.)?\1\.(\w+)'""", _missing_part),
    (r"^ModuleNotFoundError: No module named '([^']+)'$(?:\nAlso missing: (.+)$)?", _missing_module),
    (r"python\S*: can't open file '([^']+)': \[Errno 2\]",
     lambda found: f"there is no file {_in_release(found[1])}: commands start in the source of the release, of a "
     "`source.package` in its site-packages"),
    (r"OperationalError\b.*(?:unable to open database file|attempt to write a readonly database)",
     lambda _found: "it may not write its SQLite database: a release never changes, so let the app have it below its "
     "home (HOME), by a setting of the app, or name the directory of the database in `persistent`"),
    (r"^(?:\w+\.)*((?:LockError|AlreadyLocked|LockFailed|LockTimeout)\b.*)", _locked),
    (r"\b(?:\w+_)?(?:f|file)?lockf?(?:_\w+)?\b[^\n]*\n(?: [^\n]*\n)*(BlockingIOError: \[Errno 11\].*)", _locked),
    (r"^ImportError: (\S+\.so\S*): cannot open shared object file",
     lambda found: f"the library {found[1]} is missing: add the Debian package that has it to `packages`"),
    (r"^FileNotFoundError: \[Errno 2\] No such file or directory: '([^/']+)'",
     lambda found: f"there is no {found[1]}: if it is a program, add the Debian package that has it to `packages`"),
    (r"\b[Bb]ad (\w+) executable",
     lambda found: f"the program {found[1]} is missing: add the Debian package that has it to `packages`"),
    (r"^FileNotFoundError: \[Errno 2\] [^:]+: '[^']*/shared/([^']+)'",
     lambda found: f"there is no {found[1]} in its home: give the file by `files`, or let `hooks.prepare` make the "
     "directory (`mkdir -p`)"),
    (r"^FileNotFoundError: \[Errno 2\] [^:]+: '([^/'][^']*/[^']*|[^']*/releases/[^']*)'", _absent),
    (r"^(?:OSError|PermissionError): \[Errno (?:13|30)\] [^:]+: '([^/'][^']*|[^']*/releases/[^']*)'", _unwritable),
    (r"^(?:\w+\.)*\w*(?:Error|Exception|Configured)\b(?=[^\n]*(?:cannot be (?:created|written)|not writ(?:e)?able"
     r"|[Cc](?:ould not|annot|an't) (?:create|write|open)|[Pp]ermission denied|[Rr]ead-only))"
     r"[^\n]*?(/[^\s'\"]*/releases/[^\s'\"]+)", _unwritable),
    # As SQLite, PostgreSQL and MariaDB say it.
    (r"Error\b[^\n]*(?:no such (table|column): ['\"]?([\w.]+)|(column|relation) ['\"]?([\w.]+)['\"]? "
     r"does not exist|(Table) '([\w.]+)' doesn't exist|Unknown (column) '([\w.]+)')", _no_table),
    (r"^(?:OSError|PermissionError): \[Errno (?:13|30)\] [^:]+: '([^']+)'",
     lambda found: f"it may not write {found[1]}: data belongs below the app's home (HOME)"),
    (r"""File "(?:<frozen os>|[^"]*/os\.py)", line \d+, in __getitem__\n(?:[ ].*\n)*KeyError: '([^']+)'""",
     lambda found: f"the variable {found[1]} is missing: set it in `environment`"),
)  # fmt: skip
# An exception that says itself what is wrong. Those of libraries have the name of a module before them, whatever they
# are called (DisallowedHost, socket.gaierror).
RAISED = (
    r"^((?:\w+\.)*\w+(?:Error|Exception|Exit|Warning|Configured|Interrupt)\b.*"
    r"|(?:\w+\.)+(?:[A-Z]\w*|\w*error)(?::.*)?$)"
)


# What a program says when nobody answers, or it may not send; names are resolved over the network, too.
UNREACHED = re.compile(
    r"timed? ?-?out|unreachable|Operation not permitted|name resolution|name or service not known|did not end within",
    re.I,
)


def unreached(network: str, said: str) -> str:
    """That an app may be waiting for what it may not reach, as the end of a phrase; else empty.

    :param network: what it may reach, see `host.network`.
    :param said: how it failed.
    """
    if network == "full" or not UNREACHED.search(said):
        return ""
    return f" (network is {network}: what it asks elsewhere gets no answer, unless `allowed_addresses` names it)"


PREFIXED = re.compile(rf"^(\S[^\n]*?){re.escape(TRACEBACK)}$", re.MULTILINE)


def _plain(log: str) -> str:
    """A log without what a logger wrote before each line of its last traceback: time, process, level."""
    found = PREFIXED.findall(log)
    if not found:
        return log
    length, shape = len(found[-1]), re.sub(r"\d", "0", found[-1])
    lines = log.splitlines()
    return "\n".join(one[length:] if re.sub(r"\d", "0", one[:length]) == shape else one for one in lines)


def _chain(log: str) -> list[str]:
    """The last exception in a log, and before it what it was raised from, and so on.

    A process that is ended from outside, as one that does not answer, may say where it was then. That is no cause.
    """
    _before, *tracebacks = log.split(TRACEBACK)
    while tracebacks and re.search(r"^KeyboardInterrupt\b", tracebacks[-1], re.MULTILINE):
        tracebacks.pop()
    found = tracebacks[-1:]
    for one in reversed(tracebacks[:-1]):
        if not one.rstrip().endswith(FROM):
            break
        found.append(one)
    return found


def of_start(log: str) -> str:
    """Why an app did not start, as the end of a sentence, from the last exception in its log; empty without one."""
    log = _plain(log)
    chain = _chain(log)
    for pattern, cause in START if chain else START[:3]:  # what stands for itself comes first
        for one in chain or [log]:
            if found := re.search(pattern, one, re.MULTILINE):
                return cause(found)
    said = [found[1] for one in chain if (found := re.search(RAISED, one, re.MULTILINE))]
    if said:
        # What is on top may only say what could not be done, and what is below why.
        return said[0] if said[-1].partition(": ")[2] in said[0] else f"{said[0]} ({said[-1]})"
    # An app that ends by itself may say why.
    told = re.findall(r"^(?:ERROR|Error|error|CRITICAL|FATAL|fatal): .+", log, re.MULTILINE)
    return "" if chain or not told else str(told[-1])
