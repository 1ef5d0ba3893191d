//! Texts that values come from, and places in them.

use std::{ops::Range, sync::Arc};

/// A text that values come from, as a report may show it: what is secret in it is masked before it gets here.
pub(super) struct Source {
    kind: SourceKind,
    text: String,
}

/// What kind of text it is, which decides how a report names it.
pub(super) enum SourceKind {
    /// A file, by its path as shown.
    File(String),
    /// A variable or a flag: `NAME=value`, `--name value`.
    Argument,
}

impl Source {
    /// The text, secrets masked.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What kind of text it is.
    pub(super) fn kind(&self) -> &SourceKind {
        &self.kind
    }
}

/// A place in a text: what a caret points at.
#[derive(Clone)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    /// A place in this source. A span that leaves the text is cut to it.
    pub(super) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        let end = floor_char_boundary(&source.text, span.end);
        let start = floor_char_boundary(&source.text, span.start).min(end);
        Self { source: source.clone(), span: start..end }
    }

    /// The value of a variable. A secret one is masked.
    pub(super) fn of_variable(name: &str, value: &str, secret: bool) -> Self {
        Self::of_assignment(&format!("{name}="), value, secret)
    }

    /// The value of a flag.
    pub(super) fn of_flag(name: &str, value: &str) -> Self {
        Self::of_assignment(&format!("{name} "), value, false)
    }

    fn of_assignment(name: &str, value: &str, secret: bool) -> Self {
        let shown =
            if secret || super::redact::may_carry_password(value) { super::redact::MASK } else { value };
        let text = format!("{name}{shown}");
        let span = name.len()..text.len();
        Self { source: Arc::new(Source { kind: SourceKind::Argument, text }), span }
    }

    /// The beginning of a file.
    pub(super) fn top_of(source: &Arc<Source>) -> Self {
        Self { source: source.clone(), span: 0..0 }
    }

    /// The text it is in.
    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Where in the text.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

/// A file's text, secrets masked already.
pub(super) fn file_source(shown_path: String, masked_text: String) -> Arc<Source> {
    Arc::new(Source { kind: SourceKind::File(shown_path), text: masked_text })
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
