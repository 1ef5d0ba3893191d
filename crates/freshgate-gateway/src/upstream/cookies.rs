//! Which cookies reach the app, and which the app may set.
//!
//! Cookie lines are read as servers read them: split at `;`, the name is what stands before `=`. What stays is passed on
//! byte for byte and in order.

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, Entry, SET_COOKIE},
};

/// Takes out of a request the gate's own cookies, and those by which Streamlit would recognise a user: only the gate
/// says who that is.
pub(super) fn keep_from_app(headers: &mut HeaderMap) {
    let offends = |line: &HeaderValue| pairs(line.as_bytes()).any(|pair| is_kept_from_app(name(pair)));
    if !headers.get_all(COOKIE).iter().any(offends) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(COOKIE).iter().filter_map(without_ours).collect();
    headers.remove(COOKIE);
    for line in kept {
        headers.append(COOKIE, line);
    }
}

/// Takes out of an answer what would set the gate's own cookies: an app cannot choose a visitor's session.
pub(super) fn keep_from_browser(headers: &mut HeaderMap) {
    // A browser stores `=freshgate=x` as a cookie without a name and sends it as `freshgate=x`.
    let offends = |line: &HeaderValue| {
        let bytes = line.as_bytes();
        let start = bytes.iter().position(|&byte| byte != b'=' && !is_padding(byte)).unwrap_or(bytes.len());
        pairs(&bytes[start..]).next().is_some_and(|pair| is_ours(name(pair)))
    };
    if !headers.get_all(SET_COOKIE).iter().any(offends) {
        return;
    }
    if let Entry::Occupied(entry) = headers.entry(SET_COOKIE) {
        let (_, lines) = entry.remove_entry_mult();
        let kept: Vec<HeaderValue> = lines.filter(|line| !offends(line)).collect();
        for line in kept {
            headers.append(SET_COOKIE, line);
        }
    }
}

fn without_ours(line: &HeaderValue) -> Option<HeaderValue> {
    let kept: Vec<&[u8]> = pairs(line.as_bytes()).filter(|pair| !is_kept_from_app(name(pair))).collect();
    let joined = kept.join(&b';');
    let line = joined.trim_ascii_start();
    if line.is_empty() { None } else { HeaderValue::from_bytes(line).ok() }
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b';')
}

/// Servers strip white space around a name, and not all mean the same by it: whatever can't be part of a name goes.
fn name(pair: &[u8]) -> &[u8] {
    let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
    let start = name.iter().position(|&byte| !is_padding(byte)).unwrap_or(name.len());
    let end = name.iter().rposition(|&byte| !is_padding(byte)).map_or(start, |last| last + 1);
    &name[start..end]
}

fn is_padding(byte: u8) -> bool {
    !byte.is_ascii_graphic()
}

fn is_kept_from_app(name: &[u8]) -> bool {
    is_ours(name) || starts_with(name, b"_streamlit_user")
}

