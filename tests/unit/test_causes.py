"""The first line of a failure is its cause in the words of a person who runs an app."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import causes
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import journal

NO_SOLUTION = """
Using Python 3.13.5 environment at: venv
  \u00d7 No solution found when resolving dependencies:
  \u2570\u2500\u25b6 Because there is no version of flask==0.0.0.999 and you require
      flask==0.0.0.999, we can conclude that your requirements are unsatisfiable.
"""
PLAIN = """Using Python 3.13.5 environment at: venv
error: No solution found when resolving dependencies
  cause: Because there is no version of flask==9 and you require flask==9, we
         cannot go on.
Origin: x
"""
BUILD = [
    (PLAIN, "Because there is no version of flask==9 and you require flask==9, we cannot go on."),
    (
        '  \u00d7 Failed to build `form==1.3`\n      File "<string>", line 15\n      ImportError: Python 3 only\n\n'
        "hint: Build failures usually indicate a problem",
        "form==1.3 cannot be built: ImportError: Python 3 only",
    ),
    ("  \u00d7 Failed to build `form==1.3`\n", "form==1.3 cannot be built"),
    (NO_SOLUTION, "Because there is no version of flask==0.0.0.999 and you require flask==0.0.0.999, we can conclude"),
    ("      error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory\n", "add gcc and python3-dev"),
    (
        "fatal: could not read Username for 'https://git.test:8901': terminal prompts disabled",
        "git.test wants a user and a password that it knows: set or correct `build_credentials`",
    ),
    (
        "fatal: Authentication failed for 'https://git.test/hidden.git/'",
        "git.test does not take the user and the password: correct `build_credentials`",
    ),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'gcc'", "add gcc and python3-dev to `build_packages`"),
    (
        "error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-g++'",
        "no compiler of C++: add g++ and python3-dev",
    ),
    ("unable to execute 'x86_64-linux-gnu-gcc': No such file or directory", "no compiler: add gcc and python3-dev"),
    ("error: command 'g++' failed: No such file or directory\n", "add g++ and"),
    ("../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]", "add gcc and python3-dev"),
    ("c/_cffi_backend.c:15:10: fatal error: ffi.h: No such file or directory", "add libffi-dev to `build_packages`"),
    ("x.c:1:10: fatal error: openssl/ssl.h: No such file or directory", "add libssl-dev"),
    ("psycopg.h:35:10: fatal error: pg_config.h: No such file or directory", "add libpq-dev to `build_packages`"),
    ("x.c:1:10: fatal error: gssapi/gssapi.h: No such file", "add libkrb5-dev"),
    ("/bin/sh: 1: mysql_config: not found\nException: Can not find valid pkg-config name.\n", "add libmariadb-dev and"),
    ('../meson.build:31:12: ERROR: Dependency "cairo" not found', "needs the library cairo: add the"),
    ("Package 'xmlsec1', required by 'virtual:world', not found", "needs the library xmlsec1: add the Debian package"),
    ("Package libvirt was not found in the pkg-config search path.", "needs the library libvirt: add the Debian"),
    ("x.c:1:10: fatal error: odd.h: No such file", "needs odd.h: add the Debian package that has it"),
    ("Error: pg_config executable not found.\n", "add libpq-dev"),
    ("  \u2570\u2500\u25b6 Git executable not found. Ensure that Git is installed and available.", "add git to"),
    ("error: Hash mismatch for `flask==3.1`\n", "flask==3.1 does not match its hash"),
    ("OSError: [Errno 28] No space left on device", "the disk is full"),
    (
        '[1/4] Resolving\nerror Couldn\'t find package "x" on the registry.\n',
        'Couldn\'t find package "x" on the registry.',
    ),
    ("npm error code E404\nnpm error 404 Not Found - GET x\n", "404 Not Found - GET x"),
    ("npm ERR! code E404\nnpm ERR! 404 Not Found\n", "404 Not Found"),
    (
        "error: Request failed after 3 retries in 5.6s\n  cause: Failed to fetch: https://pypi.test/simple/a/\n"
        "  cause: error sending request for url (https://pypi.test/simple/a/)\n  cause: dns error\n"
        "  cause: failed to lookup address information: Name or service not known\n",
        "https://pypi.test/simple/a/ could not be fetched: failed to lookup address information: Name or service not "
        "known. Correct the address (`--index-url` in the file of requirements, `flask_apps_pip_arguments`)",
    ),
    (
        "error: Failed to fetch: `https://x.test/`\n  cause: HTTP status client error (401 Unauthorized) for url (x)\n",
        "(401 Unauthorized) for url (x). Set or correct `build_credentials`",
    ),
    ("error: Failed to fetch: `https://x.test/`\n", "Failed to fetch: `https://x.test/`"),
]


@pytest.mark.parametrize(("output", "cause"), BUILD)
def test_a_failed_build_says_its_cause(output, cause):
    assert cause in causes.of_build(output)


def test_output_without_a_known_cause_has_none():
    assert causes.of_build("1\n2\n3") == ""
    assert causes.of_start("ModuleNotFoundError: No module named 'x'") == ""  # said, not raised


def test_program_that_a_shell_does_not_find_is_named():
    told = causes.of_start("CommandError: An error occurred: /bin/sh: 1: sassc: not found\nCompressing...")
    assert told == "there is no program sassc: add the Debian package that has it to `packages`"
    assert causes.of_start("sh: line 1: npm: command not found") == told.replace("sassc", "npm")


PREFIXED = """2026-11-29 23:14:08.605 12 ERROR shop [-] cannot start
2026-11-29 23:14:08.637 12 ERROR shop Traceback (most recent call last):
2026-11-29 23:14:08.637 12 ERROR shop   File "/srv/a/shop/releases/a1/src/shop.py", line 3, in <module>
2026-11-29 23:14:08.638 12 ERROR shop     open("/etc/shop/keys")
2026-11-29 23:14:08.638 12 ERROR shop OSError: [Errno 30] Read-only file system: '/etc/shop'
2026-11-29 23:14:08.638 12 ERROR shop
"""


def test_traceback_of_a_logger_that_dates_each_line_says_its_cause():
    assert causes.of_start(PREFIXED) == "it may not write /etc/shop: data belongs below the app's home (HOME)"


TRACEBACK = """*** uWSGI is running in multiple interpreter mode ***
added /usr/local/lib/emperor/ to pythonpath.
Traceback (most recent call last):
  File "/usr/local/lib/emperor/emperor_loader.py", line 140, in load
    found = emperor_wsgi.Application(imported(app))
                                     ~~~~~~~~^^^^^
  File "/usr/lib/python3.13/importlib/__init__.py", line 88, in import_module
    return _bootstrap._gcd_import(name[level:], package, level)
           ~~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "<frozen importlib._bootstrap>", line 1387, in _gcd_import
  File "./shop.py", line 1, in <module>
    import flask
{}
unable to load app 0 (mountpoint='') (callable not found or import error)
*** no app loaded. GAME OVER ***
"""
AGAIN = "BlockingIOError: [Errno 11] Resource temporarily unavailable"
FORK = """  File "/srv/a/shop/releases/a1/src/lock.py", line 3, in lock
    subprocess.run(["git", "version"])
  File "/usr/lib/python3.13/subprocess.py", line 1885, in _execute_child
    self.pid = _fork_exec(
               ~~~~~~~~~~^
        args, executable_list,
        ^^^^^^^^^^^^^^^^^^^^^^
"""
START = [
    ("ModuleNotFoundError: No module named 'a.b'; 'a' is not a package", "ModuleNotFoundError: No module"),
    ("django.core.exceptions.DisallowedHost: Invalid HTTP_HOST header: 'x'", "django.core.exceptions.DisallowedHost: "),
    ("jinja2.exceptions.TemplateNotFound: index.html", "jinja2.exceptions.TemplateNotFound: index.html"),
    ("ModuleNotFoundError: No module named 'flask'", "the module flask is missing: add what brings it to"),
    ("ModuleNotFoundError: No module named 'distutils.util'",
     "the module distutils is no longer in Python's library: add setuptools, which brings it, to `python.additional`"),
    ("ModuleNotFoundError: No module named 'imghdr'", "add standard-imghdr, which brings it"),
    ("ModuleNotFoundError: No module named 'yaml.nodes'", "the module yaml.nodes is missing: add PyYAML, which brings"),
    ("emperor_loader.WrongApp: module shop has no `app`; it has `application`: correct `app`",
     "module shop has no `app`; it has `application`: correct `app`"),
    ("ImportError: libpq.so.5: cannot open shared object file: No such file", "the library libpq.so.5 is missing"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'git'", "there is no git: if it is a program, add"),
    ("PermissionError: [Errno 13] Permission denied: '/srv/a/shop/releases/a1/x'", "a release never changes"),
    ("PermissionError: [Errno 13] Permission denied: 'logs'", "so let `build` make it, name the directory in `persist"),
    ("OSError: The directory of your index '/srv/a/shop/releases/a1/src/index' cannot be created by the user",
     "it may not write index: a release never changes"),
    ("shop.errors.Error: could not write /srv/a/shop/releases/a1/src/a.css", "it may not write a.css: a release never"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/srv/a/shop/releases/a1/venv/lib/python3.13/log/x'",
     "there is no lib/python3.13/log/x in the release: if it is a file of settings, give it by `files`; if"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'conf/shop.yml'", "there is no conf/shop.yml in the rel"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/srv/a/shop/shared/log/x'",
     "there is no log/x in its home: give the file by `files`, or let `hooks.prepare` make the directory"),
    ("django.db.utils.ProgrammingError: relation \"shop_item\" does not exist", "its database has no table shop_item"),
    ("django.db.utils.ProgrammingError: column item.size does not exist", "its database has no column item.size: "),
    ("sqlite3.OperationalError: no such table: item", "its database has no table item: let a hook make it"),
    ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) no such column: item.size", "no column item.size: "),
    ("pymysql.err.ProgrammingError: (1146, \"Table 'shop.item' doesn't exist\")", "has no table shop.item: "),
    ("PermissionError: [Errno 13] Permission denied: '/srv/a/shop/releases/a1/src/shop/../.data'",
     "it may not write .data: a release never changes"),
    ("python: can't open file '/srv/a/shop/releases/a1/venv/lib/python3.13/site-packages/lib/manage.py': [Errno 2] No",
     "there is no file lib/manage.py: commands start in the source of the release, of a `source.package` in its"),
    ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) unable to open database file",
     "it may not write its SQLite database: a release never changes, so let the app have it below its home (HOME)"),
    ("sqlite3.OperationalError: attempt to write a readonly database", "it may not write its SQLite database"),
    ("zc.lockfile.LockError: Couldn't lock '/srv/a/shop/shared/db.lock'",
     "another process has locked what it needs (LockError: Couldn't lock '/srv"),
    ("    fcntl.flock(file, LOCK_EX | LOCK_NB)\n    ~~~~~^^^^^^\n" + AGAIN, "another process has locked what it needs"),
    ("  File \"/a/x.py\", line 1, in acquire_lock\n    raise held\n" + AGAIN, "another process has locked what"),
    ("    held = self.flock_of(fork_safe)\n" + AGAIN, "another process has locked what it needs"),
    (FORK + AGAIN, "it may not start another process or thread: set `max_tasks` higher"),
    ("  File \"/usr/lib/python3.13/subprocess.py\", line 1974, in _execute_child\n" + AGAIN, "may not start another"),
    ("    self.pid = os.fork()\n               ~~~~~~~^^\n" + AGAIN, "it may not start another process or thread"),
    ("RuntimeError: can't start new thread", "it may not start another process or thread: set `max_tasks` higher"),
    ("  File \"/srv/a/shop/releases/a1/src/shop/extras/data/__init__.py\", line 3, in <module>\n    from .a import\n"
     "ModuleNotFoundError: No module named 'extras.data.codes'",
     "the source has data, but no codes in it: see whether the file is in the repository"),
    ("  File \"./shop/data/__init__.py\", line 3, in <module>\n    from .a import\n"
     "ModuleNotFoundError: No module named 'shop.data.codes'", "the source has data, but no codes in it"),
    ("OSError: [Errno 30] Read-only file system: '/var/lib/shop'", "it may not write /var/lib/shop"),
    ("ImportError: Failed to initialize: Bad git executable.", "the program git is missing: add the Debian package"),
    ("  File \"<frozen os>\", line 709, in __getitem__\nKeyError: 'DATABASE_URL'",
     "the variable DATABASE_URL is missing: set it in `environment`"),
    ("KeyError: 'NAME'", "KeyError: 'NAME'"),
    ("django.core.exceptions.ImproperlyConfigured: no SECRET_KEY", "ImproperlyConfigured: no SECRET_KEY"),
    ("ConnectionRefusedError: [Errno 111] Connection refused", "ConnectionRefusedError: [Errno 111]"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "cause"), START)
def test_an_app_that_does_not_start_says_its_cause(line, cause):
    assert cause in journal.explained("it ends before it answers", TRACEBACK.format(line)).splitlines()[0]


@pytest.mark.parametrize("line", ["    self.socket.recv(1)\n", '    unlocked.fork_of(x)\n  File "y"\n    read()\n'])
def test_the_error_of_a_lock_is_no_lock_where_the_traceback_names_none(line):
    assert causes.of_start(TRACEBACK.format(line + AGAIN)) == AGAIN


def test_a_build_that_may_start_no_more_processes_is_told_what_applies_there():
    told = "it may not start another process or thread: let this step start fewer at a time; `max_tasks` is not for"
    assert causes.of_build(TRACEBACK.format(FORK + AGAIN)).startswith(told)
    assert causes.of_build("error: x\nError: spawn /usr/bin/node EAGAIN").startswith(told)
    assert causes.of_build("make: vfork: Resource temporarily unavailable").startswith(told)


def test_a_shell_that_cannot_fork_says_so_without_a_traceback():
    assert causes.of_start("sh: 1: Cannot fork\n").startswith("it may not start another process or thread")
    assert causes.of_start("bash: fork: retry: Resource temporarily unavailable\n") == ""  # it may have got one later


def test_frames_of_the_roles_own_programs_are_left_out():
    assert journal.explained("it ends", TRACEBACK.format("RuntimeError: no")).splitlines() == [
        "RuntimeError: no",
        "Traceback (most recent call last):",
        '  File "./shop.py", line 1, in <module>',
        "    import flask",
        "RuntimeError: no",
    ]


def test_an_app_that_ends_by_itself_may_say_why():
    assert journal.explained("it ends", "Starting.\nError: Path '/a' not found.\n").startswith(
        "Error: Path '/a' not found.\n"
    )


def test_without_a_known_cause_the_output_is_shown():
    assert journal.explained("it ends", "some words") == "it ends\nsome words"


CHAIN = """Traceback (most recent call last):
  File "/usr/lib/python3.13/logging/config.py", line 608, in configure
    handler = self.configure_handler(handlers[name])
{}

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "./shop.py", line 3, in <module>
    logging.config.dictConfig(settings)
ValueError: Unable to configure handler 'file'
"""
CHAINS = [
    ("PermissionError: [Errno 13] Permission denied: '/var/log/shop.log'", "it may not write /var/log/shop.log: data"),
    ("ModuleNotFoundError: No module named 'yaml'", "the module yaml is missing: add PyYAML"),
    ("shop.errors.Wrong: Unable to configure handler", "ValueError: Unable to configure handler 'file'"),
    ("KeyError: 'x'", "ValueError: Unable to configure handler 'file' (KeyError: 'x')"),
]


@pytest.mark.parametrize(("below", "cause"), CHAINS)
def test_an_exception_raised_from_another_has_the_cause_of_that(below, cause):
    told = causes.of_start(CHAIN.format(below))
    assert told.startswith(cause)
    assert told.count("Unable") <= 1


def test_an_exception_that_only_came_before_is_not_the_cause():
    assert causes.of_start(CHAIN.format("KeyError: 1").replace("was the direct cause of", "came before")) == (
        "ValueError: Unable to configure handler 'file'"
    )


RAISED = f'{causes.TRACEBACK}\n  File "/x.py", line 1, in <module>\n{{}}'


@pytest.mark.parametrize(
    "log",
    [
        RAISED.format('psycopg2.OperationalError: connection to "10.0.3.9", port 5432 failed: Connection timed out'),
        RAISED.format("socket.gaierror: [Errno -3] Temporary failure in name resolution"),
    ],
)
def test_an_app_that_may_not_reach_all_is_told_so_where_something_did_not_answer(log):
    first = journal.explained("it ends", log, "local 10.0.3.7").splitlines()[0]
    assert log.rpartition("\n")[2] in first
    assert "(network is local 10.0.3.7: what it asks elsewhere gets no answer, unless `allowed_addresses`" in first
    assert "network is" not in journal.explained("it ends", log, "full")


def test_an_app_with_another_fault_is_not_told_of_its_network():
    log = RAISED.format("ValueError: no key")
    assert journal.explained("it ends", log, "none").splitlines()[0] == "ValueError: no key"
    assert "network is none" in journal.explained("after 60 s it does not answer (timed out)", "", "none")


def test_process_that_was_ended_from_outside_names_no_cause():
    ended = TRACEBACK.format("KeyboardInterrupt")
    assert causes.of_start(ended) == ""
    assert causes.of_start(TRACEBACK.format("ValueError: no such colour") + ended) == "ValueError: no such colour"
