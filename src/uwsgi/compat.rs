//! Whether the uWSGI that loads the plugin has the same struct layouts as the one that the plugin was built for.
//!
//! uWSGI itself checks nothing. The layouts depend on its version and its build flags, and both are in the compiler flags
//! that it was built with, so those are compared.

/// The flags of the uWSGI that this plugin was built for.
const BUILT_FOR: &str = env!("UWSGI_BUILT_FOR_CFLAGS");

/// What differs, in one sentence, with the command that rebuilds the plugin.
pub fn check(running: &str) -> Result<(), String> {
    compare(BUILT_FOR, running)
}

fn compare(built_for: &str, running: &str) -> Result<(), String> {
    if !running.split_whitespace().any(|flag| flag == "-DUWSGI_SSL") {
        return Err(
            "this uWSGI was built without SSL, so it has no Legion and the hetzner plugin cannot work: install or \
             build a uWSGI with OpenSSL"
                .into(),
        );
    }
    let (built, now) = (layout_flags(built_for), layout_flags(running));
    if built == now {
        return Ok(());
    }
    let (built_version, running_version) = (version(built_for), version(running));
    let difference = if built_version == running_version {
        let only = |a: &[&str], b: &[&str]| {
            let flags: Vec<&str> = a.iter().filter(|flag| !b.contains(flag)).copied().collect();
            if flags.is_empty() { "nothing".into() } else { flags.join(" ") }
        };
        format!(" with other flags (built for: {}; running: {})", only(&built, &now), only(&now, &built))
    } else {
        String::new()
    };
    Err(format!(
        "this plugin was built for uWSGI {built_version}, but this is uWSGI {running_version}{difference}: it is \
         not loaded, because it could misread uWSGI's memory; rebuild it for this uWSGI: PYTHON=python3 uwsgi \
         --build-plugin /path/to/uwsgi-hetzner"
    ))
}

/// The flags that can change a struct: macros, and those for sizes and alignment. Optimisation, warnings and paths
/// cannot, and differ between build machines.
fn layout_flags(cflags: &str) -> Vec<&str> {
    let mut flags: Vec<&str> = cflags
        .split_whitespace()
        .filter(|flag| {
            ["-D", "-U", "-m", "-fpack-struct", "-fshort-"].iter().any(|start| flag.starts_with(start))
                && !flag.starts_with("-DUWSGI_PLUGIN_DIR")
        })
        .collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

fn version(cflags: &str) -> &str {
    let given = cflags.split_whitespace().find_map(|flag| flag.strip_prefix("-DUWSGI_VERSION="));
    given.map_or("of an unknown version", |value| value.trim_matches(['"', '\\']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = r#"-O2 -I. -Wall -D_FILE_OFFSET_BITS=64 -g -ffile-prefix-map=/build/uwsgi-Q8=. -DUWSGI_CAP
        -DUWSGI_VERSION="\"2.0.21-debian\"" -DUWSGI_SSL -DUWSGI_PLUGIN_DIR="\"/usr/lib/uwsgi/plugins\"""#;

    #[test]
    fn accepts_the_same_uwsgi_built_elsewhere() {
        assert_eq!(compare(DEBIAN, DEBIAN), Ok(()));
        let rebuilt =
            DEBIAN.replace("/build/uwsgi-Q8", "/tmp/x").replace("/usr/lib", "/opt").replace("-O2", "-O3");
        assert_ne!(rebuilt, DEBIAN);
        assert_eq!(compare(DEBIAN, &rebuilt), Ok(()));
        assert_eq!(check(BUILT_FOR), Ok(()));
    }

    #[test]
    fn refuses_another_version_and_names_both() {
        let other = DEBIAN.replace("2.0.21-debian", "2.0.31");
        let sentence = compare(DEBIAN, &other).unwrap_err();
        assert!(sentence.starts_with(
            "this plugin was built for uWSGI 2.0.21-debian, but this is uWSGI 2.0.31: it is not loaded"
        ));
        assert!(sentence.contains("uwsgi --build-plugin"));
        assert!(!sentence.contains('\n'));
    }

    #[test]
    fn refuses_other_flags_and_names_them() {
        let sentence = compare(DEBIAN, &DEBIAN.replace("-DUWSGI_CAP", "-DUWSGI_PCRE")).unwrap_err();
        assert!(
            sentence.contains("with other flags (built for: -DUWSGI_CAP; running: -DUWSGI_PCRE)"),
            "{sentence}"
        );
    }

    #[test]
    fn says_that_a_uwsgi_without_ssl_has_no_legion() {
        let sentence = compare(DEBIAN, &DEBIAN.replace("-DUWSGI_SSL", "")).unwrap_err();
        assert!(sentence.starts_with("this uWSGI was built without SSL, so it has no Legion"), "{sentence}");
    }
}
