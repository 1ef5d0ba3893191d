//! What keeps the program from starting.

use std::process::ExitCode;

use crate::config::{EXIT_BAD_CONFIGURATION, Look, StartupProblem};

/// What keeps the program from starting, all of it.
#[derive(Debug, Default)]
pub struct NotStarted(Vec<StartupProblem>);

impl From<StartupProblem> for NotStarted {
    fn from(problem: StartupProblem) -> Self {
        Self(vec![problem])
    }
}

impl From<Vec<StartupProblem>> for NotStarted {
    fn from(problems: Vec<StartupProblem>) -> Self {
        Self(problems)
    }
}

impl NotStarted {
    /// Whether there is nothing, so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells the user; the exit code says that something must be mended.
    pub fn report(&self) -> ExitCode {
        anstream::eprint!("{}", self.render(Look::Coloured));
        ExitCode::from(EXIT_BAD_CONFIGURATION)
    }

    pub(crate) fn render(&self, look: Look) -> String {
        self.0.iter().map(|problem| problem.render(look)).collect::<Vec<_>>().join("\n")
    }

    /// The value, or its problems as well: what comes of one cause in several places is told once.
    pub(crate) fn keep<T>(&mut self, result: Result<T, impl Into<Self>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problems) => {
                for problem in problems.into().0 {
                    if !self.0.contains(&problem) {
                        self.0.push(problem);
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_is_told_once() {
        let mut problems = NotStarted::default();
        let problem = |what: &str| Err::<(), _>(StartupProblem::new(what).mend("mend it"));
        for what in ["the first", "the second", "the first"] {
            assert!(problems.keep(problem(what)).is_none());
        }
        assert_eq!(problems.keep(Ok::<_, StartupProblem>(1)), Some(1));
        let text = "error: the first\n |\n = help: mend it\n\nerror: the second\n |\n = help: mend it\n";
        assert_eq!(problems.render(Look::Plain), text);
    }
}
