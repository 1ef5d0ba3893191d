//! Our cookies: what a browser offers, what we take out of a request, and what we set.
//!
//! | cookie | holds | lives |
//! |---|---|---|
//! | `freshgate` | the session id, and nothing else | as long as the session, 400 days at most |
//! | `freshgate-login-FLOW` | one login under way, sealed by the engine | 10 minutes |
//! | `freshgate-logout` | the `state` of a logout at the provider | 10 minutes |
//!
//! Over https each has the prefix `__Host-`: a browser then takes it from this host alone, over https, for all paths
//! (RFC 6265bis section 4.1.3.2), so neither a sibling domain nor a page in the clear can plant one. A session, and a logout,
//! that are for several hosts have `__Secure-` instead, and a `Domain`: a browser takes them over https alone, but from each
//! host under the domain.
//!
//! We never clear the session cookie of a browser that did not ask to sign out. An answer that finds its session over
//! may arrive after another tab has signed in again, and would throw the new session away.

use std::time::Duration;

use freshgate::{Timestamp, engine::FLOW_LIFETIME, session::SessionId};
use http::{HeaderMap, HeaderValue, header};

/// How many logins may be under way in one browser, unless the operator says otherwise.
pub(crate) const FLOWS_KEPT: usize = 8;
/// How much the cookies of all of them may take: servers in front of us refuse headers of more than 8 KiB.
const FLOW_BYTES_KEPT: usize = 6 * 1024;
/// How many cookies one answer clears at most, whatever a browser offers.
const CLEARED_AT_ONCE: usize = 32;
/// How much a browser keeps of one cookie, name and value together (RFC 6265bis section 5.6).
pub(crate) const COOKIE_BYTES: usize = 4096;
/// How long a browser keeps a cookie at most (RFC 6265bis section 5.5).
const COOKIE_LIFETIME: Duration = Duration::from_secs(400 * 24 * 3600);

/// What a browser offers as its session.
#[derive(Debug)]
pub(crate) enum Offered {
    /// No session cookie.
    Nothing,
    /// One that can be an id of ours. Whether it opens a session, the engine knows.
    WellFormed(SessionId),
    /// One that cannot.
    Malformed,
    /// Several that differ. On plain http a page on another port of this host can add a cookie of the same name
    /// ("cookie tossing"), and have the user work in a session of the attacker's. The order in which a browser sends
    /// them proves nothing, and neither does which of them opens a session; so none is taken. With the prefix
    /// `__Host-` a browser holds one at most.
    Conflicting,
}

/// The names of our cookies, and how they are set.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    session: &'static str,
    flow_prefix: &'static str,
    logout: &'static str,
    secure: bool,
    /// The domain whose hosts share the session, and where they sign out.
    domain: Option<String>,
    flows_kept: usize,
}

impl Cookies {
    pub(crate) fn new(secure: bool, domain: Option<String>) -> Self {
        let (session, logout) = match (secure, &domain) {
            (true, None) => ("__Host-freshgate", "__Host-freshgate-logout"),
            (true, Some(_)) => ("__Secure-freshgate", "__Secure-freshgate-logout"),
            (false, _) => ("freshgate", "freshgate-logout"),
        };
        let flow_prefix = if secure { "__Host-freshgate-login-" } else { "freshgate-login-" };
        Self { session, flow_prefix, logout, secure, domain, flows_kept: FLOWS_KEPT }
    }

    /// The same, keeping this many logins under way in one browser.
    pub(crate) fn keeping_flows(self, flows_kept: usize) -> Self {
        Self { flows_kept, ..self }
    }

    /// What the browser offers as its session.
    pub(crate) fn session(&self, headers: &HeaderMap) -> Offered {
        match only(headers, self.session.as_bytes()) {
            Only::None => Offered::Nothing,
            Only::Several => Offered::Conflicting,
            Only::One(value) => match std::str::from_utf8(value).ok().and_then(SessionId::parse) {
                Some(id) => Offered::WellFormed(id),
                None => Offered::Malformed,
            },
        }
    }

