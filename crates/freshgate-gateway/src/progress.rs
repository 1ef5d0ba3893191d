//! What tells a person how far something is: at a terminal a line that goes when it is over, and elsewhere, for what takes
//! long, a line now and then.

use std::{
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

/// At most so often: a terminal far away shall not slow the work down.
const PAUSE: Duration = Duration::from_millis(100);
/// At most so often in a file, or in the mail that cron sends.
const PAUSE_OF_LINES: Duration = Duration::from_secs(5);

/// Tells how far something is. Quiet where nobody looks, unless that is asked for.
pub(crate) struct Progress {
    to: Option<Box<dyn Write>>,
    shape: Shape,
    /// Nothing is said before.
    from: Instant,
    last: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Each text takes the place of the one before.
    InPlace,
    /// Each is a line of its own.
    Lines,
}

impl Progress {
    /// To the person at the terminal, if standard error is one; what takes no longer than this is not worth a word.
    pub(crate) fn after(short: Duration) -> Self {
        let error = io::stderr();
        let to = error.is_terminal().then_some(error).map(|error| Box::new(error) as Box<dyn Write>);
        Self { to, shape: Shape::InPlace, from: Instant::now() + short, last: None }
    }

    /// Not quiet elsewhere either: whoever looks into a log, or waits for a script, sees a line every five seconds, and none
    /// of what takes no longer.
    pub(crate) fn or_in_lines(self) -> Self {
        match self.to {
            Some(_) => self,
            None => Self::lines_to(io::stderr(), PAUSE_OF_LINES),
        }
    }

    fn lines_to(writer: impl Write + 'static, from: Duration) -> Self {
        Self { to: Some(Box::new(writer)), shape: Shape::Lines, from: Instant::now() + from, last: None }
    }

    /// To somebody else.
    #[cfg(test)]
    pub(crate) fn to(writer: impl Write + 'static) -> Self {
        Self { to: Some(Box::new(writer)), shape: Shape::InPlace, from: Instant::now(), last: None }
    }

    /// Says it, in place of what was said before. May be left out if something was said a moment ago.
    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = Instant::now();
        let pause = match self.shape {
            Shape::InPlace => PAUSE,
            Shape::Lines => PAUSE_OF_LINES,
        };
        if self.to.is_none() || now < self.from || self.last.is_some_and(|last| now < last + pause) {
            return;
        }
        self.say(&what());
    }

    /// Says it for sure, in place of what was said before: for what takes long after that. As a line it may be left out, as
    /// nobody waits for it.
    pub(crate) fn say(&mut self, what: &str) {
        let now = Instant::now();
        let Some(to) = &mut self.to else { return };
        // If it cannot be written, nobody misses it.
        let _ = match self.shape {
            Shape::InPlace => write!(to, "\r\x1b[K{what}").and_then(|()| to.flush()),
            Shape::Lines if now < self.from => return,
            Shape::Lines => writeln!(to, "{what}").and_then(|()| to.flush()),
        };
        self.last = Some(now);
    }

    /// Takes what was said off the screen, before something else is written there.
    pub(crate) fn clear(&mut self) {
        if self.shape == Shape::Lines {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Told(mpsc::Sender<Vec<u8>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_late_and_seldom_and_stay() {
        let said = |from, steps: &[&str]| {
            let (told, heard) = mpsc::channel();
            let mut progress = Progress::lines_to(Told(told), from);
            progress.say("for sure");
            for step in steps {
                progress.tell(|| (*step).to_owned());
            }
            progress.clear();
            drop(progress);
            String::from_utf8(heard.iter().flatten().collect()).unwrap()
        };
        assert_eq!(said(Duration::from_secs(3600), &["1 %", "2 %"]), "", "it does not take long yet");
        assert_eq!(said(Duration::ZERO, &["1 %", "2 %"]), "for sure\n", "the next are due in five seconds");
    }
}
