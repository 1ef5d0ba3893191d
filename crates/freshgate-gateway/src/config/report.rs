//! What is wrong, where, and how to mend it: collected whole, then shown in one look.

use std::{error::Error, fmt, sync::Arc};

use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
    renderer::DEFAULT_TERM_WIDTH,
};

use super::source::{Place, SourceKind};

/// The mend where the system gives out no more of something.
pub const MORE_RESOURCES: &str =
    "the system gives out no more threads or files: look at its limits (`ulimit -a`), then try again";

/// The exit code of a program that was told something it cannot do: bad flags, bad configuration.
pub const EXIT_BAD_CONFIGURATION: u8 = 2;

/// How a report is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Text alone.
    Plain,
    /// With colours, as ANSI escapes.
    Coloured,
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works, but not as one would want.
    Warning,
    /// Keeps freshgate from starting.
    Error,
}

/// Something that is wrong with the configuration, where, and the mend. It holds no secret: what it quotes was masked.
pub struct Problem {
    severity: Severity,
    title: String,
    marks: Vec<Mark>,
    remarks: Vec<(Remark, String)>,
}

struct Mark {
    place: Place,
    label: String,
    kind: AnnotationKind,
}

enum Remark {
    Note,
    Help,
}

impl Problem {
    /// Something that keeps freshgate from starting.
    pub(super) fn error(title: impl Into<String>) -> Self {
        Self::new(Severity::Error, title.into())
    }

    /// Something that works, but not as one would want.
    pub(super) fn warning(title: impl Into<String>) -> Self {
        Self::new(Severity::Warning, title.into())
    }

    /// Something worth knowing.
    pub(super) fn worth_knowing(title: impl Into<String>) -> Self {
        Self::new(Severity::Note, title.into())
    }

    fn new(severity: Severity, title: String) -> Self {
        Self { severity, title, marks: Vec::new(), remarks: Vec::new() }
    }

    /// Where it is; what is said at the caret.
    pub(super) fn at(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.marks.push(Mark { place: place.clone(), label: label.into(), kind: AnnotationKind::Primary });
        self
    }

    /// What else has to do with it.
    pub(super) fn beside(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.marks.push(Mark { place: place.clone(), label: label.into(), kind: AnnotationKind::Context });
        self
    }

    /// A fact.
    pub(super) fn note(mut self, text: impl Into<String>) -> Self {
        self.remarks.push((Remark::Note, text.into()));
        self
    }

    /// How to mend it.
    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.remarks.push((Remark::Help, text.into()));
        self
    }

    fn group(&self) -> Group<'_> {
        let mut group =
            Group::with_title(self.severity.level().primary_title(normalize_untrusted_str(&self.title)));
        let mut beside = Vec::new();
        let mut marks: &[Mark] = &self.marks;
        while let Some(first) = marks.first() {
            let source = first.place.source();
            let (here, elsewhere) = marks
                .split_at(marks.iter().take_while(|mark| Arc::ptr_eq(mark.place.source(), source)).count());
            let annotations = here.iter().map(|mark| {
                let label = (!mark.label.is_empty()).then_some(mark.label.as_str());
                mark.kind.span(mark.place.span()).label(label)
            });
            let snippet = Snippet::source(source.text());
            match source.kind() {
                SourceKind::File(path) => group = group.element(snippet.path(path).annotations(annotations)),
                // `NAME=value` and `--name value` say by themselves where they are.
                SourceKind::Argument if here.len() + elsewhere.len() == self.marks.len() => {
                    group = group.element(snippet.line_numbering(false).annotations(annotations));
                }
                SourceKind::Argument => {
                    let labels = here.iter().map(|mark| format!("`{}`: {}", source.text(), mark.label));
                    beside.extend(labels.map(|text| Level::NOTE.message(normalize_untrusted_str(&text))));
                }
            }
            marks = elsewhere;
        }
        group.elements(beside).elements(self.remarks.iter().map(|(remark, text)| {
            let level = match remark {
                Remark::Note => Level::NOTE,
                Remark::Help => Level::HELP,
            };
            level.message(normalize_untrusted_str(text))
        }))
    }
}