    /// The sealed flow of a login under way.
    pub(crate) fn flow<'a>(&self, headers: &'a HeaderMap, flow: &str) -> Option<&'a str> {
        let name = format!("{}{flow}", self.flow_prefix);
        match only(headers, name.as_bytes()) {
            Only::One(value) => Some(std::str::from_utf8(value).ok()?.split_once('.')?.1),
            Only::None | Only::Several => None,
        }
    }

    /// The `state` of a logout under way at the provider, and what is to be known besides when it is over.
    pub(crate) fn logout_state<'a>(&self, headers: &'a HeaderMap) -> Option<(&'a str, Option<&'a str>)> {
        let value = match only(headers, self.logout.as_bytes()) {
            Only::One(value) => std::str::from_utf8(value).ok()?,
            Only::None | Only::Several => return None,
        };
        Some(value.split_once('.').map_or((value, None), |(state, then)| (state, Some(then))))
    }

    pub(crate) fn set_session(&self, id: &SessionId, lifetime: Duration) -> Option<HeaderValue> {
        let lifetime = lifetime.min(COOKIE_LIFETIME);
        self.set(self.session, id.as_secret().expose(), lifetime, self.domain.as_deref())
    }

    pub(crate) fn clear_session(&self) -> Option<HeaderValue> {
        self.set(self.session, "", Duration::ZERO, self.domain.as_deref())
    }

    /// Keeps the `state`, which has no dot in it, and what is to be known when the browser comes back.
    pub(crate) fn set_logout_state(&self, state: &str, then: Option<&str>) -> Option<HeaderValue> {
        let value = then.map_or_else(|| state.to_owned(), |then| format!("{state}.{then}"));
        self.set(self.logout, &value, FLOW_LIFETIME, self.domain.as_deref())
    }

    pub(crate) fn clear_logout_state(&self) -> Option<HeaderValue> {
        self.set(self.logout, "", Duration::ZERO, self.domain.as_deref())
    }

    /// Sets the cookie of a login that starts now. `None` if no browser would keep it.
    ///
    /// A browser does not tell how old a cookie is, so the value starts with the time in seconds. It is not sealed:
    /// it only chooses which of this browser's own logins is forgotten first.
    pub(crate) fn set_flow(&self, flow: &str, sealed: &str, now: Timestamp) -> Option<HeaderValue> {
        let name = format!("{}{flow}", self.flow_prefix);
        let value = format!("{}.{sealed}", unix_seconds(now));
        (name.len() + value.len() <= COOKIE_BYTES).then(|| self.set(&name, &value, FLOW_LIFETIME, None))?
    }

    pub(crate) fn clear_flow(&self, flow: &str) -> Option<HeaderValue> {
        self.set(&format!("{}{flow}", self.flow_prefix), "", Duration::ZERO, None)
    }

    /// Clears what must go before one more login starts whose cookie takes `room` bytes: what is over, then the oldest.
    pub(crate) fn clear_surplus_flows(
        &self,
        headers: &HeaderMap,
        room: usize,
        now: Timestamp,
    ) -> Vec<HeaderValue> {
        let mut flows = self.flows(headers);
        // The newest first. What claims to come from the future was not written by us: it goes first.
        flows.sort_by_key(|flow| {
            std::cmp::Reverse(flow.started.filter(|started| *started <= unix_seconds(now)))
        });
        let (mut kept, mut bytes) = (1, room);
        let surplus = flows.iter().filter(|flow| {
            let alive = flow.started.is_some_and(|started| {
                let age = unix_seconds(now).checked_sub(started);
                age.is_some_and(|age| (0..FLOW_LIFETIME.as_secs() as i64).contains(&age))
            });
            let fits = kept < self.flows_kept && bytes + flow.size <= FLOW_BYTES_KEPT;
            if alive && fits {
                kept += 1;
                bytes += flow.size;
            }
            !(alive && fits)
        });
        surplus.take(CLEARED_AT_ONCE).filter_map(|flow| self.clear_flow(flow.id)).collect()
    }

    /// Clears every login under way.
    pub(crate) fn clear_flows(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        self.flows(headers).iter().take(CLEARED_AT_ONCE).filter_map(|flow| self.clear_flow(flow.id)).collect()
    }

    fn flows<'a>(&self, headers: &'a HeaderMap) -> Vec<FlowCookie<'a>> {
        let flow = |(name, value): (&'a [u8], &'a [u8])| {
            let id = name.strip_prefix(self.flow_prefix.as_bytes())?;
            let well_formed = (1..=64).contains(&id.len())
                && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            let id = std::str::from_utf8(id).ok().filter(|_| well_formed)?;
            let started =
                value.split(|byte| *byte == b'.').next().and_then(|text| std::str::from_utf8(text).ok());
            Some(FlowCookie {
                id,
                started: started.and_then(|text| text.parse().ok()),
                size: name.len() + value.len(),
            })
        };
        pairs(headers).filter_map(flow).collect()
    }

    fn set(&self, name: &str, value: &str, lifetime: Duration, domain: Option<&str>) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let domain = domain.map(|domain| format!("; Domain={domain}")).unwrap_or_default();
        let lifetime = lifetime.as_secs();
        let cookie =
            format!("{name}={value}; Path=/{domain}; Max-Age={lifetime}; HttpOnly; SameSite=Lax{secure}");
        let mut cookie = HeaderValue::try_from(cookie).ok()?;
        cookie.set_sensitive(true);
        Some(cookie)
    }
}

