//! The uWSGIs that the tests run, each with the plugin built for it. `make` puts both there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One real uWSGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uwsgi {
    /// Debian's `uwsgi-core`, 2.0.21.
    Debian,
    /// PyPI's newest.
    Pypi,
    /// By its name: one of those that only `make versions` makes, `pypi-2.0.15`, or `demo`, which is one of the others.
    Named(&'static str),
}

impl Uwsgi {
    /// Those of `make test`, for tests of what may depend on the version.
    pub const ALL: [Uwsgi; 2] = [Uwsgi::Debian, Uwsgi::Pypi];

    /// PyPI's newest without SSL, and so without Legion: in which no plugin of ours is of any use.
    pub fn without_ssl() -> PathBuf {
        existing(checkout().join("target/uwsgi/nossl"))
    }

    fn name(self) -> &'static str {
        match self {
            Uwsgi::Debian => "debian",
            Uwsgi::Pypi => "pypi",
            Uwsgi::Named(name) => name,
        }
    }

    /// Whether the plugin was built for it.
    pub fn is_there(self) -> bool {
        checkout().join("target/plugins").join(self.name()).join("hetzner_plugin.so").exists()
    }

    /// The program, as `tests/lab/get-uwsgi.py` has left it.
    pub fn program(self) -> PathBuf {
        existing(checkout().join("target/uwsgi").join(self.name()))
    }

    /// The folder that holds `hetzner_plugin.so`, built by this uWSGI's `--build-plugin`.
    pub fn plugins(self) -> PathBuf {
        let folder = checkout().join("target/plugins").join(self.name());
        existing(folder.join("hetzner_plugin.so"));
        folder
    }

    /// As it stands in the plugin's sentences.
    pub fn version(self) -> String {
        self.ask("--version").trim().to_string()
    }

    /// The plugin for it with the names of its functions, which `make soak` builds.
    pub fn readable_plugin(self) -> PathBuf {
        let folder = checkout().join("target/plugins").join(format!("{}-readable", self.name()));
        existing(folder.join("hetzner_plugin.so"))
    }

    /// What it prints for `option`.
    pub fn ask(self, option: &str) -> String {
        let output = Command::new(self.program()).arg(option).output().expect("uWSGI starts");
        assert!(output.status.success(), "{self} {option}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl fmt::Display for Uwsgi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The project's folder: the plugin's Cargo.toml is in it.
pub fn checkout() -> &'static Path {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.ancestors().nth(2).expect("the lab is in tests/lab")
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run `make test` or `make demo`, which make it", path.display());
    path
}
