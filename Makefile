# `make help` lists the verbs.

# Whatever cargo is configured to: otherwise an old result in target/ might be installed.
export CARGO_TARGET_DIR := $(CURDIR)/target

# Where the compiler finds headers that `make test` had to unpack because it did not run as root.
HEADERS = [ ! -e target/uwsgi/env ] || . target/uwsgi/env;

# The uWSGI to build for, found as build.rs finds it: the first that answers.
FOUND = $(firstword $(foreach uwsgi,$(or $(UWSGI),uwsgi uwsgi-core),\
	$(if $(shell $(uwsgi) --dot-h 2>/dev/null | head -c 1),$(uwsgi))))

# A checksum of what it says of itself. build.rs reads it from the environment: cargo cannot watch a program's output, and
# does not notice a new file that is older than the last build, which after an upgrade it often is.
SUM = $$({ $(FOUND) --cflags && $(FOUND) --dot-h; } 2>/dev/null | sha256sum | cut -c-64)

PLUGIN_DIR ?= $(if $(FOUND),$(shell $(FOUND) --cflags | sed -n 's/.*-DUWSGI_PLUGIN_DIR="\\"\([^"]*\)\\"".*/\1/p'))

LAB := --no-print-directory -f tests/lab/Makefile
IN_THE_LAB := demo picture month chaos fuzz $(patsubst fuzz/%.rs,fuzz-%,$(wildcard fuzz/*.rs)) versions bench soak

.NOTPARALLEL:
.PHONY: all install plugin-dir deb test check clean header help $(IN_THE_LAB)

all: ## hetzner_plugin.so for the uWSGI found: $UWSGI, or uwsgi or uwsgi-core on PATH
	$(HEADERS) HETZNER_UWSGI_SUM=$(SUM) cargo build --release --locked
	cp --remove-destination -L target/release/hetzner_plugin.so hetzner_plugin.so

install: plugin-dir all ## install it where that uWSGI looks for plugins, or in PLUGIN_DIR; honours DESTDIR
	install -D -m 644 hetzner_plugin.so '$(DESTDIR)$(PLUGIN_DIR)/hetzner_plugin.so'

# Complains about the folder before a long build. If there is no uWSGI at all, the build has the better message.
plugin-dir:
	@case '$(if $(FOUND),$(PLUGIN_DIR),/)' in /*) ;; *) \
		echo 'make install: $(FOUND) looks for plugins in "$(PLUGIN_DIR)", which depends on where it is' \
			'started: say the folder, make install PLUGIN_DIR=/usr/local/lib/uwsgi, and in the ini' \
			'plugins-dir = /usr/local/lib/uwsgi' >&2; exit 1;; esac

deb: ## a Debian package in target/, for Debian's uwsgi-core; `apt build-dep .` installs what it needs
	DEB_DIR=target dpkg-buildpackage --rules-target=clean,binary

test: ## all tests, on Debian's uWSGI and on PyPI's
	@$(MAKE) $(LAB) test

check: ## format, lints, the generated header, dependencies
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	@$(MAKE) $(LAB) lint
	if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; fi

clean: ## remove what the others made, except installed packages
	cargo clean
	rm -rf .uwsgi_plugins_builder hetzner_plugin.so debian/.debhelper debian/debhelper-build-stamp debian/files \
		debian/uwsgi-plugin-hetzner*

# Regenerates include/uwsgi_hetzner.h after a change to src/uwsgi/abi.rs or src/plugin.rs.
header:
	$(HEADERS) UPDATE_HEADER=1 cargo build --locked --features header

$(IN_THE_LAB):
	@$(MAKE) $(LAB) $@

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
	@echo 'Also: header; and, explained by make -f tests/lab/Makefile: $(filter-out fuzz-%,$(IN_THE_LAB))'