/// Takes our cookies out of a request: whoever is behind the gate has no use for them, and could sign in with them.
///
/// All of ours, with and without the prefix: a page in the clear may have planted the plain name on an https site.
pub(crate) fn take_out_ours(headers: &mut HeaderMap) {
    if !pairs(headers).any(|(name, _)| is_ours(name)) {
        return;
    }
    let left: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().filter_map(without_ours).collect();
    headers.remove(header::COOKIE);
    for value in left {
        headers.append(header::COOKIE, value);
    }
}

fn without_ours(value: &HeaderValue) -> Option<HeaderValue> {
    let mut left = Vec::with_capacity(value.len());
    for crumb in crumbs(value.as_bytes()).filter(|crumb| !is_ours(split(crumb).0)) {
        if !left.is_empty() {
            left.extend_from_slice(b"; ");
        }
        left.extend_from_slice(crumb);
    }
    if left.is_empty() { None } else { HeaderValue::from_maybe_shared(bytes::Bytes::from(left)).ok() }
}

fn is_ours(name: &[u8]) -> bool {
    let name =
        [&b"__Host-"[..], b"__Secure-"].iter().find_map(|prefix| name.strip_prefix(*prefix)).unwrap_or(name);
    matches!(name.strip_prefix(b"freshgate"), Some([] | [b'-', ..]))
}

fn unix_seconds(now: Timestamp) -> i64 {
    now.as_unix_millis().div_euclid(1000)
}

struct FlowCookie<'a> {
    id: &'a str,
    /// Unix seconds, as the cookie says.
    started: Option<i64>,
    size: usize,
}

enum Only<'a> {
    None,
    One(&'a [u8]),
    Several,
}

/// The value of the cookie of this name, unless there are several that differ.
fn only<'a>(headers: &'a HeaderMap, name: &[u8]) -> Only<'a> {
    let mut found = Only::None;
    for (_, value) in pairs(headers).filter(|(offered, _)| *offered == name) {
        match found {
            Only::One(before) if before != value => return Only::Several,
            _ => found = Only::One(value),
        }
    }
    found
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(header::COOKIE).iter().flat_map(|value| crumbs(value.as_bytes())).map(split)
}

fn crumbs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|crumb| !crumb.is_empty())
}

