//! What a Legion's check may be: `http://HOST[:PORT]/PATH`, `tcp://HOST:PORT`, or a command with arguments.

use std::ffi::CString;
use std::fmt;

use ureq::http::Uri;

use super::host_of;
use super::url::has_invalid_port;
use crate::text::printable;

#[derive(Clone, PartialEq, Eq)]
pub enum Check {
    /// Passes with an answer from 200 to 399.
    Http(Uri),
    /// Passes if it can be connected to.
    Tcp { host: String, port: u16 },
    /// The program, which is an absolute path, and its arguments. Passes with exit status 0.
    Command(Vec<CString>),
}

const A_CHECK: &str =
    "expected http://HOST[:PORT]/PATH, tcp://HOST:PORT, or a command with its absolute path";

impl Check {
    /// Reads what stands behind the Legion's name, or says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Check, String> {
        if text.is_empty() {
            return Err(format!("what to check is missing: {A_CHECK}"));
        }
        if text.starts_with(b"/") || text.starts_with(b"'") || text.starts_with(b"\"") {
            return command(text);
        }
        let text = String::from_utf8_lossy(text);
        match text.split_once("://") {
            Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                url(&scheme.to_lowercase(), &text)
            }
            _ => {
                let first = printable(text.split_whitespace().next().unwrap_or_default(), &[]);
                Err(format!("\"{first}\" is no check: {A_CHECK}"))
            }
        }
    }

    /// What is checked, for the log: without a URL's query and a command's arguments, which may hold a secret.
    pub fn name(&self) -> String {
        let name = match self {
            Check::Http(url) => format!("http://{}{}", crate::config::authority(url), url.path()),
            Check::Tcp { host, port } if host.contains(':') => format!("tcp://[{host}]:{port}"),
            Check::Tcp { host, port } => format!("tcp://{host}:{port}"),
            Check::Command(words) => {
                words.first().map_or_else(String::new, |word| word.to_string_lossy().into())
            }
        };
        printable(&name, &[])
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

fn url(scheme: &str, text: &str) -> Result<Check, String> {
    match scheme {
        "http" | "tcp" => {}
        "https" => {
            return Err("https is not supported: check http, or use a command such as /usr/bin/curl".into());
        }
        other => return Err(format!("{}:// is no check: {A_CHECK}", printable(other, &[]))),
    }
    let form = if scheme == "http" { "http://HOST[:PORT]/PATH" } else { "tcp://HOST:PORT" };
    // Nothing of the text is shown: people write a login into it.
    let uri = text.parse::<Uri>().map_err(|_| format!("not a valid URL: expected {form}"))?;
    let authority = uri.authority().ok_or_else(|| format!("the URL has no host: expected {form}"))?;
    if authority.as_str().contains('@') {
        return Err(format!("the URL contains a login, which a check never sends: expected {form}"));
    }
    let host = host_of(&uri);
    if host.is_empty() {
        return Err(format!("the URL has no host: expected {form}"));
    }
    if has_invalid_port(authority) {
        return Err(format!("the URL has an invalid port: expected {form} with a port from 1 to 65535"));
    }
    if scheme == "http" {
        return Ok(Check::Http(uri));
    }
    let port = authority.port_u16().ok_or_else(|| format!("the URL has no port: expected {form}"))?;
    if !matches!(uri.path_and_query().map_or("", |path| path.as_str()), "" | "/") {
        return Err(format!("a TCP check has no path: expected {form}"));
    }
    Ok(Check::Tcp { host: host.into(), port })
}

fn command(text: &[u8]) -> Result<Check, String> {
    let words = words(text).ok_or("a quote is not closed")?;
    let first = words.first().map(|(word, _)| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
    if !first.starts_with('/') {
        return Err(format!("\"{}\" is not an absolute path: {A_CHECK}", printable(&first, &[])));
    }
    let words = words.into_iter().map(|(word, _)| CString::new(word));
    words.collect::<Result<_, _>>().map(Check::Command).map_err(|_| "a command cannot contain NUL".into())
}

/// The words of a command, and whether each has a quote in it: split at blanks that are not within '...' or "...".
/// Nothing else is special. `None` if a quote is not closed.
fn words(text: &[u8]) -> Option<Vec<(Vec<u8>, bool)>> {
    let mut words = Vec::new();
    let mut word: Option<(Vec<u8>, bool)> = None;
    let mut quote = None;
    for byte in text {
        match (quote, byte) {
            (Some(open), byte) if open == byte => quote = None,
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                word.get_or_insert_default().1 = true;
            }
            (None, byte) if byte.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().0.push(*byte),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The first word of a command that only a shell would understand, as in `COMMAND >/dev/null || exit 1`.
pub fn is_for_a_shell(text: &[u8]) -> Option<String> {
    if !text.starts_with(b"/") {
        return None;
    }
    let is_it = |word: &[u8]| {
        let sign = word.strip_prefix(b"1").or(word.strip_prefix(b"2")).unwrap_or(word);
        sign.starts_with(b">") || matches!(word, [b'<' | b'|' | b'&' | b';', ..] | [.., b';'])
    };
    let found = words(text)?.into_iter().find(|(word, is_quoted)| !is_quoted && is_it(word));
    found.map(|(word, _)| printable(&String::from_utf8_lossy(&word), &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Check, String> {
        Check::parse(text.as_bytes())
    }

    #[test]
    fn every_kind_of_check_has_a_name_without_secrets() {
        for (text, name) in [
            ("http://127.0.0.1/", "http://127.0.0.1/"),
            ("http://127.0.0.1", "http://127.0.0.1/"),
            ("HTTP://Host:8000/a/b?token=SECRET", "http://Host:8000/a/b"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
            ("tcp://[::1]:5432", "tcp://[::1]:5432"),
            ("tcp://db.example:5432/", "tcp://db.example:5432"),
            ("/bin/true", "/bin/true"),
            ("/bin/check --password SECRET", "/bin/check"),
            ("'/opt/my checks/a' b", "/opt/my checks/a"),
        ] {
            let check = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((check.name(), format!("{check:?}")), (name.to_string(), name.to_string()));
        }
    }

    #[test]
    fn what_cannot_be_checked_is_said_without_secrets() {
        for (text, expected) in [
            ("https://127.0.0.1/", "https is not supported: check http, or use a command"),
            ("ftp://127.0.0.1/", "ftp:// is no check"),
            ("http://user:SECRET@127.0.0.1/", "the URL contains a login"),
            ("tcp://user:SECRET@127.0.0.1:80", "the URL contains a login"),
            ("http:///path", "expected http://HOST[:PORT]/PATH"),
            ("http://", "expected http://HOST[:PORT]/PATH"),
            ("http://:80/", "expected http://HOST[:PORT]/PATH"),
            ("http://host:0/", "the URL has an invalid port"),
            ("http://host:65536/", "expected http://HOST[:PORT]/PATH"),
            ("http://host/a b", "not a valid URL"),
            ("tcp://host", "the URL has no port: expected tcp://HOST:PORT"),
            ("tcp://host:80/path", "a TCP check has no path"),
            ("tcp://host:http", "expected tcp://HOST:PORT"),
            ("127.0.0.1:80", "\"127.0.0.1:80\" is no check"),
            ("bin/check SECRET", "\"bin/check\" is no check: expected"),
            ("check://", "check:// is no check"),
            ("/bin/check 'SECRET", "a quote is not closed"),
            ("'bin/check'", "\"bin/check\" is not an absolute path"),
            ("/bin/check \0", "cannot contain NUL"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
            assert!(!why.contains("SECRET"), "{why}");
        }
    }

    #[test]
    fn a_command_is_split_at_blanks_that_are_not_quoted() {
        for (text, expected) in [
            ("/a", &["/a"][..]),
            ("/a  b\tc", &["/a", "b", "c"]),
            ("/a 'b c' \"d 'e\" f\"g h\"i", &["/a", "b c", "d 'e", "fg hi"]),
            ("/a '' b\\ $(c) *", &["/a", "", "b\\", "$(c)", "*"]),
        ] {
            let Ok(Check::Command(words)) = parse(text) else { panic!("{text}") };
            let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
            assert_eq!(words, expected, "{text}");
        }
        for (text, expected) in [
            ("/a > /dev/null", Some(">")),
            ("/a 2>&1", Some("2>&1")),
            ("/a || exit 1", Some("||")),
            ("/a; b", Some("/a;")),
            ("/a ; b", Some(";")),
            ("/a '|' b 2 1", None),
        ] {
            assert_eq!(is_for_a_shell(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }
}
