//! The sides that are measured, and a node that has one of them.

use std::path::{Path, PathBuf};

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::uwsgi::Uwsgi;
use tempfile::TempDir;

/// PyPI's, because whoever builds the C plugin from source builds it for that one.
pub const UWSGI: Uwsgi = Uwsgi::Pypi;

/// Whose figure it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Ours,
    /// The other plugin.
    Peer,
    /// uWSGI's own `cmd:`, with curl.
    Command,
    /// The least that it could be.
    Limit,
}

/// What is there to be measured.
pub struct Sides {
    pub peer: Option<PathBuf>,
}

impl Sides {
    pub fn new(peer: Option<PathBuf>) -> Result<Sides, String> {
        let peer = peer.map(|path| match path.canonicalize() {
            // Under another name uWSGI does not find its symbol.
            Ok(path) if path.ends_with("hetzner_plugin.so") => Ok(path),
            Ok(path) => {
                Err(format!("PEER={}: expected a path that ends in /hetzner_plugin.so", path.display()))
            }
            Err(error) => Err(format!("PEER={}: {error}", path.display())),
        });
        Ok(Sides { peer: peer.transpose()? })
    }

    /// The sides that are plugins, each with its file.
    pub fn plugins(&self) -> Vec<(Side, PathBuf)> {
        let ours = (Side::Ours, UWSGI.plugins().join("hetzner_plugin.so"));
        let peer = self.peer.iter().map(|path| (Side::Peer, path.clone()));
        std::iter::once(ours).chain(peer).collect()
    }
}

/// A node that is alone in its Legion.
pub struct Lone {
    pub node: Node,
    _folder: TempDir,
}

impl Lone {
    /// Starts one with this plugin, if any, and these lines in its ini.
    pub fn start(plugin: Option<&Path>, lines: &str, env: &[(String, String)]) -> Lone {
        Lone::start_in(tempfile::tempdir().expect("a temporary folder"), plugin, lines, env)
    }

    /// The same, in a folder that holds something already.
    pub fn start_in(folder: TempDir, plugin: Option<&Path>, lines: &str, env: &[(String, String)]) -> Lone {
        let plugin = plugin.map(|path| format!("plugin = {}\n", path.display())).unwrap_or_default();
        let legion =
            format!("legion = {LEGION} {} 9999 aes-128-cbc:secret1\nlegion-freq = 1\n", free_address());
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let node = Node::start(UWSGI, folder.path(), &format!("{plugin}{legion}{lines}"), &env);
        Lone { node, _folder: folder }
    }

    /// The last lines of its log, for a measurement that failed.
    pub fn last_lines(&self) -> String {
        let log = self.node.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}
