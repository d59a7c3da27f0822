#!/usr/bin/env python3
"""Gets the real uWSGIs that the tests and the lab's programs run, into target/uwsgi/ of this checkout, and tools.

    tests/lab/get-uwsgi.py [debian] [pypi] [nossl] [init] [bind] [agents] [versions] [debhelper] [valgrind]

    debian     target/uwsgi/debian: Debian 12's uwsgi-core, 2.0.21
    pypi       target/uwsgi/pypi: PyPI's uwsgi, newest 2.0.x, built here from source with the core profile
    nossl      target/uwsgi/nossl: the same without SSL, and so without Legion
    init       target/uwsgi/init: Debian's package uwsgi, unpacked: its init script; only where there is apt-get
    bind       target/uwsgi/bind: in the same way the DNS server BIND with nsupdate and dig, and what they need
    agents     target/uwsgi/agents: in the same way Debian's package resource-agents: OCF agents
    versions   target/uwsgi/pypi-2.0.15 and so on: each 2.0.x that PyPI has from that one on, built in the same
               way; target/uwsgi/versions: their names, a line each, and behind a name why it is not there
    debhelper  to build the Debian package; only root gets it, for others the package's tests are skipped
    valgrind   with the C library's symbols; only root gets it, for others it must be installed

Beside each uWSGI is NAME.sum, a checksum of what it says of itself, written only when that changes.
target/uwsgi/env is for a shell to source: where a compiler finds the headers.

Root gets missing Debian packages installed by apt-get. Anyone else gets them unpacked into
target/uwsgi/root, nothing outside the checkout is touched. $UWSGI_DEBIAN or $UWSGI_PYPI, set to
an executable, is used as it is. Does nothing where all is there already.
"""

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

BASE = Path(__file__).resolve().parents[2] / "target" / "uwsgi"
ROOT = BASE / "root"  # Debian packages unpacked without root
LOG = BASE / "get-uwsgi.log"
UWSGIS = ("debian", "pypi", "nossl")
NEWEST = "uwsgi>=2.0.31,<2.1"
OLDEST = "2.0.15"  # of 2017, the oldest that the plugin promises to work with
CC = shlex.split(os.environ.get("CC", "")) or ["gcc"]

# The packages of each tool, and a command that succeeds where they are installed. valgrind only starts if it finds the C
# library's symbols; dh_uwsgi knows what a plugin's package has to depend on.
TOOLS = {
    "debhelper": (["debhelper", "uwsgi-dev"], ["sh", "-c", "command -v dh && command -v dh_uwsgi"]),
    "valgrind": (["valgrind", "libc6-dbg"], ["valgrind", "--quiet", "true"]),
}

# Packages that are unpacked even for root, each into a folder of its own: installed, they would start uWSGIs, a DNS server,
# or a logger. And whether what they need, and the machine lacks, is unpacked with them.
UNPACKED = {
    "init": (["uwsgi"], False),
    "bind": (["bind9", "bind9-dnsutils", "bind9-libs"], True),
    "agents": (["resource-agents"], True),
}

# What the uwsgi.h of each includes, and the package each header comes in.
HEADERS = {
    "stdio.h": "libc6-dev",
    "openssl/ssl.h": "libssl-dev",
    "pcre.h": "libpcre3-dev",
    "sys/capability.h": "libcap-dev",
    "uuid/uuid.h": "uuid-dev",
    "zlib.h": "zlib1g-dev",
}


class Trouble(Exception):
    """What went wrong, what to do about it, and whether the log's last lines tell more."""

    def __init__(self, what, remedy, log=False):
        super().__init__(what)
        self.remedy, self.log = remedy, log


def colons(paths):
    return ":".join(map(str, paths))


def say(text):
    print(f"get-uwsgi: {text}", flush=True)


# --- running commands ---------------------------------------------------------------------------


