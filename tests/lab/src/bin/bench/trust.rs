//! The system's trust store with the stand-in's CA in it, and nothing changed on the machine: this program runs in a
//! mount namespace of its own, where a longer file lies over the system's bundle.
//!
//! `SSL_CERT_FILE` alone would not do: libcurl does not read it, and who reads it leaves out the folder beside the
//! bundle, which is a part of the system's store, and of the cost.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Set in the namespace, so that it is entered once.
const INSIDE: &str = "BENCH_IN_OWN_NAMESPACE";

/// Begins this program anew in a namespace of its own, where that is possible. Before there is any thread.
pub fn enter_own_namespace() {
    if env::var_os(INSIDE).is_some() {
        return;
    }
    // The second way is for who is not root.
    for options in [&["--mount"][..], &["--mount", "--map-root-user"]] {
        let mut try_it = Command::new("unshare");
        try_it.args(options).arg("true").stderr(Stdio::null());
        if try_it.status().is_ok_and(|status| status.success()) {
            let Ok(this) = env::current_exe() else { return };
            let mut again = Command::new("unshare");
            let error = again.args(options).arg(this).args(env::args_os().skip(1)).env(INSIDE, "1").exec();
            eprintln!("no namespace of its own: {error}");
            return;
        }
    }
}

/// As long as it lives, whoever is started trusts one more CA.
pub struct Trust {
    folder: TempDir,
    mounted: bool,
}

impl Trust {
    /// Makes the system trust the CA in this PEM.
    pub fn in_ca(ca: &Path) -> Trust {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bundle =
            [fs::read(BUNDLE).unwrap_or_default(), fs::read(ca).expect("the stand-in's CA")].concat();
        let file = folder.path().join("bundle.pem");
        fs::write(&file, bundle).expect("the folder is writable");
        let mounted = env::var_os(INSIDE).is_some() && {
            let mount = Command::new("mount").arg("--bind").arg(file).arg(BUNDLE).status();
            mount.is_ok_and(|status| status.success())
        };
        if !mounted {
            eprintln!(
                "No file can be laid over {BUNDLE} here: SSL_CERT_FILE replaces the trust store, which is less."
            );
        }
        Trust { folder, mounted }
    }

    /// Whether the system's store as a whole is trusted, rather than a file that a variable names.
    pub fn is_the_systems(&self) -> bool {
        self.mounted
    }

    /// For whoever is to trust it.
    pub fn env(&self) -> Vec<(String, String)> {
        let bundle = self.folder.path().join("bundle.pem").display().to_string();
        if self.mounted { Vec::new() } else { vec![("SSL_CERT_FILE".into(), bundle)] }
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        if self.mounted {
            // It would go with the namespace; here it makes room for the next one.
            let _ = Command::new("umount").arg(BUNDLE).status();
        }
    }
}
