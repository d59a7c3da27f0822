//! What is so of each command in examples/, before anybody asks it anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lab::uwsgi::checkout;

/// Compiles it as Python 3.9, and names what it imports beside the standard library.
const LOOK: &str = "
import ast, pathlib, sys
text = pathlib.Path(sys.argv[1]).read_text()
tree = ast.parse(text, feature_version=(3, 9))
compile(text, sys.argv[1], 'exec')
names = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
print(*sorted({name.split('.')[0] for name in names} - set(sys.stdlib_module_names)))
";

#[test]
fn each_command_is_python_3_9_with_nothing_but_its_standard_library() {
    let mut found = Vec::new();
    for entry in fs::read_dir(checkout().join("examples")).expect("it is there") {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("UTF-8");
        let name = path.file_name().expect("it has one").to_string_lossy().into_owned();
        let mode = path.metadata().expect("it is there").permissions().mode() & 0o777;
        if !text.starts_with("#!") {
            assert_eq!(mode & 0o111, 0, "{name} is no program");
            continue;
        }
        assert_eq!(mode & 0o111, 0o111, "{name} is not executable");
        let look = Command::new("python3").args(["-I", "-W", "error", "-c", LOOK]).arg(&path).output();
        let look = look.expect("python3 starts");
        assert_eq!(String::from_utf8_lossy(&look.stderr), "", "{name}");
        assert_eq!(String::from_utf8_lossy(&look.stdout), "\n", "{name} imports what is not Python's own");
        found.push(name);
    }
    for name in ["dns-record", "exoscale-eip", "ovh-ip"] {
        assert!(found.iter().any(|found| found == name), "{found:?}");
    }
}
