//! Reads a value as the type that a setting has, or says what is wrong with it.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    item::{Item, Value},
    report::{Problem, Report},
    setting::{Given, Written},
};

impl Given {
    /// A text that is not empty.
    pub(super) fn text(&self, report: &mut Report) -> Option<&str> {
        match &self.item.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text),
            Value::Text(_) => {
                let problem = Problem::error(format!("`{}` is empty", self.name)).at(&self.item.place, "");
                report.add(problem.help("give it a value"));
                None
            }
            _ => self.expected("a text in quotes", report),
        }
    }

    /// A list of texts, none of them empty. In a flag or a variable they are separated by commas.
    pub(super) fn texts(&self, report: &mut Report) -> Option<Vec<String>> {
        let each = self.each(report)?;
        each.iter().map(|given| given.text(report).map(str::to_owned)).collect()
    }

    /// The entries of a list of texts, each with its own place if it has one.
    pub(super) fn each(&self, report: &mut Report) -> Option<Vec<Given>> {
        let entry = |item: Item| Given { item, ..self.clone() };
        if let (Value::Text(text), Written::Bare) = (&self.item.value, self.written) {
            let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            return Some(texts.map(|text| entry(Item::text(text, self.item.place.clone()))).collect());
        }
        let Value::List(items) = &self.item.value else {
            return self.expected("a list of texts", report);
        };
        Some(items.iter().cloned().map(entry).collect())
    }

    /// A path, relative to where it is written.
    pub(super) fn path(&self, report: &mut Report) -> Option<PathBuf> {
        Some(self.folder.join(self.text(report)?))
    }

    /// A duration with its unit, within these limits.
    pub(super) fn duration(&self, limits: RangeInclusive<Duration>, report: &mut Report) -> Option<Duration> {
        let example = "write a number and its unit, such as 30s, 5m, 2h or 1d";
        let Value::Text(text) = &self.item.value else {
            return self.refuse("expected a duration in quotes", &format!("{example}, in quotes"), report);
        };
        let Ok(duration) = humantime::parse_duration(text.trim()) else {
            return self.refuse("not a duration", example, report);
        };
        if !limits.contains(&duration) {
            let range =
                format!("choose from {} to {}", in_one_unit(*limits.start()), in_one_unit(*limits.end()));
            return self.refuse("out of range", &range, report);
        }
        Some(duration)
    }

    /// A whole number within these limits.
    pub(super) fn number(&self, limits: RangeInclusive<i64>, report: &mut Report) -> Option<i64> {
        let number = match (&self.item.value, self.written) {
            (Value::Integer(number), _) => Some(*number),
            (Value::Text(text), Written::Bare) => text.trim().parse().ok(),
            (Value::Text(text), Written::Toml) if text.trim().parse::<i64>().is_ok() => {
                return self.refuse(
                    "a text, and a number is expected",
                    "write the number without quotes",
                    report,
                );
            }
            _ => None,
        };
        match number {
            None => self.expected("a whole number", report),
            Some(number) if !limits.contains(&number) => {
                let range = format!("choose from {} to {}", limits.start(), limits.end());
                self.refuse("out of range", &range, report)
            }
            number => number,
        }
    }

    /// Yes or no.
    pub(super) fn yes_or_no(&self, report: &mut Report) -> Option<bool> {
        match (&self.item.value, self.written) {
            (Value::Boolean(value), _) => Some(*value),
            (Value::Text(text), Written::Bare) => match text.trim() {
                "on" | "true" => Some(true),
                "off" | "false" => Some(false),
                _ => self.refuse("expected on or off", "write `on` or `off`", report),
            },
            (Value::Text(text), Written::Toml) if matches!(text.as_str(), "true" | "false") => self.refuse(
                "a text, and true or false is expected",
                &format!("write {text} without quotes"),
                report,
            ),
            _ => self.expected("true or false", report),
        }
    }

    /// One of these words.
    pub(super) fn one_of<T: Copy>(&self, choices: &[(&str, T)], report: &mut Report) -> Option<T> {
        let text = self.text(report)?;
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*chosen);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.refuse("unknown", &super::suggest::choice(text, &words), report)
    }

    /// Reports what was expected instead.
    pub(super) fn expected<T>(&self, what: &str, report: &mut Report) -> Option<T> {
        let label = format!("expected {what}, found {}", self.item.kind());
        report.add(Problem::error(format!("`{}` has the wrong type", self.name)).at(&self.item.place, label));
        None
    }

    /// Reports a value that is of the right type and cannot be used.
    pub(super) fn refuse<T>(&self, label: &str, help: &str, report: &mut Report) -> Option<T> {
        report.add(self.unusable(label).help(help));
        None
    }

    /// A value that cannot be used.
    pub(super) fn unusable(&self, label: &str) -> Problem {
        Problem::error(format!("`{}` cannot be used", self.name)).at(&self.item.place, label)
    }
}

/// A duration in its largest whole unit: 90s, 1m, 400d.
fn in_one_unit(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 24 * 3600), ("h", 3600), ("m", 60)];
    match units.into_iter().find(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}
