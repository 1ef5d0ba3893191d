//! Who may enter: rules over claims, by path.
//!
//! Programs read the same path differently: some decode it twice, some take `//` for `/`, some forget what follows a
//! `;`. No rule here may be skipped by a spelling. So a path is read twice, once to the letter and once in the widest way
//! ([`widest_reading`]), and where the two lead to different rules, all of those must let the user in. Paths with segments
//! that lead upwards are not read at all.

use std::{borrow::Cow, sync::Arc};

use freshgate::session::OpenSession;
use freshgate_oidc::Claims;
use percent_encoding::percent_decode;
use serde_json::Value;
use url::Url;

use crate::config::GateConfigError;

/// Whom a path lets in, and everything below it.
///
/// Of several rules that cover a path, those with the longest path decide, and no other. One of them suffices. Users must
/// be signed in wherever there is a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRule {
    /// The path below the gate's base path, such as `/reports`: itself and what follows it after a `/`. `/` is everything.
    /// As people write it, without percent-encoding. Upper and lower case make no difference.
    pub path: String,
    /// What a user must meet, all of it. Nothing: being signed in suffices.
    pub conditions: Vec<Condition>,
}

impl AccessRule {
    /// Whether a gate takes this rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), GateConfigError> {
        self.conditions.iter().try_for_each(Condition::check)?;
        // Where the app lives makes no difference to what a rule's path may be.
        let somewhere = Url::parse("https://app.invalid")
            .map_err(|_| GateConfigError::NotARulePath(self.path.clone()))?;
        match read_rule_path(&self.path, &somewhere, "") {
            Some(_) => Ok(()),
            None => Err(GateConfigError::NotARulePath(self.path.clone())),
        }
    }
}

/// One thing that a user must meet.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The e-mail address is one of some, or of one of some domains. Case makes no difference. It must be verified, unless
    /// [`GateConfig::unverified_email`](crate::GateConfig::unverified_email) says otherwise.
    Email {
        /// Whole addresses.
        addresses: Vec<String>,
        /// Domains, such as `example.com`. A subdomain is another domain.
        domains: Vec<String>,
    },
    /// A claim is one of some values, or an array that holds one. To the letter.
    Claim {
        /// The claim's name; or, starting with `/`, a JSON Pointer (RFC 6901) into the claims, such as
        /// `/realm_access/roles`.
        name: String,
        /// The values.
        one_of: Vec<Value>,
    },
}

impl Condition {
    pub(crate) fn is_met(&self, claims: &Claims, unverified_email: bool) -> bool {
        match self {
            Self::Email { addresses, domains } => {
                let Some(email) = claims.get("email").and_then(Value::as_str) else { return false };
                (unverified_email || is_email_verified(claims))
                    && (addresses.iter().any(|address| address.eq_ignore_ascii_case(email))
                        || domain_of(email)
                            .is_some_and(|theirs| domains.iter().any(|one| one.eq_ignore_ascii_case(theirs))))
            }
            Self::Claim { name, one_of } => match claim(claims, name) {
                Some(Value::Array(values)) => values.iter().any(|value| one_of.contains(value)),
                Some(value) => one_of.contains(value),
                None => false,
            },
        }
    }

    fn check(&self) -> Result<(), GateConfigError> {
        let (addresses, domains) = match self {
            Self::Email { addresses, domains } if addresses.is_empty() && domains.is_empty() => {
                return Err(GateConfigError::NothingToMeet("email".to_owned()));
            }
            Self::Claim { name, one_of } if one_of.is_empty() => {
                return Err(GateConfigError::NothingToMeet(name.clone()));
            }
            Self::Claim { .. } => return Ok(()),
            Self::Email { addresses, domains } => (addresses, domains),
        };
        if let Some(bad) = addresses.iter().find(|address| domain_of(address).is_none()) {
            return Err(GateConfigError::NotAnEmailAddress(bad.clone()));
        }
        match domains.iter().find(|domain| !is_domain(domain)) {
            Some(bad) => Err(GateConfigError::NotAnEmailDomain(bad.clone())),
            None => Ok(()),
        }
    }
}

/// Whether the provider has seen that the user reads mail sent to `email` (OpenID Connect Core section 5.1). Some write it
/// as a text.
pub fn is_email_verified(claims: &Claims) -> bool {
    match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

/// The domain of an e-mail address. `None` where it is not plain which that is: an address with several `@` is one of
/// `evil.example` for some programs and one of `example.com` for others.
fn domain_of(email: &str) -> Option<&str> {
    let (local, domain) = email.split_once('@')?;
    (!local.is_empty() && !local.chars().any(is_no_part) && is_domain(domain)).then_some(domain)
}

fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && !text.ends_with('.')
        && !text.chars().any(|character| is_no_part(character) || matches!(character, '@' | '*'))
}

