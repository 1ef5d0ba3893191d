//! Text from outside that an operator may read in a log.

/// What somebody else wrote, fit for one line of a log: nothing that [hides or steers](is_unprintable), one blank where there
/// were several, and at most `limit` characters.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut fit = String::new();
    let mut length = 0;
    for c in text.chars() {
        let c = if is_unprintable(c) { ' ' } else { c };
        if c == ' ' && fit.ends_with(' ') {
            continue;
        }
        if length == limit {
            fit.push('…');
            return fit;
        }
        fit.push(c);
        length += 1;
    }
    fit.truncate(fit.trim_end().len());
    fit
}

/// What someone wrote freely, fit for one line of a log, with what looks like a token removed: some providers quote the
/// refused refresh token in `error_description`.
pub(crate) fn free_text(text: &str, limit: usize) -> String {
    // Ten times the limit is read: enough that removing something does not empty the line.
    let text = one_line(text, limit.saturating_mul(10));
    let mut fit = String::new();
    for piece in text.split_inclusive(|c: char| !is_of_a_token(c)) {
        let word_end = piece.trim_end_matches(|c: char| !is_of_a_token(c)).len();
        let (word, separator) = piece.split_at(word_end);
        fit.push_str(if looks_like_a_token(word) { "[removed]" } else { word });
        fit.push_str(separator);
    }
    one_line(&fit, limit)
}

fn is_of_a_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/=".contains(c)
}

/// Control characters, and those that reorder or hide text, in a terminal or on a page.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn looks_like_a_token(word: &str) -> bool {
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    word.len() > 64 || (word.len() >= 16 && digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_loses_tokens() {
        for (text, fit) in [
            ("", ""),
            ("Token is not active", "Token is not active"),
            (
                "Invalid refresh token: 2f0a1c9e-7a51-4a63-9d3e-1f2b3c4d5e6f!",
                "Invalid refresh token: [removed]!",
            ),
            ("eyJhbGciOiJSUzI1NiJ9.e30.sig", "[removed]"),
            ("see https://idp.example/realms/data", "see https://idp.example/realms/data"),
            ("Übermut tut selten gut", "Übermut tut selten gut"),
        ] {
            assert_eq!(free_text(text, 100), fit, "{text:?}");
        }
        assert_eq!(free_text(&"x".repeat(1_000_000), 200), "[removed]…");
        assert_eq!(free_text(&format!("x{}", "1".repeat(30)), 20), "[removed]");
        assert_eq!(free_text("a b c d", 3), "a b…");
    }

    #[test]
    fn names_stay_whole() {
        for name in [
            "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
            "2f0a1c9e-7a51-4a63-9d3e-1f2b3c4d5e6f",
            "RS256",
        ] {
            assert_eq!(one_line(name, 100), name);
        }
    }

    #[test]
    fn a_line_is_a_line() {
        for (text, fit) in [
            ("line\r\nFAKE: line\u{1b}[31m", "line FAKE: line [31m"),
            ("\u{202e}gnp.exe", " gnp.exe"),
            ("ends with a newline\n", "ends with a newline"),
        ] {
            assert_eq!(one_line(text, 100), fit, "{text:?}");
            assert_eq!(free_text(text, 100), fit, "{text:?}");
        }
        assert_eq!(one_line(&"é ".repeat(1_000_000), 200).chars().count(), 201);
        assert_eq!(one_line("abc", 3), "abc");
    }
}