def environment():
    """For child processes: what was unpacked into ROOT is found, messages are in English."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("UWSGI_")}
    env.update(LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive", CC=shlex.join(CC))
    python = [ROOT / "usr/lib/python3/dist-packages", *ROOT.glob("usr/lib/python3.*")]
    unpacked = {**search_paths(), "PYTHONPATH": [p for p in python if p.exists()]}
    for name, paths in unpacked.items():
        if paths:
            env[name] = colons([*paths, *filter(None, [env.get(name)])])
    return env


def probe(command):
    """Output of a command that only asks, or None if it fails."""
    try:
        done = subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def run(command, remedy, timeout=300, cwd=None):
    """Runs a command, its output goes to the log and is returned; Trouble if it fails."""
    command = [str(word) for word in command]
    with LOG.open("a+", encoding="utf-8", errors="replace") as log:
        print("\n$", shlex.join(command), file=log, flush=True)
        start = log.tell()
        child = subprocess.Popen(
            command, env=environment(), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise Trouble(f"{command[0]} was not done in {timeout} s", remedy, log=True) from error
        finally:
            end(child)
        if status:
            raise Trouble(f"{' '.join(command[:4])} ... ended with status {status}", remedy, log=True)
        log.seek(start)
        return log.read()


def end(child):
    """Ends a command that is still running, with all it started: a build is a tree of processes."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            os.killpg(child.pid, how)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                pass


# --- Debian packages ----------------------------------------------------------------------------


def missing_packages(needed):
    """Debian packages that the machine and ROOT lack for the uWSGIs in `needed`."""
    packages = [] if shutil.which(CC[0]) else ["gcc"]
    if packages and os.geteuid() != 0:
        raise Trouble(f"no C compiler ({CC[0]})", "Have root install gcc, or set CC to your compiler.")
    # Without a compiler yet, all of them are asked for: apt leaves alone what is installed.
    packages += HEADERS.values() if packages else (HEADERS[h] for h in missing_headers())
    if "debian" in needed and not debian_binary():
        packages.append("uwsgi-core")
    if unbuilt(needed) and not pip_python():
        packages.append("python3-pip")
    if os.geteuid() == 0 and shutil.which("apt-get"):
        packages += (package for tool in missing_tools(needed) for package in TOOLS[tool][0])
    return packages


def missing_tools(needed):
    return [tool for tool in TOOLS if tool in needed and probe(TOOLS[tool][1]) is None]


def do_without(tools):
    """Says which of them only root can get."""
    for tool in tools:
        remedy = f"As root, apt-get install {' '.join(TOOLS[tool][0])}"
        if tool == "valgrind":
            raise Trouble("valgrind is missing", remedy)
        say(f"{tool}: missing, so tests that need it are skipped. {remedy}")


def missing_headers():
    """Asked of the compiler, so that headers from elsewhere ($CPATH) count too."""
    source = "".join(f"#if !__has_include(<{h}>)\nmissing {h}\n#endif\n" for h in HEADERS)
    done = subprocess.run(
        [*CC, "-E", "-P", "-xc", "-"],
        env=environment(), input=source, capture_output=True, text=True, timeout=30,
    )
    if done.returncode:
        raise Trouble(f"{CC[0]} does not work: {done.stderr.strip()}", "Repair the C compiler, or set CC.")
    return re.findall(r"^missing (\S+)", done.stdout, re.M)


