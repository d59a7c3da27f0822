//! What only a sandbox would do to uWSGI: a library that takes the place of calls into the C library.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` into `folder`; the path goes into LD_PRELOAD.
pub fn build(folder: &Path, source: &str) -> PathBuf {
    let (text, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&text, source).expect("a writable folder");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-D_GNU_SOURCE", "-o"])
        .arg(&library)
        .arg(&text)
        .args(["-ldl", "-lpthread"]);
    assert!(gcc.status().expect("gcc, which uWSGI itself is built with").success());
    library
}
