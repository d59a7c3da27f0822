# The verbs of the project; each makes what it needs.
#
#   make         hetzner_plugin.so for the uWSGI found: $UWSGI, or uwsgi or uwsgi-core on PATH
#   make demo    three nodes on this machine, and a failover IP that follows the Lord
#   make test    all tests, on Debian's uWSGI and on PyPI's
#   make check   format, lints, dependencies
#   make header  renews include/uwsgi_hetzner.h after a change to src/host/abi.rs or src/plugin.rs
#   make clean   removes whatever these have made, but for installed packages

PYTHON ?= python3
export PYTHON

# Where a compiler finds headers that tests/get-uwsgi.py had to unpack, because it was not root.
-include target/uwsgi/env.mk

SOURCES := build.rs Cargo.toml Cargo.lock uwsgiplugin.py $(shell find src include -type f)

# The demo needs one uWSGI: Debian's where it can be installed.
DEMO_UWSGI := $(if $(filter 0,$(shell id -u)),debian,pypi)

# For cargo, which builds the tests' own copy of the plugin against some uWSGI.
ANY_UWSGI = UWSGI=$(CURDIR)/target/uwsgi/$(DEMO_UWSGI)

.PHONY: all demo test check header clean get-uwsgi get-debian get-pypi plugin-dependencies \
	program-dependencies demo-program

all:
	cargo build --release --locked
	cp --remove-destination -L target/release/hetzner_plugin.so hetzner_plugin.so

# In two steps, since the second needs what the first finds out; side by side within each, to save time.
demo:
	@$(MAKE) --no-print-directory -j3 get-$(DEMO_UWSGI) plugin-dependencies program-dependencies
	@$(MAKE) --no-print-directory -j2 target/plugins/$(DEMO_UWSGI)/hetzner_plugin.so demo-program
	@target/debug/examples/demo

test:
	@$(MAKE) --no-print-directory -j3 get-uwsgi plugin-dependencies program-dependencies
	@$(MAKE) --no-print-directory target/plugins/debian/hetzner_plugin.so target/plugins/pypi/hetzner_plugin.so
	@# So many threads because the tests wait for real seconds, and hardly compute.
	$(ANY_UWSGI) cargo test --locked --features header -- --test-threads=32

check:
	cargo fmt --check
	$(ANY_UWSGI) cargo clippy --locked --all-targets --all-features -- -D warnings
	if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; fi

header:
	UPDATE_HEADER=1 cargo build --locked --features header

clean:
	cargo clean
	rm -rf .uwsgi_plugins_builder hetzner_plugin.so

get-uwsgi:
	@tests/get-uwsgi.py

get-debian get-pypi: get-%:
	@tests/get-uwsgi.py $*

# Compile what can be compiled before there is a uWSGI; what cannot be fails, and is built in the next step.
plugin-dependencies:
	@cargo build --release --locked --keep-going --quiet 2>/dev/null || true

program-dependencies:
	@cargo build --locked --keep-going --quiet --example demo 2>/dev/null || true

demo-program:
	@$(ANY_UWSGI) cargo build --locked --quiet --example demo

target/plugins/%/hetzner_plugin.so: $(SOURCES)
	@mkdir -p $(@D)
	cd $(@D) && env -u MAKEFLAGS $(CURDIR)/target/uwsgi/$* --build-plugin $(CURDIR) >build.log 2>&1 || { cat build.log; exit 1; }