fn split(crumb: &[u8]) -> (&[u8], &[u8]) {
    match crumb.iter().position(|byte| *byte == b'=') {
        Some(at) => (crumb[..at].trim_ascii_end(), crumb[at + 1..].trim_ascii_start()),
        None => (crumb, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER_ID: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

    fn headers(cookies: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        }
        headers
    }

    #[derive(Debug, PartialEq)]
    enum Expected {
        Nothing,
        Id(&'static str),
        Malformed,
        Conflicting,
    }

    #[test]
    fn reads_what_a_browser_offers_as_its_session() {
        use Expected::{Conflicting, Id, Malformed, Nothing};
        let name = "__Host-freshgate";
        let table: Vec<(Vec<String>, Expected)> = vec![
            (vec![], Nothing),
            (vec![String::new()], Nothing),
            (vec!["; ;;  ; =; ==".into()], Nothing),
            (vec![format!("{name}={ID}")], Id(ID)),
            (vec![format!("a=b;{name}={ID};c=d")], Id(ID)),
            (vec![format!("a=b; \t {name} = {ID} ; c=d")], Id(ID)),
            (vec!["a=b".into(), format!("{name}={ID}")], Id(ID)),
            // Another name is another cookie.
            (vec![format!("freshgate={ID}")], Nothing),
            (vec![format!("x{name}={ID}")], Nothing),
            (vec![format!("{name}x={ID}")], Nothing),
            (vec![format!("__host-freshgate={ID}")], Nothing),
            (vec![format!("__Host-freshgate-login-x={ID}")], Nothing),
            (vec![format!("a={name}={ID}")], Nothing),
            (vec![format!("a=\"; {name}={ID}")], Id(ID)),
            // Not an id of ours.
            (vec![name.into()], Malformed),
            (vec![format!("{name}=")], Malformed),
            (vec![format!("{name}=\"{ID}\"")], Malformed),
            (vec![format!("{name}={ID}A")], Malformed),
            (vec![format!("{name}={}", &ID[1..])], Malformed),
            (vec![format!("{name}={}=", &ID[1..])], Malformed),
            (vec![format!("{name}={}%", &ID[1..])], Malformed),
            (vec![format!("{name}={}", "A".repeat(100_000))], Malformed),
            // Twice the same is one; two that differ are none, whichever comes first.
            (vec![format!("{name}={ID}; {name}={ID}")], Id(ID)),
            (vec![format!("{name}={ID}"), format!("{name}={ID}")], Id(ID)),
            (vec![format!("{name}={ID}; {name}={OTHER_ID}")], Conflicting),
            (vec![format!("{name}={OTHER_ID}"), format!("{name}={ID}")], Conflicting),
            (vec![format!("{name}={ID}; {name}=")], Conflicting),
            (vec![format!("{name}=; {name}={ID}")], Conflicting),
            (vec![format!("{name}={ID}; {name}")], Conflicting),
        ];
        for (cookies, expected) in table {
            let lines: Vec<&[u8]> = cookies.iter().map(String::as_bytes).collect();
            let offered = match Cookies::new(true, None).session(&headers(&lines)) {
                Offered::Nothing => Nothing,
                Offered::WellFormed(id) => Id(if id.as_secret().expose() == ID { ID } else { OTHER_ID }),
                Offered::Malformed => Malformed,
                Offered::Conflicting => Conflicting,
            };
            assert_eq!(offered, expected, "{cookies:?}");
        }
    }

    #[test]
    fn the_plain_name_counts_on_plain_http_only() {
        let plain = headers(&[format!("freshgate={ID}").as_bytes()]);
        assert!(matches!(Cookies::new(false, None).session(&plain), Offered::WellFormed(_)));
        assert!(matches!(Cookies::new(true, None).session(&plain), Offered::Nothing));
        let prefixed = headers(&[format!("__Host-freshgate={ID}").as_bytes()]);
        assert!(matches!(Cookies::new(false, None).session(&prefixed), Offered::Nothing));
    }

    #[test]
    fn takes_our_cookies_out_and_leaves_the_rest_as_it_was() {
        type Lines = &'static [&'static [u8]];
        let table: &[(Lines, Lines)] = &[
            (&[], &[]),
            (&[b"a=b"], &[b"a=b"]),
            // Untouched, to the byte, where there is none of ours.
            (&[b"a=b;c=d;;  e"], &[b"a=b;c=d;;  e"]),
            (&[b"freshgate=x"], &[]),
            (&[b"__Host-freshgate=x; freshgate=y"], &[]),
            (&[b"a=b; __Host-freshgate=x; c=d"], &[b"a=b; c=d"]),
            (&[b"__Host-freshgate=x;a=b"], &[b"a=b"]),
            (&[b"a=b", b"freshgate=x", b"c=d; freshgate-login-abc=1.2"], &[b"a=b", b"c=d"]),
            (&[b"__Host-freshgate-logout=x; a=\"q q\""], &[b"a=\"q q\""]),
            (&[b"freshgate = x; a=b"], &[b"a=b"]),
            (&[b"freshgate; a=b"], &[b"a=b"]),
            (&[b"freshgateway=x; xfreshgate=y"], &[b"freshgateway=x; xfreshgate=y"]),
            (&[b"a=\xff\xfe; freshgate=x"], &[b"a=\xff\xfe"]),
            (&[b"freshgate=x; freshgate=y; _streamlit_xsrf=2|a|b|c"], &[b"_streamlit_xsrf=2|a|b|c"]),
        ];
        for (before, after) in table {
            let mut headers = headers(before);
            take_out_ours(&mut headers);
            let left: Vec<&[u8]> =
                headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(left, *after, "{before:?}");
        }
    }

    #[test]
    fn sets_each_with_all_that_keeps_it_safe() {
        let id = SessionId::parse(ID).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let text = |cookie: Option<HeaderValue>| cookie.unwrap().to_str().unwrap().to_owned();
        let (https, http) = (Cookies::new(true, None), Cookies::new(false, None));
        assert_eq!(
            text(https.set_session(&id, day)),
            format!("__Host-freshgate={ID}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure")
        );
        assert_eq!(
            text(http.set_session(&id, 1000 * day)),
            format!("freshgate={ID}; Path=/; Max-Age=34560000; HttpOnly; SameSite=Lax")
        );
        assert_eq!(
            text(https.clear_session()),
            "__Host-freshgate=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            text(http.set_flow("FLOW", "SEALED", Timestamp::from_unix_seconds(1_000))),
            "freshgate-login-FLOW=1000.SEALED; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            text(https.set_logout_state("STATE", None)),
            "__Host-freshgate-logout=STATE; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(https.set_session(&id, day).unwrap().is_sensitive());
    }

    #[test]
    fn a_flow_that_no_browser_would_keep_is_not_set() {
        let now = Timestamp::from_unix_seconds(1_000);
        let cookies = Cookies::new(true, None);
        assert!(cookies.set_flow("F", &"s".repeat(COOKIE_BYTES), now).is_none());
        assert!(cookies.set_flow("F", "a\r\nSet-Cookie: b", now).is_none());
    }

    #[test]
    fn a_session_for_several_hosts_has_a_domain_and_a_login_under_way_has_none() {
        let (https, http) = (
            Cookies::new(true, Some("apps.example".into())),
            Cookies::new(false, Some("apps.localhost".into())),
        );
        let text = |cookie: Option<HeaderValue>| cookie.unwrap().to_str().unwrap().to_owned();
        let id = SessionId::parse(ID).unwrap();
        assert_eq!(
            text(https.set_session(&id, Duration::from_secs(60))),
            format!(
                "__Secure-freshgate={ID}; Path=/; Domain=apps.example; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
            )
        );
        assert_eq!(
            text(http.clear_session()),
            "freshgate=; Path=/; Domain=apps.localhost; Max-Age=0; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            text(https.set_logout_state("STATE", Some("!https://wiki.apps.example/"))),
            "__Secure-freshgate-logout=STATE.!https://wiki.apps.example/; Path=/; Domain=apps.example; Max-Age=600; \
             HttpOnly; SameSite=Lax; Secure"
        );
        let flow = text(https.set_flow("F", "sealed", Timestamp::from_unix_seconds(1)));
        assert!(flow.starts_with("__Host-freshgate-login-F=") && !flow.contains("Domain"), "{flow}");
        // What was for one host alone is no session any more.
        let before = headers(&[format!("__Host-freshgate={ID}").as_bytes()]);
        assert!(matches!(https.session(&before), Offered::Nothing));
        let back = headers(&[b"__Secure-freshgate-logout=STATE.!https://wiki.apps.example/"]);
        assert_eq!(https.logout_state(&back), Some(("STATE", Some("!https://wiki.apps.example/"))));
    }

    #[test]
    fn finds_the_flow_of_a_state() {
        let cookies = Cookies::new(true, None);
        let offered =
            headers(&[b"__Host-freshgate-login-A=1000.v4.sealed; __Host-freshgate-login-B=nonsense"]);
        assert_eq!(cookies.flow(&offered, "A"), Some("v4.sealed"));
        assert_eq!(cookies.flow(&offered, "B"), None);
        assert_eq!(cookies.flow(&offered, "C"), None);
        let twice = headers(&[b"__Host-freshgate-login-A=1.x; __Host-freshgate-login-A=1.y"]);
        assert_eq!(cookies.flow(&twice, "A"), None);
    }

    #[test]
    fn keeps_as_many_logins_as_it_is_told() {
        let now = Timestamp::from_unix_seconds(10_000);
        let offered =
            headers(&[b"freshgate-login-a=9990.x; freshgate-login-b=9980.x; freshgate-login-c=9970.x"]);
        let cleared =
            |kept| Cookies::new(false, None).keeping_flows(kept).clear_surplus_flows(&offered, 10, now).len();
        assert_eq!((cleared(4), cleared(2)), (0, 2), "one place is for the login that is about to start");
    }

    #[test]
    fn forgets_the_oldest_logins_first() {
        let now = Timestamp::from_unix_seconds(10_000);
        let flow = |id: &str, started: &str, size: usize| {
            format!("freshgate-login-{id}={started}.{}", "s".repeat(size))
        };
        let eight = |from: i64| {
            (0..8).map(|i| flow(&format!("f{i}"), &(from + i).to_string(), 10)).collect::<Vec<_>>()
        };
        let with = |mut flows: Vec<String>, more: &[String]| {
            flows.extend_from_slice(more);
            flows
        };
        let table: Vec<(&str, Vec<String>, Vec<&str>)> = vec![
            ("none", vec![], vec![]),
            ("seven leave room for one", eight(9_900)[1..].to_vec(), vec![]),
            ("of eight the oldest goes", eight(9_900), vec!["f0"]),
            (
                "of ten the three oldest",
                with(eight(9_900), &[flow("g", "9000", 1), flow("h", "9950", 1)]),
                vec!["f1", "f0", "g"],
            ),
            ("what is over goes", vec![flow("old", "9400", 1), flow("alive", "9401", 1)], vec!["old"]),
            (
                "no time of ours",
                vec![flow("x", "soon", 1), flow("y", "-9999999999999999999", 1), flow("z", "", 1)],
                vec!["x", "y", "z"],
            ),
            ("from the future", vec![flow("future", "10001", 1), flow("alive", "9990", 1)], vec!["future"]),
            (
                "too large together",
                vec![flow("big", "9990", 3_000), flow("bigger", "9980", 3_500)],
                vec!["bigger"],
            ),
            (
                "names that we cannot echo",
                vec!["freshgate-login-a b=1.x".into(), format!("freshgate-login-{}=1.x", "i".repeat(65))],
                vec![],
            ),
        ];
        let cookies = Cookies::new(false, None);
        for (what, flows, expected) in table {
            let offered = headers(&[flows.join("; ").as_bytes()]);
            let cleared = cookies.clear_surplus_flows(&offered, 500, now);
            let cleared: Vec<String> = cleared
                .iter()
                .map(|cookie| {
                    cookie.to_str().unwrap().split_once('=').unwrap().0["freshgate-login-".len()..].to_owned()
                })
                .collect();
            assert_eq!(cleared, expected, "{what}");
        }
        let flood: Vec<String> = (0..1000).map(|i| flow(&format!("f{i}"), "1", 1)).collect();
        let offered = headers(&[flood.join("; ").as_bytes()]);
        assert_eq!(cookies.clear_surplus_flows(&offered, 500, now).len(), CLEARED_AT_ONCE);
        assert_eq!(cookies.clear_flows(&offered).len(), CLEARED_AT_ONCE);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_browser_upset_us(lines in proptest::collection::vec(line(), 0..4)) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            let mut headers = headers(&lines);
            let now = Timestamp::from_unix_seconds(1_000_000);
            let shared = Cookies::new(true, Some("apps.example".into()));
            for cookies in [Cookies::new(true, None), Cookies::new(false, None), shared] {
                cookies.session(&headers);
                cookies.flow(&headers, "A");
                cookies.logout_state(&headers);
                cookies.clear_flows(&headers);
                cookies.clear_surplus_flows(&headers, 1_000, now);
            }
            let theirs = |headers: &HeaderMap| -> Vec<(Vec<u8>, Vec<u8>)> {
                let theirs = pairs(headers).filter(|(name, _)| !is_ours(name));
                theirs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
            };
            let before = theirs(&headers);
            take_out_ours(&mut headers);
            proptest::prop_assert!(pairs(&headers).all(|(name, _)| !is_ours(name)));
            proptest::prop_assert_eq!(theirs(&headers), before);
        }
    }

    /// A cookie line of anything, with much that looks like ours.
    fn line() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        let piece = prop_oneof![
            "(__Host-|__Secure-)?freshgate(-login-A|-logout)?( ?= ?[0-9]{0,12}\\.?[A-Za-z0-9_-]{0,50})?"
                .prop_map(String::into_bytes),
            "[;= \t\"]{1,3}".prop_map(String::into_bytes),
            proptest::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t')], 0..12),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }
}
