# `make help` says what can be made here.

# A result is where it is looked for, whatever cargo is set to: an old one might be there.
export CARGO_TARGET_DIR := $(CURDIR)/target

# Headers that the lab had to unpack, because it was not root.
HEADERS = [ ! -e target/uwsgi/env ] || . target/uwsgi/env;

# As build.rs finds it: the first that answers.
FOUND = $(firstword $(foreach uwsgi,$(or $(UWSGI),uwsgi uwsgi-core),\
	$(if $(shell $(uwsgi) --dot-h 2>/dev/null | head -c 1),$(uwsgi))))

# What it says of itself, in short. build.rs reads that from the environment, since cargo cannot watch what a program
# says, and does not see that its file is another one when that is older than what was built: so an upgrade's often is.
SUM = $$({ $(FOUND) --cflags && $(FOUND) --dot-h; } 2>/dev/null | sha256sum | cut -c-64)

PLUGIN_DIR ?= $(if $(FOUND),$(shell $(FOUND) --cflags | sed -n 's/.*-DUWSGI_PLUGIN_DIR="\\"\([^"]*\)\\"".*/\1/p'))

LAB := --no-print-directory -f tests/lab/Makefile
IN_THE_LAB := demo picture chaos fuzz $(patsubst fuzz/%.rs,fuzz-%,$(wildcard fuzz/*.rs)) versions bench soak

.NOTPARALLEL:
.PHONY: all install plugin-dir deb test check clean header help $(IN_THE_LAB)

all: ## hetzner_plugin.so for the uWSGI found: $UWSGI, or uwsgi or uwsgi-core on PATH
	$(HEADERS) HETZNER_UWSGI_SUM=$(SUM) cargo build --release --locked
	cp --remove-destination -L target/release/hetzner_plugin.so hetzner_plugin.so

install: plugin-dir all ## puts it into the folder where that uWSGI looks for plugins, or PLUGIN_DIR; DESTDIR is honoured
	install -D -m 644 hetzner_plugin.so '$(DESTDIR)$(PLUGIN_DIR)/hetzner_plugin.so'

# What is wrong with the folder is said before there is a long build; that there is no uWSGI, the build says better.
plugin-dir:
	@case '$(if $(FOUND),$(PLUGIN_DIR),/)' in /*) ;; *) \
		echo 'make install: $(FOUND) looks for plugins in "$(PLUGIN_DIR)", which depends on where it is' \
			'started: say the folder, make install PLUGIN_DIR=/usr/local/lib/uwsgi, and in the ini' \
			'plugins-dir = /usr/local/lib/uwsgi' >&2; exit 1;; esac

deb: ## a Debian package of it in target/, for Debian's uwsgi-core; apt build-dep . gets what that needs
	DEB_DIR=target dpkg-buildpackage --rules-target=clean,binary

test: ## all tests, on Debian's uWSGI and on PyPI's
	@$(MAKE) $(LAB) test

check: ## format, lints, the generated header, dependencies
	cargo fmt --all --check
	@# One by one: cargo fmt would look for the modules' own tests below fuzz/.
	for file in fuzz/*.rs; do rustfmt --check --edition 2024 <$$file || exit 1; done
	@$(MAKE) $(LAB) lint
	if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; fi

clean: ## removes whatever these have made, but for installed packages
	cargo clean
	rm -rf .uwsgi_plugins_builder hetzner_plugin.so

# Renews include/uwsgi_hetzner.h after a change to src/uwsgi/abi.rs or src/plugin.rs.
header:
	$(HEADERS) UPDATE_HEADER=1 cargo build --locked --features header

$(IN_THE_LAB):
	@$(MAKE) $(LAB) $@

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
	@echo 'and header, and what make -f tests/lab/Makefile explains: $(filter-out fuzz-%,$(IN_THE_LAB))'
