//! Masks secrets in a text before a report may hold it.
//!
//! A masked text keeps its lines, so line numbers stay right, but not the lengths of what is masked.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use toml_parser::lexer::TokenKind;

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// Whether a value under this path of keys may be shown.
pub(super) type MayShow = fn(path: &[&str]) -> bool;

/// A text with secrets masked, and where its places went.
pub(super) struct Masked {
    pub(super) text: String,
    moved: Vec<Moved>,
}

struct Moved {
    from: Range<usize>,
    to: Range<usize>,
}

impl Masked {
    /// Masks these ranges, which may come in any order and overlap.
    fn new(text: &str, mut hidden: Vec<(Range<usize>, &'static str)>) -> Self {
        hidden.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut masked = Self { text: String::with_capacity(text.len()), moved: Vec::new() };
        let mut done = 0;
        for (range, mask) in hidden {
            if range.start < done {
                continue;
            }
            masked.text.push_str(&text[done..range.start]);
            let start = masked.text.len();
            masked.text.push_str(mask);
            // A secret of several lines leaves as many behind.
            masked.text.extend(text[range.clone()].chars().filter(|character| *character == '\n'));
            done = range.end;
            masked.moved.push(Moved { from: range, to: start..masked.text.len() });
        }
        masked.text.push_str(&text[done..]);
        masked
    }

    /// Where a span of the original text is in the masked one.
    pub(super) fn span(&self, span: Range<usize>) -> Range<usize> {
        self.start_of(span.start)..self.end_of(span.end)
    }

    fn start_of(&self, at: usize) -> usize {
        match self.moved.iter().rfind(|moved| moved.from.start <= at) {
            Some(moved) if at < moved.from.end => moved.to.start,
            Some(moved) => moved.to.end + (at - moved.from.end),
            None => at,
        }
    }

    fn end_of(&self, at: usize) -> usize {
        match self.moved.iter().rfind(|moved| moved.from.start < at) {
            Some(moved) if at <= moved.from.end => moved.to.end,
            Some(moved) => moved.to.end + (at - moved.from.end),
            None => at,
        }
    }
}

/// Masks every value of a document that may not be shown, and all comments: people leave old secrets there.
pub(super) fn mask_values(text: &str, document: &DeTable<'_>, may_show: MayShow) -> Masked {
    let mut hiding = Hiding { may_show, hidden: Vec::new() };
    hiding.table(document, &mut Vec::new());
    let tokens = toml_parser::Source::new(text).lex();
    let comments = tokens.filter(|token| token.kind() == TokenKind::Comment).map(|token| token.span());
    hiding.hidden.extend(comments.map(|comment| (comment.start()..comment.end(), "# ***")));
    Masked::new(text, hiding.hidden)
}

struct Hiding {
    may_show: MayShow,
    hidden: Vec<(Range<usize>, &'static str)>,
}

impl Hiding {
    fn table<'a>(&mut self, table: &'a DeTable<'_>, path: &mut Vec<&'a str>) {
        for (key, value) in table {
            path.push(key.get_ref());
            self.value(value, path);
            path.pop();
        }
    }

    fn value<'a>(&mut self, value: &'a Spanned<DeValue<'_>>, path: &mut Vec<&'a str>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(table, path),
            DeValue::Array(values) => values.iter().for_each(|value| self.value(value, path)),
            DeValue::String(text) if !(self.may_show)(path) || may_carry_password(text) => {
                self.hidden.push((value.span(), "\"***\""));
            }
            _ if !(self.may_show)(path) => self.hidden.push((value.span(), MASK)),
            _ => {}
        }
    }
}

/// Masks a document that cannot be parsed, by its lines: where it is not certain what a line is, all of it goes.
pub(super) fn mask_lines(text: &str, may_show: MayShow) -> Masked {
    // In a text of several lines any line can look like a key or a table.
    let has_long_text = text.contains("\"\"\"") || text.contains("'''");
    let mut hidden = Vec::new();
    let mut table: Vec<&str> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        let shown = if has_long_text { Some(0) } else { shown_of_line(content, &mut table, may_show) };
        if let Some(shown) = shown
            && shown < content.len()
        {
            hidden.push((start + shown..start + content.len(), MASK));
        }
        start += line.len();
    }
    Masked::new(text, hidden)
}