fn is_no_part(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character, '"' | '(' | ')' | '<' | '>' | ',')
}

fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let Some(pointer) = name.strip_prefix('/') else { return claims.get(name) };
    // Its first step, done by hand: the claims are a map and no `Value`.
    let (first, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
    claims.get(&*first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
}

/// All rules of a gate, by path.
#[derive(Debug, Default)]
pub(crate) struct Access {
    unverified_email: bool,
    /// The longest first.
    paths: Vec<GuardedPath>,
}

#[derive(Debug)]
struct GuardedPath {
    /// As browsers send it, without a `/` at the end.
    literal: String,
    /// Its widest reading.
    reading: Vec<u8>,
    /// The longest of the other paths that cover this one.
    parent: Option<usize>,
    /// The conditions of each of its rules. None: everybody may enter.
    rules: Vec<Vec<Condition>>,
}

impl Access {
    /// `open` are paths that everybody may enter where no rule is about the same path or a longer one.
    pub(crate) fn new(
        rules: Vec<AccessRule>,
        open: Vec<String>,
        unverified_email: bool,
        origin: &Url,
        base_path: &str,
    ) -> Result<Self, GateConfigError> {
        let mut paths: Vec<GuardedPath> = Vec::new();
        for AccessRule { path, conditions } in rules {
            conditions.iter().try_for_each(Condition::check)?;
            let Some((literal, reading)) = read_rule_path(&path, origin, base_path) else {
                return Err(GateConfigError::NotARulePath(path));
            };
            match paths.iter_mut().find(|known| known.reading == reading) {
                Some(known) => known.rules.push(conditions),
                None => paths.push(GuardedPath { literal, reading, parent: None, rules: vec![conditions] }),
            }
        }
        // Where no rule is, nothing has to be opened.
        let open = if paths.is_empty() { Vec::new() } else { open };
        for path in open {
            let Some((literal, reading)) = read_rule_path(&path, origin, base_path) else {
                return Err(GateConfigError::NotARulePath(path));
            };
            if !paths.iter().any(|known| known.reading == reading) {
                paths.push(GuardedPath { literal, reading, parent: None, rules: Vec::new() });
            }
        }
        paths.sort_by_key(|path| std::cmp::Reverse(path.reading.len()));
        for at in 0..paths.len() {
            let parent =
                (at + 1..paths.len()).find(|&other| covers(&paths[other].reading, &paths[at].reading));
            paths[at].parent = parent;
        }
        Ok(Self { unverified_email, paths })
    }

    pub(crate) fn unverified_email(&self) -> bool {
        self.unverified_email
    }

    /// Which rules are about a path.
    pub(crate) fn permit(self: &Arc<Self>, path: &str) -> Result<Permit, AmbiguousPath> {
        if self.paths.is_empty() {
            return Ok(Permit::unconditional());
        }
        let widest = widest_reading(path)?;
        let Some(nearest) = self.paths.iter().position(|rule| covers(&rule.reading, &widest)) else {
            return Ok(Permit::unconditional());
        };
        // Every way to read the path finds this one, or one between it and `nearest`.
        let surest = self.paths.iter().position(|rule| covers(rule.literal.as_bytes(), path.as_bytes()));
        Ok(Permit(Some(Covered { access: Arc::clone(self), nearest, surest })))
    }
}

/// What somebody must be to stay where the guard let him in. Cheap to clone, and small: made to be kept with an open
/// socket, and asked again when the session's claims have changed.
#[derive(Clone, Debug)]
pub struct Permit(Option<Covered>);

#[derive(Clone, Debug)]
struct Covered {
    access: Arc<Access>,
    /// Where the rules begin that must all let a user in; they go on with the parents of this one.
    nearest: usize,
    /// Where they end; `None`: with the last.
    surest: Option<usize>,
}

impl Permit {
    /// One that holds for everybody: no rule asks for anything.
    pub fn unconditional() -> Self {
        Self(None)
    }

    /// Whether there is a rule, so that a user must be signed in.
    pub(crate) fn is_for_users(&self) -> bool {
        self.0.as_ref().is_some_and(|covered| covered.paths().any(|path| !path.rules.is_empty()))
    }

    /// Whether the session's user may still be where this was issued, by the claims of now. Where no rule is, everyone may.
    pub fn still_holds(&self, session: &OpenSession) -> bool {
        self.is_met_by(session.claims())
    }

    pub(crate) fn is_met_by(&self, claims: &Claims) -> bool {
        self.refusing_path(claims).is_none()
    }

    /// The path whose rules do not let the user in.
    pub(crate) fn refusing_path(&self, claims: &Claims) -> Option<Cow<'_, str>> {
        let covered = self.0.as_ref()?;
        let meets = |rule: &Vec<Condition>| {
            rule.iter().all(|condition| condition.is_met(claims, covered.access.unverified_email))
        };
        let refusing =
            covered.paths().find(|path| !path.rules.is_empty() && !path.rules.iter().any(meets))?;
        Some(if refusing.literal.is_empty() { "/".into() } else { Cow::from(&refusing.literal) })
    }
}

