//! Cookies: none of ours reaches the app, the others all do, and none signs anybody in.

use http::{HeaderMap, HeaderValue, header};

use crate::gate::{self, HTTP, HTTPS};

/// Each line is a `Cookie` header.
pub(crate) fn run(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').take(64);
    let cookies: Vec<_> = lines.filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    for origin in [HTTPS, HTTP] {
        let answered = gate::ask(origin, "/page", &cookies).expect("a request");
        answered.is_harmless();
        if let Some(saw) = &answered.app_saw {
            let offered = crumbs(cookies.iter());
            let others: Vec<_> = offered.into_iter().filter(|crumb| !is_ours(crumb)).collect();
            assert_eq!(crumbs(sent_on(saw)), others);
        }
        // What the way back from the provider, and who asks who is signed in, make of them.
        for address in ["/oauth2callback?state=AAAA&code=c", "/auth/user", "/auth/login"] {
            gate::ask(origin, address, &cookies).as_ref().expect("a request").is_harmless();
        }
    }
}

fn sent_on(saw: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    saw.get_all(header::COOKIE).iter()
}

fn crumbs<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> Vec<&'a [u8]> {
    let crumbs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    crumbs.map(<[u8]>::trim_ascii).filter(|crumb| !crumb.is_empty()).collect()
}

/// In every spelling of the prefix that our own names start with.
fn is_ours(crumb: &[u8]) -> bool {
    let name = crumb.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    let prefix = [&b"__Host-"[..], b"__Secure-"].into_iter().find(|prefix| name.starts_with(prefix));
    let name = &name[prefix.map_or(0, <[u8]>::len)..];
    name == b"freshgate" || name.starts_with(b"freshgate-")
}
