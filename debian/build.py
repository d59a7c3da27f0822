#!/usr/bin/env python3
"""Makes a Debian package of a plugin that is built already.

    debian/build.py UWSGI PLUGIN FOLDER

    UWSGI    Debian's uwsgi-core, for which PLUGIN was built
    FOLDER   gets uwsgi-plugin-hetzner_VERSION_ARCHITECTURE.deb, whose path is printed

Needs dpkg-deb alone, which is wherever such a package can be installed, and no debhelper. The same commit and plugin
make the same package, byte for byte.

Unlike Debian's own plugins it brings no /usr/bin/uwsgi_hetzner and no alternative for /usr/bin/uwsgi: these are for
plugins that serve requests. This one is loaded by `need-plugin = hetzner`, from the folder that is compiled into uwsgi-core.
"""

import gzip
import hashlib
import os
import re
import string
import subprocess
import sys
import tempfile
from email.utils import parsedate_to_datetime
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
CHECKOUT = SOURCES.parent
NAME = "uwsgi-plugin-hetzner"
DOC = f"usr/share/doc/{NAME}"

# What the plugin may be linked with, and the package that it comes in.
LIBRARIES = {"libc.so.6": "libc6", "libm.so.6": "libc6", "ld-linux": "libc6", "libgcc_s.so.1": "libgcc-s1"}


def output(*command):
    """What a command prints."""
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def plugin_dir(cflags):
    """The folder in which this uWSGI looks for plugins."""
    found = re.search(r'-DUWSGI_PLUGIN_DIR="\\"(.*?)\\""', cflags)
    return found.group(1) if found else ""


def abi(uwsgi):
    """The virtual package by which Debian's uwsgi-core says what a plugin is built for; dh_uwsgi names it so too."""
    return "uwsgi-abi-" + hashlib.md5(output(uwsgi, "--dot-h").encode()).hexdigest()


def libraries(plugin):
    """What dpkg-shlibdeps would say, which is in a package that need not be there: for each library the newest
    version of its symbols that the plugin asks for."""
    needed, of = {}, None
    for line in output("readelf", "-dVW", plugin).splitlines():
        library = re.search(r"\(NEEDED\).*\[(.*)\]|Version: \d+  File: (\S+)", line)
        symbol = re.search(r"Name: [A-Z]+_(\d+)\.(\d+)", line)
        if library:
            file = library.group(1) or library.group(2)
            of = next((package for name, package in LIBRARIES.items() if file.startswith(name)), None)
            if not of:
                sys.exit(f"{plugin} is linked with {file}: say in debian/build.py which package that is in")
            needed.setdefault(of, (0, 0))
        elif symbol and of:
            needed[of] = max(needed[of], tuple(map(int, symbol.groups())))
    return ", ".join(f"{package} (>= {high}.{low})" for package, (high, low) in sorted(needed.items()))


def time_of_sources():
    """The last commit's, or the changelog's where there is no git; $SOURCE_DATE_EPOCH is asked first, as everywhere."""
    if os.environ.get("SOURCE_DATE_EPOCH"):
        return int(os.environ["SOURCE_DATE_EPOCH"])
    git = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    ) if (CHECKOUT / ".git").exists() else None
    if git and git.returncode == 0 and git.stdout.strip():
        return int(git.stdout)
    date = re.search(r"^ -- .*>  (.*)$", (SOURCES / "changelog").read_text(), re.M).group(1)
    return int(parsedate_to_datetime(date).timestamp())


def contents(plugin, folder):
    """The files of the package."""
    return {
        f"{folder.strip('/')}/hetzner_plugin.so": plugin.read_bytes(),
        f"{DOC}/README.md": (CHECKOUT / "README.md").read_bytes(),
        f"{DOC}/changelog.gz": gzip.compress((SOURCES / "changelog").read_bytes(), mtime=0),
        f"{DOC}/copyright": (SOURCES / "copyright").read_bytes(),
        **{f"{DOC}/examples/{path.name}": path.read_bytes() for path in (CHECKOUT / "examples").iterdir()},
    }


def control(files, **known):
    """The files about the package. Its size is counted as dpkg-gencontrol does: a KiB for each folder."""
    folders = {parent for path in files for parent in Path(path).parents}
    known["size"] = sum(-(-len(content) // 1024) for content in files.values()) + len(folders)
    sums = "".join(f"{hashlib.md5(content).hexdigest()}  {path}\n" for path, content in sorted(files.items()))
    return {
        "DEBIAN/control": string.Template((SOURCES / "control").read_text()).substitute(known).encode(),
        "DEBIAN/md5sums": sums.encode(),
    }


def put(root, files):
    """Writes files with the modes that they are to have, whatever the umask is."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip())
    uwsgi, plugin, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    cflags, there = output(uwsgi, "--cflags").strip(), output(uwsgi, "--version").strip()
    if not there.endswith("-debian"):
        sys.exit(
            f"a Debian package is for Debian's uwsgi-core, and {uwsgi} is uWSGI {there}: "
            "UWSGI=/usr/bin/uwsgi-core make deb"
        )
    if cflags.encode() not in plugin.read_bytes():
        sys.exit(f"{plugin} was not built for {uwsgi}, uWSGI {there}: build it anew")
    version = re.search(r'^version = "(.*)"', (CHECKOUT / "Cargo.toml").read_text(), re.M).group(1)
    # 1.0~rc.1 is before 1.0.
    version, architecture = version.replace("-", "~"), output("dpkg", "--print-architecture").strip()
    files = contents(plugin, plugin_dir(cflags))
    known = {"version": version, "architecture": architecture, "abi": abi(uwsgi), "libraries": libraries(plugin)}
    files.update(control(files, **known))

    target.mkdir(parents=True, exist_ok=True)
    package = target / f"{NAME}_{version}_{architecture}.deb"
    # By which dpkg-deb dates what is newer, as all of it is.
    os.environ["SOURCE_DATE_EPOCH"] = str(time_of_sources())
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder), files)
        # Of several threads each would compress a part, so that their number shows.
        output("dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz", "--build", folder, package)
    print(package)


if __name__ == "__main__":
    main()
