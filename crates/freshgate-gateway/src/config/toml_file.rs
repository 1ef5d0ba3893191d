//! Reads a TOML file into values with places, its secrets masked in every place.

use std::{fs, io, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    item::{Entry, Item, Table, Value},
    redact::{self, Masked, MayShow},
    report::{Problem, Report},
    source::{Place, Source, file_source},
};

/// Why a file yielded nothing.
pub(super) enum NoTomlFile {
    /// There is no such file.
    Missing,
    /// It is in the report.
    Reported,
}

/// Reads a file. All its syntax errors go into the report, as what `severity` makes of them.
pub(super) fn read(
    path: &Path,
    shown_path: &str,
    may_show: MayShow,
    severity: fn(String) -> Problem,
    report: &mut Report,
) -> Result<Table, NoTomlFile> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| {
            report.add(severity(format!("`{shown_path}` is not UTF-8 text")).help("save the file as UTF-8"));
            NoTomlFile::Reported
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoTomlFile::Missing),
        Err(error) => {
            report.add(unreadable(shown_path, &error, severity));
            return Err(NoTomlFile::Reported);
        }
    };
    parse(&text, shown_path, may_show, severity, report).ok_or(NoTomlFile::Reported)
}

/// What to say of a file that is there and cannot be read.
pub(super) fn unreadable(shown_path: &str, error: &io::Error, severity: fn(String) -> Problem) -> Problem {
    let problem = severity(format!("cannot read `{shown_path}`")).note(error.to_string());
    match error.kind() {
        io::ErrorKind::PermissionDenied => problem
            .help(format!("let the user that runs freshgate read it, such as with `chmod u+r {shown_path}`")),
        io::ErrorKind::IsADirectory => problem.help("name a file"),
        _ => problem,
    }
}

fn parse(
    text: &str,
    shown_path: &str,
    may_show: MayShow,
    severity: fn(String) -> Problem,
    report: &mut Report,
) -> Option<Table> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let masked = redact::mask_values(text, document.get_ref(), may_show);
        let source = file_source(shown_path.to_owned(), masked.text.clone());
        return Some(table(document.into_inner(), &masked, &source));
    }
    let masked = redact::mask_lines(text, may_show);
    let source = file_source(shown_path.to_owned(), masked.text.clone());
    for error in errors {
        let place = Place::new(&source, masked.span(error.span().unwrap_or_default()));
        let problem = severity(format!("`{shown_path}` is not valid TOML")).at(&place, error.message());
        report.add(problem.help(mend(error.message())));
    }
    None
}

/// What most likely mends a syntax error.
fn mend(message: &str) -> &'static str {
    if message.contains("duplicate") {
        "keep one of them"
    } else if message.contains("basic string")
        || message.contains("literal string") && !message.contains("quoted")
    {
        "end the text with the quote that it starts with"
    } else {
        "a line is `key = \"text\"`, `key = 5`, `key = true` or `[table]`: texts are in quotes"
    }
}

fn table(table: DeTable<'_>, masked: &Masked, source: &Arc<Source>) -> Table {
    let mut entries: Vec<(usize, Entry)> = table
        .into_iter()
        .map(|(key, value)| {
            let written_at = key.span().start;
            let key_place = Place::new(source, masked.span(key.span()));
            (
                written_at,
                Entry { key: key.into_inner().into_owned(), key_place, item: item(value, masked, source) },
            )
        })
        .collect();
    entries.sort_by_key(|(written_at, _)| *written_at);
    Table { entries: entries.into_iter().map(|(_, entry)| entry).collect() }
}

fn item(value: Spanned<DeValue<'_>>, masked: &Masked, source: &Arc<Source>) -> Item {
    let place = Place::new(source, masked.span(value.span()));
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(_) => Value::Moment,
        DeValue::Array(values) => {
            Value::List(values.into_iter().map(|value| item(value, masked, source)).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, masked, source)),
    };
    Item { value, place }
}

#[cfg(test)]
mod tests {
    use super::{super::report::Look, *};

    const WITH_SECRETS: &str = r#"token = "hunter2" # hunter2
[auth] # hunter2
redirect_uri = "http://localhost:8501/oauth2callback" # hunter2
cookie_secret = """hunter2
hunter2 = "hunter2"
client_id = hunter2
"""
client_id = "réports"
client_secret = 'hunter2'
server_metadata_url = "https://id.example.com"
client_kwargs = { scope = "openid", proxy = "hunter2", list = ["hunter2", { x = "hunter2" }] } # hunter2
numbers = [ # hunter2
  1, # hunter2
]
"#;

    /// Whatever is wrong with a file, a report that points at every place in it shows no secret and does not panic.
    #[test]
    fn no_damage_to_a_file_shows_a_secret() {
        let cuts = WITH_SECRETS.char_indices().map(|(at, _)| WITH_SECRETS[..at].to_owned());
        let gaps = WITH_SECRETS.char_indices().map(|(at, character)| {
            format!("{}{}", &WITH_SECRETS[..at], &WITH_SECRETS[at + character.len_utf8()..])
        });
        for text in [WITH_SECRETS.to_owned()].into_iter().chain(cuts).chain(gaps) {
            let mut report = Report::default();
            if let Some(table) =
                parse(&text, "secrets.toml", super::super::secrets::may_show, Problem::error, &mut report)
            {
                point_at_everything(&table, &mut report);
            }
            let shown = report.render(Look::Plain);
            // A gap within the word leaves something that is not the secret any more.
            assert!(!shown.contains("hunter2"), "{text}\n-----\n{shown}");
        }
    }

    fn point_at_everything(table: &Table, report: &mut Report) {
        for entry in &table.entries {
            report.add(Problem::error("key").at(&entry.key_place, "here"));
            report.add(Problem::error("value").at(&entry.item.place, "here"));
            if let Some(inner) = entry.item.as_table() {
                point_at_everything(inner, report);
            }
        }
    }
}
