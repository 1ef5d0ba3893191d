//! Guesses what was meant.

/// The candidate that is most like `word`, if one is like it at all.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike =
        |candidate: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
    // A third of a word may be wrong: `redirect_url`, `ofline`; short words get one letter.
    let tolerated = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (alike(candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The help for a word that is none of the choices.
pub(super) fn choice(word: &str, choices: &[&str]) -> String {
    match nearest(word, choices.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if choices.len() == 1 => format!("write {}", list(choices)),
        None => format!("choose one of {}", list(choices)),
    }
}

/// Names in one line: `a`, `b` and `c`.
pub(super) fn list<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        for (word, expected) in [
            ("redirect_url", Some("redirect_uri")),
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("stroe", Some("store")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, ["listen", "store", "redirect_uri"]), expected, "{word}");
        }
    }

    #[test]
    fn names_in_one_line() {
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list::<&str>(&[]), "");
    }
}
