//! A plugin in a uWSGI that it was not built for.

use super::LIMIT;
use super::node::Node;
use super::uwsgi::Uwsgi;

/// Fails the test unless `uwsgi` ends at once with the plugin that was built for `other`, and with its one sentence.
#[track_caller]
pub fn assert_refuses(uwsgi: Uwsgi, other: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugin = other.plugins().join("hetzner_plugin.so");
    let mut node = Node::start(uwsgi, folder.path(), &format!("plugin = {}", plugin.display()), &[]);
    let status = node.wait_for_exit(LIMIT);
    let what = format!("the plugin for {other} in {uwsgi}, which logs:\n{}", node.log());
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{what}");
    let expected = format!(
        "this plugin was built for uWSGI {}, but this is uWSGI {}: it is not loaded",
        other.version(),
        uwsgi.version()
    );
    assert_eq!(node.lines().len(), 1, "{what}");
    assert!(node.lines()[0].starts_with(&expected), "{what}");
    assert!(node.lines()[0].contains("uwsgi --build-plugin"), "{what}");
}