impl Severity {
    fn level(self) -> Level<'static> {
        match self {
            Self::Note => Level::NOTE,
            Self::Warning => Level::WARNING,
            Self::Error => Level::ERROR,
        }
    }
}

/// All problems of a configuration.
#[derive(Default)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// Adds a problem.
    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// How many problems there are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Whether there is anything to show.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether something keeps freshgate from starting.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// The report as text, what matters most at the end, as that is what a terminal shows. Ends with a line break unless
    /// it is empty.
    pub fn render(&self, look: Look) -> String {
        let renderer = renderer(look);
        let mut text = String::new();
        for severity in [Severity::Note, Severity::Warning, Severity::Error] {
            for problem in self.problems.iter().filter(|problem| problem.severity == severity) {
                text.push_str(&renderer.render(&[problem.group()]));
                text.push_str("\n\n");
            }
        }
        let errors = self.count(Severity::Error);
        if errors > 0 {
            let summary = match errors {
                1 => "freshgate did not start: there is 1 error in its configuration".to_owned(),
                _ => format!("freshgate did not start: there are {errors} errors in its configuration"),
            };
            text.push_str(&renderer.render(&[Group::with_title(Level::ERROR.primary_title(summary))]));
            text.push('\n');
        }
        text
    }

    /// Writes the report to standard error, in colour if that is a terminal that wants it.
    pub fn print(&self) {
        anstream::eprint!("{}", self.render(Look::Coloured));
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Look::Plain))
    }
}

/// Something that kept freshgate from starting although its configuration reads well: a port that is taken, a store
/// that cannot be opened, a provider that names another issuer.
///
/// It looks like a [`Problem`] of the configuration. Give it no secret: neither in a text nor in the cause's message.
#[derive(Debug, PartialEq, Eq)]
pub struct StartupProblem {
    what: String,
    where_: Option<String>,
    causes: Vec<String>,
    mends: Vec<String>,
}

impl StartupProblem {
    /// Says what went wrong, in a phrase: `the address 127.0.0.1:8501 is taken`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), where_: None, causes: Vec::new(), mends: Vec::new() }
    }

    /// Says where: a path, an address, a setting.
    #[must_use]
    pub fn at(mut self, where_: impl Into<String>) -> Self {
        self.where_ = Some(where_.into());
        self
    }

    /// Says why, with the whole chain of causes.
    #[must_use]
    pub fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Says how to mend it. May be said several times.
    #[must_use]
    pub fn mend(mut self, how: impl Into<String>) -> Self {
        self.mends.push(how.into());
        self
    }

    /// The problem as text; ends with a line break.
    pub fn render(&self, look: Look) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(normalize_untrusted_str(&self.what)));
        if let Some(where_) = &self.where_ {
            group = group.element(Origin::path(where_));
        }
        let causes = self.causes.iter().map(|cause| Level::NOTE.message(normalize_untrusted_str(cause)));
        let mends = self.mends.iter().map(|mend| Level::HELP.message(normalize_untrusted_str(mend)));
        let mut text = renderer(look).render(&[group.elements(causes.chain(mends))]);
        text.push('\n');
        text
    }

    /// What went wrong, where and why, without the mends.
    pub(crate) fn in_one_line(&self) -> String {
        let parts = std::iter::once(&self.what).chain(&self.where_).chain(&self.causes);
        crate::words::printable(&parts.map(String::as_str).collect::<Vec<_>>().join(": "))
    }

    /// Writes it to standard error, in colour if that is a terminal that wants it.
    pub fn print(&self) {
        anstream::eprint!("{}", self.render(Look::Coloured));
    }
}

impl fmt::Display for StartupProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for StartupProblem {}

fn renderer(look: Look) -> Renderer {
    match look {
        Look::Plain => Renderer::plain(),
        Look::Coloured => Renderer::styled(),
    }
    .term_width(DEFAULT_TERM_WIDTH)
}
