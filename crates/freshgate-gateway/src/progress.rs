//! One line that tells a person at a terminal what is going on, and goes when it is over.

use std::{
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

/// At most so often: a terminal far away shall not slow the work down.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells how far something is. Quiet where nobody looks.
pub(crate) struct Progress {
    to: Option<Box<dyn Write>>,
    /// Nothing is said before.
    from: Instant,
    last: Option<Instant>,
}

impl Progress {
    /// To the person at the terminal, if standard error is one; what takes no longer than this is not worth a word.
    pub(crate) fn after(short: Duration) -> Self {
        let error = io::stderr();
        let to = error.is_terminal().then_some(error).map(|error| Box::new(error) as Box<dyn Write>);
        Self { to, from: Instant::now() + short, last: None }
    }

    /// To somebody else.
    #[cfg(test)]
    pub(crate) fn to(writer: impl Write + 'static) -> Self {
        Self { to: Some(Box::new(writer)), from: Instant::now(), last: None }
    }

    /// Says it, in place of what was said before. May be left out if something was said a moment ago.
    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.to.is_none() || now < self.from || self.last.is_some_and(|last| now < last + PAUSE) {
            return;
        }
        self.say(&what());
        self.last = Some(now);
    }

    /// Says it for sure, in place of what was said before: for what takes long after that.
    pub(crate) fn say(&mut self, what: &str) {
        if let Some(to) = &mut self.to {
            // If it cannot be written, nobody misses it.
            let _ = write!(to, "\r\x1b[K{what}").and_then(|()| to.flush());
            self.last = Some(Instant::now());
        }
    }

    /// Takes what was said off the screen, before something else is written there.
    pub(crate) fn clear(&mut self) {
        if let (Some(to), Some(_)) = (&mut self.to, self.last.take()) {
            let _ = write!(to, "\r\x1b[K").and_then(|()| to.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