impl Covered {
    /// The paths whose rules must all let a user in.
    fn paths(&self) -> impl Iterator<Item = &GuardedPath> {
        let mut next = Some(self.nearest);
        std::iter::from_fn(move || {
            let at = next?;
            let path = self.access.paths.get(at)?;
            next = if Some(at) == self.surest { None } else { path.parent };
            Some(path)
        })
    }
}

/// A path that programs read in too many ways to hold it against rules.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path has segments that different programs read differently")]
pub(crate) struct AmbiguousPath;

/// How often a path is decoded at most. Whoever encodes more often has no good reason.
const DECODINGS: usize = 4;

/// A path as a program might read it that decodes until nothing is left to decode, takes an encoded `/`, `?` or `#` for a
/// plain one, forgets empty segments, what follows a `;`, spaces around a segment and dots at its end, and does not mind the
/// case. Without a `/` at its end; empty for the root.
///
/// Ambiguous is a path of which others may read a part that is not in this reading: segments that lead upwards, wherever
/// they are, and a first segment of nothing, since what follows two slashes is the host for whoever takes the path for an
/// address.
fn widest_reading(path: &str) -> Result<Vec<u8>, AmbiguousPath> {
    let mut decoded = Cow::Borrowed(path.as_bytes());
    for decodings in 0.. {
        let once_more: Cow<'_, [u8]> = percent_decode(&decoded).into();
        if *once_more == *decoded {
            break;
        }
        if decodings == DECODINGS {
            return Err(AmbiguousPath);
        }
        decoded = Cow::Owned(once_more.into_owned());
    }
    // Whether a `;` makes forget what follows an encoded `/` depends on which of them is read first.
    let slashes = |text: &[u8]| text.iter().filter(|&&byte| byte == b'/').count();
    if decoded.contains(&b';') && slashes(&decoded) > slashes(path.as_bytes()) {
        return Err(AmbiguousPath);
    }
    if decoded.windows(2).any(is_overlong) || decoded.windows(6).any(is_percent_u) {
        return Err(AmbiguousPath);
    }
    if decoded.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\') {
        return Err(AmbiguousPath);
    }
    // What follows a `?` is no part of the path for some, and for others it is: it must lead nowhere, either.
    let (mut reading, mut is_over) = (Vec::with_capacity(decoded.len()), false);
    let mut segments = decoded.split(|&byte| byte == b'/').skip(1).peekable();
    let mut is_first = true;
    while let Some(segment) = segments.next() {
        for (at, part) in segment.split(|byte| matches!(byte, b'?' | b'#')).enumerate() {
            is_over |= at > 0;
            let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
            let name = &name[name.iter().take_while(|&&byte| byte == b' ').count()..];
            let name_end =
                name.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
            let is_host = is_first && name_end == 0 && segments.peek().is_some();
            if (name_end == 0 && name.contains(&b'.')) || is_host {
                return Err(AmbiguousPath);
            }
            if name_end > 0 && !is_over {
                reading.push(b'/');
                reading.extend(&name[..name_end]);
            }
        }
        is_first = false;
    }
    Ok(without_case(reading))
}

/// As programs read it that do not mind the case, by whatever rule.
fn without_case(text: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(text) {
        Ok(text) => text.to_uppercase().to_lowercase().into_bytes(),
        Err(error) => error.into_bytes().to_ascii_lowercase(),
    }
}

/// More bytes than UTF-8 allows for a character: some decoders take them for ASCII all the same (RFC 3629 section 10).
fn is_overlong(pair: &[u8]) -> bool {
    matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
}

/// `%u0061`, which is no encoding of URLs and which some servers decode.
fn is_percent_u(text: &[u8]) -> bool {
    matches!(text, [b'%', b'u' | b'U', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit))
}

/// A rule's path: as browsers send it, and as it is read. `None` if it is not plain.
fn read_rule_path(path: &str, origin: &Url, base_path: &str) -> Option<(String, Vec<u8>)> {
    if path == "/" {
        return Some((String::new(), Vec::new()));
    }
    let whole = format!("{base_path}{}", path.strip_suffix('/').unwrap_or(path));
    let mut url = origin.clone();
    url.set_path(&whole);
    let is_plain = path.starts_with('/')
        && !path.contains(['*', '%'])
        && widest_reading(url.path()).is_ok_and(|reading| reading == without_case(whole.clone().into()));
    is_plain.then(|| (url.path().to_owned(), without_case(whole.into())))
}

/// Whether a path is this one, or below it.
fn covers(above: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests;
