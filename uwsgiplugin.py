"""For `uwsgi --build-plugin`: has cargo build the plugin.

uWSGI executes this file, links the objects in GCC_LIST, then calls post_build(). Cargo has linked the plugin
already, so the link step gets an empty source, and post_build() replaces its result with cargo's: both ways
to build give the same file.
"""

import json
import os
import re
import shutil
import subprocess
import sys

NAME = 'hetzner'
GCC_LIST = []
LIBS = ['-x', 'c', '/dev/null']

# uWSGI executes the text of this file, so there is no __file__; the caller's `path` is its folder.
FOLDER = os.path.abspath(sys._getframe(1).f_locals.get('path', '.'))


def version(text):
    """The first version number in text as a tuple that can be compared: (1, 85) for '1.85'."""
    found = re.search(r'(\d+)\.(\d+)', text)
    return tuple(int(part) for part in found.groups()) if found else (0, 0)


def check_cargo():
    """Ends the build with one error message if cargo is missing or too old."""
    with open(os.path.join(FOLDER, 'Cargo.toml')) as manifest:
        needed = re.search(r'^rust-version = "(.*)"', manifest.read(), re.MULTILINE).group(1)
    how = 'install one (Debian 12: apt install cargo-web rustc-web; elsewhere: rustup)'
    try:
        found = subprocess.check_output(['cargo', '--version'], cwd=FOLDER).decode()
    except (OSError, subprocess.CalledProcessError):
        sys.exit('building uwsgi-hetzner needs cargo %s or newer, but no cargo was found on PATH: %s' % (needed, how))
    if version(found) < version(needed):
        sys.exit('building uwsgi-hetzner needs cargo %s or newer, but this is %s: %s' % (needed, found.strip(), how))


def build():
    """Builds the plugin against the header that uWSGI has just written; returns its path."""
    check_cargo()
    env = dict(os.environ, UWSGI_PLUGINS_BUILDER_HEADER=os.path.abspath('.uwsgi_plugins_builder/uwsgi.h'))
    command = ['cargo', 'build', '--release', '--locked', '--message-format=json-render-diagnostics']
    cargo = subprocess.run(command, cwd=FOLDER, env=env, stdout=subprocess.PIPE)
    if cargo.returncode:
        sys.exit('uwsgi-hetzner was not built: see the errors of cargo above')
    for message in map(json.loads, cargo.stdout.decode().splitlines()):
        if message['reason'] == 'compiler-artifact' and message['target']['name'] == 'hetzner_plugin':
            return message['filenames'][0]
    sys.exit('uwsgi-hetzner was not built: cargo reported no library')


PLUGIN = build()


def post_build(config):
    # A running uWSGI may have mapped the old file, so it is replaced, not overwritten.
    shutil.copy(PLUGIN, NAME + '_plugin.so.new')
    os.replace(NAME + '_plugin.so.new', NAME + '_plugin.so')
