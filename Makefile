# The verbs of the project; each makes what it needs.
#
#   make          hetzner_plugin.so for the uWSGI found: $UWSGI, or uwsgi or uwsgi-core on PATH
#   make install  puts it into the folder where that uWSGI looks for plugins, or into PLUGIN_DIR; DESTDIR is honoured
#   make deb      a Debian package of it in target/, for Debian's uwsgi-core
#   make demo     three nodes on this machine, and a failover IP that follows the Lord
#   make test     all tests, on Debian's uWSGI and on PyPI's
#   make chaos    random fault schedules on real nodes: N=500 SEED=1 JOBS=8, PLUGIN=/path/to/another_plugin.so,
#                 KINDS=old for clean nodes alone
#   make fuzz     random input for the two parsers, led by what it reaches: RUNS=1000000 each; needs g++
#   make versions the plugin built for, and run in, each uWSGI of PyPI's from 2.0.15 on, and Debian's
#   make bench    what the plugin costs: PARTS="cost weight failover growth idle", PEER=/path/to/other/hetzner_plugin.so
#   make soak     10,000 takeovers in one process, and uWSGI under valgrind: TAKEOVERS=10000; nothing may be left behind
#   make check    format, lints, dependencies
#   make picture  the demo's failover with a switch as long as Hetzner's: tests/failover.svg
#   make header   renews include/uwsgi_hetzner.h after a change to src/host/abi.rs or src/plugin.rs
#   make clean    removes whatever these have made, but for installed packages

PYTHON ?= python3
export PYTHON

# Where a compiler finds headers that tests/get-uwsgi.py had to unpack, because it was not root.
-include target/uwsgi/env.mk

SOURCES := build.rs Cargo.toml Cargo.lock uwsgiplugin.py $(shell find src include -type f)

# The demo needs one uWSGI: Debian's where it can be installed.
DEMO_UWSGI := $(if $(filter 0,$(shell id -u)),debian,pypi)

# What a uWSGI says of itself, in short. build.rs reads it from the environment, since cargo cannot watch what a program
# says, and does not see that its file is another one when that is older than what was built: so an upgrade's often is.
sum = $$({ $(1) --cflags && $(1) --dot-h; } 2>/dev/null | sha256sum | cut -c-64)

by = UWSGI=$(1) HETZNER_UWSGI_SUM=$(call sum,$(1))

# For cargo, which builds the tests' own copy of the plugin against some uWSGI.
ANY_UWSGI = $(call by,$(CURDIR)/target/uwsgi/$(DEMO_UWSGI))

# As build.rs finds it: the first that answers.
FOUND_UWSGI = $(firstword $(foreach uwsgi,$(or $(UWSGI),uwsgi uwsgi-core),\
	$(if $(shell $(uwsgi) --dot-h 2>/dev/null | head -c 1),$(uwsgi))))

FOUND_SUM = HETZNER_UWSGI_SUM=$(call sum,$(FOUND_UWSGI))

PLUGIN_DIR ?= $(if $(FOUND_UWSGI),$(shell $(FOUND_UWSGI) --cflags | sed -n 's/.*-DUWSGI_PLUGIN_DIR="\\"\([^"]*\)\\"".*/\1/p'))

.PHONY: all install deb demo picture test chaos fuzz versions bench soak check header clean get-uwsgi get-debian get-pypi \
	get-valgrind run-tests chaos-program versions-program soak-program bench-program demo-program fuzz-options \
	fuzz-answer fuzz-build plugin-dependencies program-dependencies demo-parts FORCE

# Where the result is, is not left to the user's own settings for cargo: an old one might be there.
all:
	$(FOUND_SUM) cargo build --release --locked --target-dir target
	cp --remove-destination -L target/release/hetzner_plugin.so hetzner_plugin.so

