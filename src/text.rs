//! Which part of a foreign text may be logged.

/// The longest foreign text in a log line, in characters.
const LIMIT: usize = 200;

/// `text` as it may be logged: one line, no control characters, at most [`LIMIT`] characters, and each of `secrets`
/// replaced by `***`.
pub fn printable(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_string();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    let plain = |c: char| if c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(LIMIT).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_only_what_is_printable() {
        assert_eq!(printable("a\nb\x1b[31m\u{202e}ü", &[]), "a?b?[31m?ü");
        assert_eq!(printable(&"x".repeat(300), &[]).len(), 200);
    }

    #[test]
    fn replaces_secrets_before_it_cuts() {
        let text = format!("{}hunter2", "x".repeat(196));
        assert_eq!(printable(&text, &["hunter2", ""]), format!("{}***", "x".repeat(196)));
    }
}
