//! `freshgate keys rotate`.

use std::io::Write;

use freshgate::keyring::{KeyId, Keyring, Resealing, SealCounts};

use super::{
    Failed, Operator,
    count::{PAGE, percent, sessions},
    file::{KeyFile, State},
    list::strangers,
    remove::{Need, need},
    ring,
};
use crate::progress::Progress;

/// How often all sessions are gone through at most, while gates go on sealing with a former key.
const PASSES: usize = 5;

/// Has the newest key seal, and seals anew whatever is sealed with another.
///
/// The file is changed first: from then on everything opens with the keys that it holds, whatever becomes of us. Who
/// starts this again goes on where it stopped.
pub(super) async fn rotate(
    keys: &Operator<'_>,
    drop_old: bool,
    progress: &mut Progress,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    let promoted = promote(keys)?;
    if let Some(id) = promoted {
        writeln!(out, "{id} seals from now on.")?;
        out.flush()?;
        progress.say("running gates take the key up");
        tokio::time::sleep(keys.settling).await;
    }
    let keyring = ring::read(&keys.config.keys, &keys.config.cookie_secret)?;
    let (counts, resealed) = reseal(keys, &keyring, progress).await?;
    progress.clear();
    tell(keys, &keyring, &counts, promoted.is_some(), resealed, out)?;
    let gone = if drop_old { drop_unneeded(keys, &counts)? } else { Vec::new() };
    for id in &gone {
        writeln!(out, "{id} is removed.")?;
    }
    tell_of_former(keys, &counts, out)?;
    Ok(out.flush()?)
}

/// Makes the newest key seal, if there is one that waits for it.
fn promote(keys: &Operator<'_>) -> Result<Option<KeyId>, Failed> {
    let waits = |file: &KeyFile| file.keys.iter().any(|key| key.state == State::New);
    if !waits(&keys.key_file()?) {
        return Ok(None);
    }
    let now = keys.clock.now();
    KeyFile::change(&keys.config.keys.file, |file| {
        // The last of them: keys are added at the end.
        let newest = file.keys.iter().rev().find(|key| key.state == State::New).map(|key| key.id);
        let Some(newest) = newest else { return Ok(None) };
        for key in &mut file.keys {
            match key.state {
                _ if key.id == newest => key.becomes(State::Seals, now),
                State::Seals | State::New => key.becomes(State::Former, now),
                State::Former => {}
            }
        }
        Ok(Some(newest))
    })
}

/// Goes through all sessions until a whole way finds nothing left to do. What was found last, and how many were sealed anew
/// on all ways.
async fn reseal(
    keys: &Operator<'_>,
    keyring: &Keyring,
    progress: &mut Progress,
) -> Result<(SealCounts, u64), Failed> {
    let mut resealed = 0;
    let mut counts = SealCounts::default();
    for pass in 0..PASSES {
        if pass > 1 {
            // What the first pass could not see is done; what comes now is from a gate that has not looked yet.
            progress.say("gates still seal with a former key");
            tokio::time::sleep(keys.settling).await;
        }
        let mut way = Resealing::with(keys.store.clone(), keyring.clone(), keys.entropy.clone());
        while way.step(PAGE).await? {
            let done = resealed + way.counts().resealed;
            progress.tell(|| format!("{done} sessions sealed anew, {}", percent(way.fraction())));
        }
        counts = way.counts().clone();
        resealed += counts.resealed;
        // A gate may have written behind our back.
        if counts.resealed == 0 && counts.overtaken == 0 {
            return Ok((counts, resealed));
        }
    }
    let others = counts.by_key.keys().filter(|id| **id != keyring.seals() && keyring.opens(**id));
    let others: Vec<String> = others.map(KeyId::to_string).collect();
    // On a store that is busy each way meets writes of others; what counts is with which key.
    if others.is_empty() { Ok((counts, resealed)) } else { Err(Failed::StillSealing(others.join(", "))) }
}

fn tell(
    keys: &Operator<'_>,
    keyring: &Keyring,
    counts: &SealCounts,
    promoted: bool,
    resealed: u64,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    let seals = keyring.seals();
    match resealed {
        0 => writeln!(out, "{seals} seals, and everything that opens is sealed with it.")?,
        1 => writeln!(out, "1 session was sealed anew with {seals}.")?,
        many => writeln!(out, "{many} sessions were sealed anew with {seals}.")?,
    }
    if !promoted && resealed == 0 {
        writeln!(out, "To change it, make a new key first: freshgate keys new")?;
    }
    let entries = keys.entries(&keys.key_file()?);
    for (id, count) in strangers(&entries, counts) {
        writeln!(out, "{id} is not here, so what it sealed stays as it is: {}.", sessions(count))?;
    }
    if counts.damaged > 0 {
        writeln!(out, "{} sessions are damaged, and stay as they are.", counts.damaged)?;
    }
    if counts.in_no_format > 0 {
        writeln!(out, "{} sessions are in a format that this freshgate does not know.", counts.in_no_format)?;
    }
    Ok(())
}

fn drop_unneeded(keys: &Operator<'_>, counts: &SealCounts) -> Result<Vec<KeyId>, Failed> {
    let now = keys.clock.now();
    let goes = |key: &super::file::FileKey| key.state == State::Former && need(key, counts, now).is_none();
    if !keys.key_file()?.keys.iter().any(goes) {
        return Ok(Vec::new());
    }
    KeyFile::change(&keys.config.keys.file, |file| {
        let gone = file.keys.iter().filter(|key| goes(key)).map(|key| key.id).collect();
        file.keys.retain(|key| !goes(key));
        Ok(gone)
    })
}

/// Says which keys may go, and why others may not yet.
fn tell_of_former(keys: &Operator<'_>, counts: &SealCounts, out: &mut dyn Write) -> Result<(), Failed> {
    let now = keys.clock.now();
    for key in keys.key_file()?.keys.iter().filter(|key| key.state == State::Former) {
        let id = key.id;
        match need(key, counts, now) {
            None => writeln!(out, "{id} is needed no more: freshgate keys remove {id}")?,
            Some(Need::LoginsUnderWay) => writeln!(
                out,
                "{id} may go in ten minutes, when the logins under way are over: freshgate keys remove {id}"
            )?,
            Some(Need::Sessions) => writeln!(out, "{id} is needed for {}.", sessions(counts.of(id)))?,
            Some(Need::Seals) => {}
        }
    }
    Ok(())
}
