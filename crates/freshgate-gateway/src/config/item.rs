//! Values with the places they were written at.

use super::source::Place;

/// A value and where it was written. It has no `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What TOML can say.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    /// Cut to what an `i64` holds; no setting comes near.
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Moment,
    List(Vec<Item>),
    Table(Table),
}

/// Keys and their values, in the order they were written.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) item: Item,
}

impl Item {
    /// A text with a place.
    pub(super) fn text(text: impl Into<String>, place: Place) -> Self {
        Self { value: Value::Text(text.into()), place }
    }

    /// The table, if it is one.
    pub(super) fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for "expected a text, found …".
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "a text",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a decimal number",
            Value::Boolean(_) => "true or false",
            Value::Moment => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

impl Table {
    /// The entry under this key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value under this key.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.entry(key).map(|entry| &entry.item)
    }

    /// The entry under a dotted key such as `log.format`.
    pub(super) fn entry_at(&self, dotted: &str) -> Option<&Entry> {
        match dotted.split_once('.') {
            Some((table, rest)) => self.get(table)?.as_table()?.entry_at(rest),
            None => self.entry(dotted),
        }
    }
}