# What is wrong with the folder is said before there is a long build; that there is no uWSGI, the build says better.
install:
	@case '$(if $(FOUND_UWSGI),$(PLUGIN_DIR),/)' in /*) ;; *) \
		echo 'make install: $(FOUND_UWSGI) looks for plugins in "$(PLUGIN_DIR)", which depends on where it is' \
			'started: say the folder, make install PLUGIN_DIR=/usr/local/lib/uwsgi, and in the ini' \
			'plugins-dir = /usr/local/lib/uwsgi' >&2; exit 1;; esac
	@$(MAKE) --no-print-directory all
	install -D -m 644 hetzner_plugin.so '$(DESTDIR)$(PLUGIN_DIR)/hetzner_plugin.so'

deb: all
	@$(PYTHON) debian/build.py '$(FOUND_UWSGI)' hetzner_plugin.so target

demo: demo-parts
	@target/debug/demo

picture: demo-parts
	@target/debug/demo tests/failover.svg

# In two steps, since the second needs what the first finds out; side by side within each, to save time.
demo-parts:
	@$(MAKE) --no-print-directory -j3 get-$(DEMO_UWSGI) plugin-dependencies program-dependencies
	@$(MAKE) --no-print-directory -j2 target/plugins/$(DEMO_UWSGI)/hetzner_plugin.so demo-program

test:
	@$(MAKE) --no-print-directory -j3 get-uwsgi plugin-dependencies program-dependencies
	@$(MAKE) --no-print-directory target/plugins/debian/hetzner_plugin.so target/plugins/pypi/hetzner_plugin.so
	@$(MAKE) --no-print-directory run-tests

# The table of answers has the machine to itself: its rows have a second each. The others wait for real seconds, and
# hardly compute, so that many run at a time.
run-tests:
	$(ANY_UWSGI) cargo test --locked --features header --test tests -- answers::
	$(ANY_UWSGI) cargo test --locked --workspace --features header -- --test-threads=48 --skip answers::

# So many, from this seed on, so many at a time; each takes a minute or two.
N ?= 20
SEED ?= 1
JOBS ?= 8

chaos:
	@$(MAKE) --no-print-directory -j2 get-uwsgi plugin-dependencies
	@$(MAKE) --no-print-directory target/plugins/debian/hetzner_plugin.so target/plugins/pypi/hetzner_plugin.so
	@$(MAKE) --no-print-directory chaos-program
	@target/debug/chaos $(N) $(SEED) $(JOBS)

# Coverage as libFuzzer wants it, by stable Rust's own LLVM; with --target, so that build scripts are spared.
RUNS ?= 1000000
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1

fuzz: fuzz-options fuzz-answer

# Longer lists of keys bring nothing new, and take their time; a long message has to be cut.
fuzz-options: LONGEST = 256
fuzz-answer: LONGEST = 1024

# New input is kept in target/fuzz/corpus, and what fails in target/fuzz/found; a file as argument is tried alone.
fuzz-options fuzz-answer: fuzz-%: fuzz-build
	@mkdir -p target/fuzz/corpus/$* target/fuzz/found
	@target/fuzz/$(FUZZ_HOST)/release/$* -runs=$(RUNS) -max_len=$(LONGEST) -timeout=10 -rss_limit_mb=1024 \
		-dict=fuzz/$*.dict -artifact_prefix=target/fuzz/found/$*- -print_final_stats=1 \
		target/fuzz/corpus/$* fuzz/corpus/$*

fuzz-build:
	@RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --release --locked --manifest-path fuzz/Cargo.toml \
		--target $(FUZZ_HOST) --target-dir target/fuzz

# What does not build is missing in the table at the end, and keeps nothing else from being there.
versions:
	@$(MAKE) --no-print-directory -j2 get-debian plugin-dependencies
	@tests/get-uwsgi.py versions
	@$(MAKE) --no-print-directory -k target/plugins/debian/hetzner_plugin.so \
		$$(sed -n 's|^[^ ]*$$|target/plugins/&/hetzner_plugin.so|p' target/uwsgi/versions) || true
	@$(MAKE) --no-print-directory versions-program
	@target/debug/versions

# All parts, if none are named; half an hour with another plugin.
PARTS ?=

# Its programs are optimised like the plugin, since one of them is what the plugin is compared with.
bench:
	@$(MAKE) --no-print-directory -j2 get-pypi plugin-dependencies
	@$(MAKE) --no-print-directory target/plugins/pypi/hetzner_plugin.so
	@$(MAKE) --no-print-directory bench-program
	@PEER='$(PEER)' target/release/bench $(PARTS)

TAKEOVERS ?= 10000

soak: get-valgrind
	@$(MAKE) --no-print-directory -j2 get-uwsgi plugin-dependencies
	@$(MAKE) --no-print-directory $(foreach uwsgi,debian pypi debian-readable pypi-readable,\
		target/plugins/$(uwsgi)/hetzner_plugin.so)
	@$(MAKE) --no-print-directory soak-program
	@target/debug/soak $(TAKEOVERS)

check:
	cargo fmt --all --check
	@# One by one: cargo fmt would look for the modules' own tests below fuzz/.
	for file in fuzz/*.rs; do rustfmt --check --edition 2024 <$$file || exit 1; done
	$(ANY_UWSGI) cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
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

# It starts only where it finds the names in the C library, which are in a package of their own.
get-valgrind:
	@valgrind --quiet true 2>/dev/null || if [ $$(id -u) = 0 ]; then \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends valgrind libc6-dbg >/dev/null; \
	else echo 'make soak needs valgrind: as root, apt-get install valgrind libc6-dbg' >&2; exit 1; fi

# Compile what can be compiled before there is a uWSGI; what cannot be fails, and is built in the next step.
plugin-dependencies:
	@$(FOUND_SUM) cargo build --release --locked --keep-going --quiet 2>/dev/null || true

program-dependencies:
	@$(FOUND_SUM) cargo build --locked --keep-going --quiet -p lab --bin demo 2>/dev/null || true

# Whatever needs a uWSGI's headers is made by a make of its own, which reads env.mk when that is there.
demo-program chaos-program versions-program soak-program: %-program:
	@$(ANY_UWSGI) cargo build --locked --quiet -p lab --bin $*

bench-program:
	@$(call by,$(CURDIR)/target/uwsgi/pypi) cargo build --release --locked --quiet -p lab --bin bench

# By the uWSGI that $* is; what is given is set in the environment. An older one, of sources that did build, must not
# pass for this one.
build-plugin = mkdir -p $(@D) && cd $(@D) && env -u MAKEFLAGS $(1) $(CURDIR)/target/uwsgi/$* --build-plugin $(CURDIR) \
	>build.log 2>&1 || { rm -f hetzner_plugin.so; cat build.log; exit 1; }

target/plugins/%/hetzner_plugin.so: $(SOURCES) target/uwsgi/%.sum
	$(call build-plugin)

# With the names of its functions, for valgrind; in a target folder of its own, since cargo keeps but one of a profile.
target/plugins/%-readable/hetzner_plugin.so: $(SOURCES) target/uwsgi/%.sum
	$(call build-plugin,CARGO_TARGET_DIR=$(CURDIR)/target/readable CARGO_PROFILE_RELEASE_DEBUG=1 CARGO_PROFILE_RELEASE_STRIP=none)

# Is written only when it is another one, so that what was built for that uWSGI is built anew then, and only then.
target/uwsgi/%.sum: FORCE
	@sum=$(call sum,target/uwsgi/$*); [ "$$sum" = "$$(cat $@ 2>/dev/null)" ] || echo "$$sum" >$@

.PRECIOUS: target/uwsgi/%.sum
