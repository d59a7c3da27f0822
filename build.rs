//! Builds the C side against the `uwsgi.h` of the uWSGI that will load the plugin.
//!
//! `uwsgi --build-plugin` (through `uwsgiplugin.py`) says which uWSGI that is. Otherwise it is `$UWSGI`, or `uwsgi` or
//! `uwsgi-core` on PATH.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for path in ["build.rs", "include/cbindgen.toml", "include/uwsgi_hetzner.h", "src/uwsgi", "src/plugin.rs"]
    {
        println!("cargo::rerun-if-changed={path}");
    }
    let cflags = find_uwsgi(&out);
    println!("cargo::rustc-env=UWSGI_BUILT_FOR_CFLAGS={cflags}");
    #[cfg(feature = "header")]
    make_header(&out);
    compile_host(&out, &cflags);
    name_the_result(&out);
}

/// Ends the build with one error message.
fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    exit(1);
}

/// Writes the `uwsgi.h` of that uWSGI into `out` and returns the compiler flags it was built with.
fn find_uwsgi(out: &Path) -> String {
    let sum = "HETZNER_UWSGI_SUM";
    for name in ["UWSGI", "PATH", "UWSGI_PLUGINS_BUILDER_CFLAGS", "UWSGI_PLUGINS_BUILDER_HEADER", sum] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let header = out.join("uwsgi.h");
    // `uwsgi --build-plugin` has written the header already and passes the flags.
    if let (Ok(cflags), Some(given)) =
        (env::var("UWSGI_PLUGINS_BUILDER_CFLAGS"), env::var_os("UWSGI_PLUGINS_BUILDER_HEADER"))
    {
        println!("cargo::rerun-if-changed={}", Path::new(&given).display());
        if let Err(error) = fs::copy(&given, &header) {
            fail(&format!("cannot read the header that uWSGI wrote, {given:?}: {error}"));
        }
        return cflags.trim().to_string();
    }
    // Cargo rebuilds when a file is newer than the result, but an upgraded uWSGI often is older: dpkg keeps the date of
    // the package, or a link leads elsewhere. The Makefile passes a checksum of that uWSGI's flags and header; without it
    // uWSGI is asked at each build, because a file that never exists counts as changed.
    if env::var_os(sum).is_none_or(|sum| sum.is_empty()) {
        println!("cargo::rerun-if-changed={}", out.join("asked-each-time").display());
    }
    let candidates: Vec<String> = match env::var("UWSGI") {
        Ok(uwsgi) if !uwsgi.is_empty() => vec![uwsgi],
        _ => vec!["uwsgi".into(), "uwsgi-core".into()],
    };
    for uwsgi in &candidates {
        if let (Some(cflags), Some(dot_h)) = (ask(uwsgi, "--cflags"), ask(uwsgi, "--dot-h")) {
            fs::write(&header, dot_h).expect("OUT_DIR is writable");
            return String::from_utf8_lossy(&cflags).trim().to_string();
        }
    }
    fail(&format!(
        "no uWSGI found that answers --cflags and --dot-h (tried: {}): install one (Debian: apt install uwsgi-core \
         uwsgi-dev) or give its path: \
         UWSGI=/path/to/uwsgi cargo build --release",
        candidates.join(", ")
    ));
}

fn ask(uwsgi: &str, option: &str) -> Option<Vec<u8>> {
    let output = Command::new(uwsgi).arg(option).output().ok()?;
    (output.status.success() && !output.stdout.is_empty()).then_some(output.stdout)
}

/// Generates the C header of `src/uwsgi/abi.rs`, `src/uwsgi/calls.rs` and `src/plugin.rs` into `out`, and over the committed
/// one if `UPDATE_HEADER` is set. Only for `make header` and the test that compares the two: a build of the plugin does
/// not need cbindgen.
#[cfg(feature = "header")]
fn make_header(out: &Path) {
    println!("cargo::rerun-if-env-changed=UPDATE_HEADER");
    let config =
        cbindgen::Config::from_file("include/cbindgen.toml").expect("include/cbindgen.toml is valid");
    let sources = cbindgen::Builder::new()
        .with_config(config)
        .with_src("src/uwsgi/abi.rs")
        .with_src("src/uwsgi/calls.rs")
        .with_src("src/plugin.rs");
    let bindings = match sources.generate() {
        Ok(bindings) => bindings,
        Err(error) => fail(&format!("cbindgen failed: {error}")),
    };
    bindings.write_to_file(out.join("uwsgi_hetzner.h"));
    if env::var_os("UPDATE_HEADER").is_some() {
        bindings.write_to_file("include/uwsgi_hetzner.h");
    }
}

fn compile_host(out: &Path, cflags: &str) {
    let mut build = cc::Build::new();
    build.include(out).include("include").warnings(false).flag("-fvisibility=hidden");
    let Some(flags) = shlex::split(cflags) else {
        fail("cannot split the output of uwsgi --cflags into compiler flags: is a quote missing?");
    };
    // -I. meant the folder in which uWSGI itself was built.
    for flag in flags.iter().filter(|flag| *flag != "-I.") {
        build.flag(flag);
    }
    let probe = out.join("probe.c");
    fs::write(&probe, "#include \"uwsgi.h\"\n").expect("OUT_DIR is writable");
    if build.clone().file(&probe).try_compile("probe").is_err() {
        fail(
            "the uwsgi.h of this uWSGI does not compile here: it needs a C compiler and the headers of the \
             libraries that uWSGI was built with (Debian: apt install gcc libssl-dev libpcre3-dev libcap-dev \
             uuid-dev zlib1g-dev)",
        );
    }
    let sources = ["src/uwsgi/calls.c", "src/uwsgi/structs.c"];
    if build.files(sources).try_compile("hetzner_calls").is_err() {
        fail("src/uwsgi does not compile with this uWSGI: see the compiler errors above");
    }
}

/// uWSGI looks for `hetzner_plugin.so`, but cargo can only build `libhetzner_plugin.so`: so a link is put beside it.
fn name_the_result(out: &Path) {
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out.
    let Some(folder) = out.ancestors().nth(3) else { return };
    let link = folder.join("hetzner_plugin.so");
    if fs::symlink_metadata(&link).is_err() {
        std::os::unix::fs::symlink("libhetzner_plugin.so", &link).expect("the target folder is writable");
    }
}
