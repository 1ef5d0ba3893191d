//! The OpenAPI document against the documentation: the same requests, the same refusals.
//!
//! That the gate does what it says is tested by a program that reads it (`stories/test_session_api.py`), and that the
//! examples are such documents by the Python client's tests.

use std::collections::BTreeSet;

use serde_json::Value;

use super::DESCRIPTION;

const DOCS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/session-api.md"));

fn description() -> Value {
    serde_json::from_str(DESCRIPTION).unwrap()
}

/// `#/components/responses/TryLater` as what it points at; anything else as it is.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(pointer) => description.pointer(&pointer[1..]).expect(pointer),
        None => value,
    }
}

fn operations(description: &Value) -> impl Iterator<Item = (String, &Value)> {
    description["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    })
}

#[test]
fn it_has_the_requests_of_the_documentation() {
    let documented: BTreeSet<String> = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '?']).next())
        .filter(|request| request.contains(" /v1/"))
        .map(str::to_owned)
        .collect();
    let description = description();
    let described: BTreeSet<String> = operations(&description).map(|(name, _)| name).collect();
    assert_eq!(described, documented);
}

#[test]
fn it_has_the_refusals_of_the_documentation() {
    let documented: BTreeSet<(String, String)> = DOCS
        .lines()
        .filter(|line| line.starts_with("| 4") || line.starts_with("| 5"))
        .map(|line| {
            let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
            (cells.next().unwrap(), cells.next().unwrap())
        })
        // What answers requests that no document has.
        .filter(|(status, error)| status != "405" && error != "not_found")
        .collect();
    let description = description();
    let mut described = BTreeSet::new();
    for (name, operation) in operations(&description) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let answer = resolved(&description, answer);
            if status.starts_with('2') {
                continue;
            }
            let error = &answer["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"];
            let errors = match error["enum"].as_array() {
                Some(errors) => errors.clone(),
                None => vec![error["const"].clone()],
            };
            for error in errors {
                let error = error.as_str().unwrap_or_else(|| panic!("{name} {status} has no code"));
                described.insert((status.clone(), error.to_owned()));
            }
        }
    }
    assert_eq!(described, documented);
}