def get_packages(packages):
    if not shutil.which("apt-get"):
        raise Trouble(
            f"no apt-get here to get {', '.join(packages)}",
            "Run this on Debian 12, or install what is named, and set UWSGI_DEBIAN to a uWSGI 2.0.21.",
        )
    if os.geteuid() != 0:
        say(f"unpacking Debian packages into {ROOT}: {' '.join(packages)}")
        return unpack(packages)
    say(f"installing Debian packages: {' '.join(packages)}")
    remedy = "Run the last apt-get command of the log by hand and repair what it complains about."
    options = ["-y", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=120"]
    command = ["apt-get", "install", *options, *packages]
    try:
        run(command, remedy, timeout=600)
    except Trouble:  # no package lists, or lists so old that the files have gone
        run(["apt-get", "update"], remedy)
        run(command, remedy, timeout=600)


def unpack(packages):
    """Makes ROOT anew, with what it held before and `packages`, and all that these depend on."""
    if re.search(r"[\s:]", str(BASE)):
        raise Trouble("uWSGI's build finds no headers below a path with a blank", "Rename the folder.")
    held = ROOT / "packages"
    packages = sorted({*packages, *(held.read_text().split() if held.exists() else [])})
    fresh = BASE / "root.new"
    for left_over in (fresh, BASE / "apt"):
        shutil.rmtree(left_over, ignore_errors=True)
    for deb in download(packages):
        run(["dpkg-deb", "-x", deb, fresh], "See whether the disk is full.")
    if (fresh / "lib").exists():  # on the machine itself /lib is /usr/lib, and links count on that
        shutil.copytree(fresh / "lib", fresh / "usr/lib", symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(fresh / "lib")
    (fresh / "lib").symlink_to("usr/lib")
    mend(fresh)
    (fresh / "packages").write_text("\n".join(packages) + "\n")
    shutil.rmtree(ROOT, ignore_errors=True)
    fresh.rename(ROOT)
    shutil.rmtree(BASE / "apt")


def download(packages, with_needs=True, even_installed=False):
    """Downloads what installing `packages` would add to this machine, or them alone. Not being root, apt works
    with package lists of our own; its sources, keys and the list of what is installed are read
    where they are."""
    remedy = f"Check the network and the apt sources, or have root install: {' '.join(packages)}"
    apt, debs = private_apt(remedy), BASE / "apt/debs"
    wanted = set(packages) if even_installed else set()
    if with_needs:
        plan = run([*apt, "-s", "install", "--no-install-recommends", "--no-remove", *packages], remedy)
        # "Inst name (version ...": new. "Inst name [old] (new ...": an upgrade, not needed here (and
        # a libc newer than the machine's loader would not even run).
        wanted |= {*re.findall(r"^Inst (\S+) \(", plan, re.M)}
    run([*apt, "download", *sorted(wanted)], remedy, cwd=debs)
    return sorted(debs.glob("*.deb"))


def private_apt(remedy):
    """The beginning of an apt-get command that needs no root, and touches nothing outside BASE/apt."""
    private = BASE / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (private / folder).mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-o", "Debug::NoLocking=1", "-o", f"Dir::State={private}"]
    # Said outright: beside a state folder called apt, apt looks for one called dpkg, and finds nothing installed.
    apt += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
    apt += ["-o", f"Dir::State::lists={private}/lists", "-o", f"Dir::Cache={private}/cache"]
    run([*apt, "update"], remedy)
    return apt


def get_unpacked(name):
    place, fresh, (packages, with_needs) = BASE / name, BASE / f"{name}.new", UNPACKED[name]
    if place.exists() or not shutil.which("apt-get"):
        say(f"{name}: {'already there' if place.exists() else 'no apt-get here to get it'}: {place}")
        return
    for left_over in (fresh, BASE / "apt"):
        shutil.rmtree(left_over, ignore_errors=True)
    for deb in download(packages, with_needs, even_installed=True):
        run(["dpkg-deb", "-x", deb, fresh], "See whether the disk is full.")
    fresh.rename(place)
    shutil.rmtree(BASE / "apt")
    say(f"{name}: ready: {place}")


def mend(root):
    """Repairs links and a linker script that expect to be at / : of what they name some is under
    `root`, some is the machine's own."""
    for link in (p for p in root.rglob("*") if p.is_symlink() and not p.exists()):
        named = Path(os.path.normpath(link.parent / os.readlink(link)))  # an absolute one stays so
        place = Path("/") / named.relative_to(root if named.is_relative_to(root) else "/")
        inside = root / place.relative_to("/")
        if inside.exists() or place.exists():
            link.unlink()
            link.symlink_to(os.path.relpath(inside, link.parent) if inside.exists() else place)
    for script in root.glob("usr/lib/*/libc.so"):  # a bare name is looked for beside the script
        script.write_text(re.sub(r"/\S+/(libc_nonshared.a)", r"\1", script.read_text()))


def search_paths():
    """Where a compiler finds what was unpacked into ROOT; nothing where nothing was."""
    if not ROOT.exists():
        return {}
    return {
        "CPATH": [ROOT / "usr/include", *ROOT.glob("usr/include/*-linux-*")],
        "LIBRARY_PATH": [*ROOT.glob("usr/lib/*-linux-*")],
    }


def exports(paths):
    """Shell commands that put unpacked files in front of each search path."""
    text = "# Written by tests/lab/get-uwsgi.py: libraries and headers unpacked into the checkout, if any\n"
    for name, places in paths.items():
        text += f"{name}={shlex.quote(colons(places))}${{{name}:+:${name}}}\nexport {name}\n"
    return text


# --- the uWSGIs ---------------------------------------------------------------------------------


def override(name):
    """$UWSGI_DEBIAN or $UWSGI_PYPI, unless it names what this script makes itself."""
    given = os.environ.get(f"UWSGI_{name.upper()}")
    if not given or os.path.abspath(given) == str(BASE / name):
        return None
    if not os.access(given, os.X_OK) or os.path.isdir(given):
        raise Trouble(f"UWSGI_{name.upper()}={given} is no executable", "Set it to a uWSGI, or unset it.")
    return os.path.abspath(given)


def binary_of(name):
    return override(name) or (debian_binary() if name == "debian" else built(name))


def built(name):
    """Where the uWSGI of that name is that was built from PyPI's source."""
    return BASE / f"uwsgi-{name}"


def debian_binary():
    unpacked = ROOT / "usr/bin/uwsgi-core"
    return unpacked if unpacked.exists() else shutil.which("uwsgi-core")


def pip_python():
    """A Python that has pip: the running one, or the one Debian's python3-pip is for."""
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
        if probe([python, "-m", "pip", "--version"]):
            return python
    return None


def unbuilt(names):
    return [name for name in names if name not in ("debian", *TOOLS) and not built(name).exists()]


def build_pypi(names, package=NEWEST):
    """Builds each of `names` from one source package."""
    python, work = pip_python(), BASE / "pypi.build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    say(f"{names[0]}: downloading the source package")
    command = [python, "-m", "pip", "download", "--no-deps", "--no-binary", "uwsgi", "--dest", work]
    # pip runs the package's setup.py for its name and version, which compiles nothing. With the
    # setuptools at hand that takes a second; else pip downloads one for it.
    if probe([python, "-c", "import setuptools, wheel"]) is not None:
        command.append("--no-build-isolation")
    run([*command, package], "Check the network and pip's configuration (pip config list).")
    (archive,) = work.glob("*.tar.gz")
    shutil.unpack_archive(archive, work)
    (config,) = work.rglob("uwsgiconfig.py")  # in a folder, but 2.0.19 has none
    source = config.parent
    for name in names:
        say(f"{name}: building {archive.name}")
        profile = ["env", "UWSGI_PROFILE_OVERRIDE=ssl=false"] if name == "nossl" else []
        command = [*profile, sys.executable, "uwsgiconfig.py", "--build", "core"]
        run(command, "See the compiler's message.", 600, source)
        os.replace(source / "uwsgi", built(name))
    shutil.rmtree(work)


def launcher(name):
    """What target/uwsgi/NAME is to be: the text of a wrapper, or the path that it is a link to."""
    binary, paths = Path(binary_of(name)), search_paths()
    if not paths or override(name):
        return binary
    text = "#!/bin/sh\n" + exports({"LD_LIBRARY_PATH": paths["LIBRARY_PATH"], **paths})
    plugins = ROOT / "usr/lib/uwsgi/plugins"
    if binary.is_relative_to(ROOT) and plugins.exists():  # the folder compiled into it is in /usr
        text += f"UWSGI_PLUGINS_DIR=${{UWSGI_PLUGINS_DIR-{shlex.quote(str(plugins))}}}\nexport UWSGI_PLUGINS_DIR\n"
    return text + f'exec {shlex.quote(str(binary))} "$@"\n'  # exec: the process id is uWSGI's


def holds(path, content):
    """Whether `path` is the link or the file with that content."""
    if path.is_symlink() or not path.exists():
        return path.is_symlink() and os.readlink(path) == str(content)
    return path.read_text(errors="replace") == content


def put(path, content, mode=0o644):
    path.unlink(missing_ok=True)
    if isinstance(content, Path):
        path.symlink_to(content)
    else:
        path.write_text(content)
        path.chmod(mode)


def renew(path, content):
    """Writes it only if it differs, since make goes by its date."""
    if not holds(path, content):
        new = path.with_name(f"{path.name}.new")
        put(new, content)
        os.replace(new, path)


def note_sum(name):
    said = [probe([BASE / name, option]) or "" for option in ("--cflags", "--dot-h")]
    renew(BASE / f"{name}.sum", hashlib.sha256("\n".join(said).encode()).hexdigest() + "\n")


def provide(name):
    """Makes target/uwsgi/NAME, under another name until it has been checked."""
    path, new, content = BASE / name, BASE / f"{name}.new", launcher(name)
    if holds(path, content) and (there := probe([path, "--version"])):
        note_sum(name)
        say(f"{name}: already there, {there}: {path}")
        return
    put(new, content, 0o755)
    try:
        there = check(name, new)
    except Trouble:
        if name != "debian" and not override(name):
            built(name).unlink(missing_ok=True)  # the next run builds it anew
        raise
    os.replace(new, path)
    note_sum(name)
    say(f"{name}: ready, {there}: {path}")


def check(name, binary):
    """It runs, is the right one, and a plugin compiles against it. Returns its version."""
    there = run([binary, "--version"], f"Remove {BASE} and run this again, or name another uWSGI.").strip()
    if name == "debian" and not override(name) and not there.startswith("2.0.21"):
        raise Trouble(
            f"debian: this system's uwsgi-core is {there}, not Debian 12's 2.0.21",
            "Run this on Debian 12, or set UWSGI_DEBIAN to a uWSGI 2.0.21.",
        )
    flags = probe([binary, "--cflags"]) or ""
    if name == "nossl":  # nothing is built for it
        return there
    if "-DUWSGI_SSL" not in flags:
        raise Trouble(
            f"{name}: this uWSGI {there} was built without SSL, so it has no Legion",
            "Install libssl-dev and run this again, or name another uWSGI.",
        )
    (BASE / "check").mkdir(exist_ok=True)
    (BASE / "check/uwsgi.h").write_text(probe([binary, "--dot-h"]) or "#error no --dot-h\n")
    compile_it = [*CC, "-fsyntax-only", *shlex.split(flags), "-I", BASE / "check", "-include", "uwsgi.h"]
    run([*compile_it, "-xc", "/dev/null"], f"Install the header that {name}'s uwsgi.h lacks.")
    shutil.rmtree(BASE / "check")
    return there


def prepare(names):
    """Gets the Debian packages that `names` need."""
    if packages := missing_packages(names):
        get_packages(packages)
        if packages := missing_packages(names):
            raise Trouble(f"still missing: {', '.join(packages)}", "Have root reinstall these Debian packages.")


def provide_all(names):
    for name in UNPACKED:
        if name in names:
            get_unpacked(name)
    uwsgis = [name for name in UWSGIS if name in names]
    ours = [name for name in uwsgis if not override(name)]
    prepare([*ours, *(name for name in names if name in TOOLS or name == "versions")])
    renew(BASE / "env", exports(search_paths()))
    do_without(missing_tools(names))
    if unbuilt(ours):
        build_pypi(unbuilt(ours))
    for name in uwsgis:
        provide(name)
    if "versions" in names:
        provide_versions()


# --- every version ------------------------------------------------------------------------------


def published():
    """The versions that PyPI has, from OLDEST on, the oldest first."""
    remedy = "Check the network and pip's configuration (pip config list)."
    asked = run([pip_python(), "-m", "pip", "index", "versions", "--no-binary", "uwsgi", "uwsgi"], remedy)
    (listed,) = re.findall(r"^Available versions: (.*)", asked, re.M) or [""]
    versions = re.findall(r"\b2\.0\.[\d.]*\d", listed)
    if OLDEST not in versions:
        raise Trouble(f"PyPI names no uWSGI {OLDEST}", remedy, log=True)
    number = {text: [int(part) for part in text.split(".")] for text in versions}
    return sorted((text for text in versions if number[text] >= number[OLDEST]), key=number.get)


def provide_versions():
    """One that does not build does not keep the others from it: why is noted."""
    lines = []
    for version in published():
        name = f"pypi-{version}"
        try:
            if unbuilt([name]):
                build_pypi([name], f"uwsgi=={version}")
            provide(name)
            lines.append(name)
        except Trouble as trouble:
            said = LOG.read_text(errors="replace").rpartition("\n$ ")[2] if trouble.log else ""
            # The compiler's, or Python's; pip's own lines only say that there was one.
            errors = re.findall(r"^.*(?:: error|: fatal error|[a-z]Error): .*", said, re.M)
            lines.append(f"{name} {(errors or [str(trouble)])[0].strip()}")
            say(f"not there: {lines[-1]}")
    put(BASE / "versions", "".join(f"{line}\n" for line in lines))


def main():
    names = sys.argv[1:]
    if not names or not {*names} <= {*UWSGIS, *TOOLS, *UNPACKED, "versions"}:
        print(__doc__.strip())
        return 0 if names[:1] in (["-h"], ["--help"]) else 1
    for how in (signal.SIGINT, signal.SIGTERM):  # run() then ends what it started
        signal.signal(how, lambda *_: sys.exit("get-uwsgi: stopped; run it again to go on"))
    try:
        BASE.mkdir(parents=True, exist_ok=True)
        with (BASE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs at once the second finds all done
            LOG.write_text("")
            provide_all(names)
        return 0
    except Trouble as trouble:
        say(f"FAILED: {trouble}")
        if trouble.log:
            print(*(f"    {line}" for line in LOG.read_text(errors="replace").splitlines()[-15:]), sep="\n")
            print(f"    (all of it: {LOG})")
        say(trouble.remedy)
    except OSError as error:
        say(f"FAILED: {error}")
        say(f"If that is about {BASE}, remove it or make it yours; then run this again.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