fn is_ours(name: &[u8]) -> bool {
    let prefix = [&b"__host-"[..], b"__secure-"].into_iter().find(|prefix| starts_with(name, prefix));
    let bare = &name[prefix.map_or(0, <[u8]>::len)..];
    bare.eq_ignore_ascii_case(b"freshgate")
        || bare.eq_ignore_ascii_case(b"freshgate-logout")
        || starts_with(bare, b"freshgate-login-")
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines<'a> = &'a [&'a [u8]];

    fn pass(name: http::HeaderName, lines: &[&[u8]], rule: fn(&mut HeaderMap)) -> Vec<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_bytes(line).expect("a header value"));
        }
        rule(&mut headers);
        headers.get_all(&name).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    #[test]
    fn cookies_that_reach_the_app() {
        let table: &[(Lines<'_>, Lines<'_>)] = &[
            (&[], &[]),
            (&[b"a=1"], &[b"a=1"]),
            // Byte for byte, whatever the shape.
            (
                &[b"a=1;b=2;  c = \"x y\" ; =nameless; lone;; \xff=\xfe"],
                &[b"a=1;b=2;  c = \"x y\" ; =nameless; lone;; \xff=\xfe"],
            ),
            (&[b"freshgate=s"], &[]),
            (&[b"freshgate=s; a=1"], &[b"a=1"]),
            (&[b"a=1; freshgate=s"], &[b"a=1"]),
            (&[b"a=1;freshgate=s;  b=2"], &[b"a=1;  b=2"]),
            (&[b"a=1; freshgate=s; freshgate=t; b=2"], &[b"a=1; b=2"]),
            (&[b"__Host-freshgate=s; __Host-freshgate-login-abc=x; freshgate-login-abc=y; z=1"], &[b"z=1"]),
            (&[b"__Host-freshgate-logout=s; freshgate-logout=t; z=1"], &[b"z=1"]),
            (&[b"__Secure-freshgate=s; __secure-freshgate-logout=t; z=1"], &[b"z=1"]),
            (&[b"a=1; freshgate"], &[b"a=1"]),
            // Several lines, each by itself.
            (&[b"a=1", b"freshgate=s", b"b=2; freshgate=s"], &[b"a=1", b"b=2"]),
            // What Streamlit takes for an identity.
            (
                &[b"_streamlit_user=u; _streamlit_user_1=c; _streamlit_user_tokens=t; _streamlit_xsrf=x"],
                &[b"_streamlit_xsrf=x"],
            ),
            // Padding that one server or another strips before it compares.
            (&[b"freshgate =s"], &[]),
            (&[b"\tfreshgate\t=s"], &[]),
            (&[b"\xa0freshgate\x85=s; \xc2\xa0_streamlit_user=u; a=1"], &[b"a=1"]),
            (&[b"FreshGate=s; __host-FRESHGATE=s"], &[]),
            // Near misses.
            (
                &[b"freshgate2=1; xfreshgate=1; freshgate-theme=dark; a=freshgate=1"],
                &[b"freshgate2=1; xfreshgate=1; freshgate-theme=dark; a=freshgate=1"],
            ),
            // A quote does not hide a cookie from servers that do not know quotes.
            (&[b"a=\"x; freshgate=s\"; b=2"], &[b"a=\"x; b=2"]),
        ];
        for (sent, expected) in table {
            assert_eq!(pass(COOKIE, sent, keep_from_app), *expected, "{sent:?}");
        }
    }

    #[test]
    fn cookies_that_the_app_may_set() {
        let table: &[(Lines<'_>, Lines<'_>)] = &[
            (&[b"a=1; Path=/; HttpOnly"], &[b"a=1; Path=/; HttpOnly"]),
            (&[b"a=1", b"freshgate=x; Path=/", b"b=2"], &[b"a=1", b"b=2"]),
            (&[b"__Host-freshgate=x; Secure; Path=/"], &[]),
            (&[b"__Secure-freshgate=x; Secure; Path=/; Domain=apps.example"], &[]),
            (&[b"freshgate-login-abc=x", b"__Host-freshgate-login-abc=x"], &[]),
            (&[b" freshgate =x"], &[]),
            (&[b"=freshgate=x"], &[]),
            (&[b"freshgate"], &[]),
            (&[b"__HOST-Freshgate=x"], &[]),
            // Streamlit's own are its own business.
            (
                &[b"_streamlit_xsrf=x; Path=/", b"_streamlit_user=u"],
                &[b"_streamlit_xsrf=x; Path=/", b"_streamlit_user=u"],
            ),
            (&[b"freshgate-theme=dark; freshgate=x"], &[b"freshgate-theme=dark; freshgate=x"]),
        ];
        for (sent, expected) in table {
            assert_eq!(pass(SET_COOKIE, sent, keep_from_browser), *expected, "{sent:?}");
        }
    }
}
