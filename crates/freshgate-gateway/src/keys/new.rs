//! `freshgate keys new`.

use std::io::Write;

use super::{
    Failed, Operator,
    file::{FileKey, KeyFile},
};

/// Makes a key that opens and does not seal yet: it is to seal once every gate knows it.
pub(super) fn new(keys: &Operator<'_>, out: &mut dyn Write) -> Result<(), Failed> {
    let key = FileKey::new(keys.entropy.token(), keys.clock.now());
    let path = &keys.config.keys.file;
    let (id, is_first) = (key.id, !path.exists());
    KeyFile::change(path, |file| {
        file.keys.push(key);
        Ok::<_, Failed>(())
    })?;
    writeln!(out, "{id} is made: it opens, and seals nothing yet.")?;
    if is_first {
        writeln!(out, "It is in {}. Back that file up with the session store.", path.display())?;
    }
    writeln!(
        out,
        "Running gates that read this file learn it within a second; give a copy to all others on this store. Then:\n\
         \n    freshgate keys rotate"
    )?;
    Ok(out.flush()?)
}
