# The verbs of the project; each makes what it needs.

PYTHON ?= python3
export PYTHON

# Where a compiler finds headers that tests/get-uwsgi.py had to unpack, because it was not root.
-include target/uwsgi/env.mk

SOURCES := build.rs Cargo.toml Cargo.lock uwsgiplugin.py $(shell find src include -type f)

.PHONY: all test demo header fmt lint uwsgi plugins clean

all:
	cargo build --release --locked
	cp --remove-destination -L target/release/hetzner_plugin.so hetzner_plugin.so

# Both uWSGIs come first: what they need to compile is known only then.
test: uwsgi
	$(MAKE) plugins
	cargo test --locked -- --test-threads=6

uwsgi:
	tests/get-uwsgi.py

plugins: target/plugins/debian/hetzner_plugin.so target/plugins/pypi/hetzner_plugin.so

target/plugins/%/hetzner_plugin.so: $(SOURCES)
	mkdir -p $(@D)
	cd $(@D) && $(CURDIR)/target/uwsgi/$* --build-plugin $(CURDIR)

# After a change to src/host/abi.rs or src/plugin.rs.
header:
	UPDATE_HEADER=1 cargo build --release --locked

clean:
	cargo clean
	rm -rf .uwsgi_plugins_builder hetzner_plugin.so
