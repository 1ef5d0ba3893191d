//! The outcome of a check for people.

use std::fmt::Write as _;

use super::finding::{Finding, Outcome, Registration, Verdict};
use crate::config::Look;

/// How wide lines are at most.
const WIDTH: usize = 100;

/// The outcome as text; ends with a line break.
pub(super) fn render(outcome: &Outcome, look: Look) -> String {
    let topics = outcome.sections.iter().flat_map(|section| &section.findings);
    let topic_width = topics.map(|finding| finding.topic.len()).max().unwrap_or(0);
    let mut text = String::new();
    for section in &outcome.sections {
        // Writing to a text does not fail, here and below.
        let _ = writeln!(text, "{}", strong(&section.about.to_string(), look));
        for finding in &section.findings {
            write_finding(&mut text, finding, topic_width, look);
        }
        text.push('\n');
    }
    for registration in &outcome.register {
        write_registration(&mut text, registration, look);
    }
    let _ = writeln!(text, "{}", summary(outcome, look));
    text
}

fn write_finding(text: &mut String, finding: &Finding, topic_width: usize, look: Look) {
    const VERDICT_WIDTH: usize = "problem".len();
    let indent = 2 + VERDICT_WIDTH + 2 + topic_width + 2;
    let word = finding.verdict.code();
    let padding = " ".repeat(VERDICT_WIDTH - word.len());
    let verdict = coloured(word, finding.verdict, look);
    let mut lines = wrap(&finding.what, WIDTH - indent).into_iter();
    let first = lines.next().unwrap_or_default();
    let _ = writeln!(text, "  {verdict}{padding}  {:topic_width$}  {first}", finding.topic);
    for line in lines {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
    for mend in &finding.mends {
        let mut lines = wrap(mend, WIDTH - indent - "mend: ".len()).into_iter();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(text, "{:indent$}{} {first}", "", strong("mend:", look));
        for line in lines {
            let _ = writeln!(text, "{:indent$}      {line}", "");
        }
    }
}

fn write_registration(text: &mut String, registration: &Registration, look: Look) {
    let title = format!("To be registered at the provider `{}`, letter by letter", registration.provider);
    let _ = writeln!(text, "{}", strong(&title, look));
    let uris = registration.uris();
    let width = uris.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, uri) in uris {
        let _ = writeln!(text, "  {name:width$}  {uri}");
    }
    text.push('\n');
}

fn summary(outcome: &Outcome, look: Look) -> String {
    let some = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        several => Some(format!("{several} {what}s")),
    };
    let problems = some(outcome.count(Verdict::Problem), "problem");
    let warnings = some(outcome.count(Verdict::Warning), "warning");
    let counts: Vec<String> = [problems, warnings].into_iter().flatten().collect();
    let text = match (outcome.verdict(), counts.join(" and ")) {
        (Verdict::Ok, _) => "Everything is as it should be.".to_owned(),
        (Verdict::Warning, counts) => format!("{counts}, and no problem."),
        (Verdict::Problem, counts) => format!("{counts}."),
    };
    coloured(&text, outcome.verdict(), look)
}

fn coloured(text: &str, verdict: Verdict, look: Look) -> String {
    let colour = match verdict {
        Verdict::Ok => 32,
        Verdict::Warning => 33,
        Verdict::Problem => 31,
    };
    match look {
        Look::Plain => text.to_owned(),
        Look::Coloured => format!("\x1b[{colour}m{text}\x1b[0m"),
    }
}

fn strong(text: &str, look: Look) -> String {
    match look {
        Look::Plain => text.to_owned(),
        Look::Coloured => format!("\x1b[1m{text}\x1b[0m"),
    }
}

/// Lines of so many characters at most. A word that is longer stands alone, whole: it may be an address to be copied.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one two three", 100), ["one two three"]);
        assert_eq!(
            wrap("see https://id.example.com/long for more", 10),
            ["see", "https://id.example.com/long", "for more"]
        );
        assert_eq!(wrap("", 7), [""]);
    }
}