/// How many bytes of a line may be shown; `None`: all.
fn shown_of_line<'a>(line: &'a str, table: &mut Vec<&'a str>, may_show: MayShow) -> Option<usize> {
    let indent = line.len() - line.trim_start().len();
    let content = line.trim();
    if content.is_empty() {
        return None;
    }
    if content.starts_with('[') {
        let name = content.trim_matches(['[', ']']);
        if name.chars().all(is_key_character) {
            *table = name.split('.').map(unquoted).collect();
            return None;
        }
        return Some(indent + 1);
    }
    let Some((key, value)) = content.split_once('=') else { return Some(indent) };
    if !key.trim().chars().all(is_key_character) {
        return Some(indent);
    }
    let mut path = table.clone();
    path.extend(key.split('.').map(unquoted));
    // One text and nothing else: a line break that is missing puts a secret behind it.
    let is_one_text = !value.contains(['#', '{', '=']) && value.matches(['"', '\'']).count() <= 2;
    if may_show(&path) && is_one_text && !may_carry_password(value) {
        return None;
    }
    let after_equals = indent + key.len() + 1;
    Some(after_equals + (value.len() - value.trim_start().len()))
}

fn is_key_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.' | '"' | '\'' | ' ' | '\t')
}

fn unquoted(key: &str) -> &str {
    key.trim().trim_matches(['"', '\''])
}

/// Whether a value may be an address that carries `user:password@`, also one that is misspelt.
pub(super) fn may_carry_password(value: &str) -> bool {
    value.split_once('@').is_some_and(|(before, _)| before.contains([':', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows_client_id(path: &[&str]) -> bool {
        path == ["auth", "client_id"]
    }

    #[test]
    fn lines_of_a_broken_document() {
        for (line, expected) in [
            ("client_id = \"app\"", "client_id = \"app\""),
            ("client_secret = \"hunter2", "client_secret = ***"),
            ("  cookie_secret=hunter2 # hunter3", "  cookie_secret=***"),
            ("client_id = \"app\" # hunter2", "client_id = ***"),
            ("# hunter2", "***"),
            ("hunter2", "***"),
            ("[hunter2 !", "[***"),
            ("\"hunter2\": 5", "***"),
            ("client_id = { hunter2 }", "client_id = ***"),
            ("", ""),
        ] {
            let masked = mask_lines(&format!("[auth]\r\n{line}\nx"), shows_client_id);
            assert_eq!(masked.text, format!("[auth]\r\n{expected}\n***"), "{line}");
        }
    }

    #[test]
    fn a_text_of_several_lines_hides_everything() {
        let masked = mask_lines("[auth]\nkey = \"\"\"\nclient_id = hunter2\n", shows_client_id);
        assert_eq!(masked.text, "***\n***\n***\n");
    }

    #[test]
    fn places_move_with_the_text() {
        let masked = Masked::new("a=secret b=c", vec![(2..8, MASK)]);
        assert_eq!(masked.text, "a=*** b=c");
        for (from, to) in
            [(0..1, "a"), (2..8, "***"), (3..5, "***"), (9..10, "b"), (11..12, "c"), (0..12, "a=*** b=c")]
        {
            assert_eq!(&masked.text[masked.span(from.clone())], to, "{from:?}");
        }
    }

    #[test]
    fn lines_stay() {
        let masked = Masked::new("a\nsec\nret\nb", vec![(2..9, MASK), (3..5, MASK)]);
        assert_eq!(masked.text, "a\n***\n\nb");
    }

    #[test]
    fn addresses_with_passwords() {
        for (value, expected) in [
            ("redis://user:pass@host/1", true),
            (" \"https://u@h\"", true),
            ("https//u:pass@h", true),
            ("user@example.com", false),
            ("https://host/path", false),
        ] {
            assert_eq!(may_carry_password(value), expected, "{value}");
        }
    }
}
