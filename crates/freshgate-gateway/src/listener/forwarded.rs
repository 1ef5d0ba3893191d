//! For whom a proxy in front of us passes a request on, and how far that is believed.
//!
//! Anybody can send these headers. They are read from a proxy that we trust, in one kind, from the end: what stands last was
//! written by the proxy that we talk to, what stands before it by whom that proxy names, and so on as long as these are
//! trusted too. Whatever cannot be read ends the way: who wrote what stands before it is not known.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use freshgate_web::Arrival;
use http::{
    HeaderMap, HeaderName,
    header::FORWARDED,
    uri::{Authority, Scheme},
};
use ipnet::IpNet;

use super::request_checks::read_host;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The headers in which the proxies in front of us say for whom a request is. The others of them count for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies in front of us. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Trusts who is in one of these networks, to say it in this way.
    pub fn new(networks: impl IntoIterator<Item = IpNet>, header: ForwardedHeader) -> Self {
        Self { networks: networks.into_iter().collect(), header }
    }

    /// How a request arrived that `peer` sent. Never fails: what is not believed or not understood counts for nothing.
    pub fn arrival(&self, peer: IpAddr, headers: &HeaderMap) -> Arrival {
        let mut arrival = Arrival::direct(peer);
        arrival.by_trusted_proxy = self.trusts(&arrival.client);
        match self.header {
            _ if !arrival.by_trusted_proxy => arrival,
            ForwardedHeader::XForwarded => self.by_x_forwarded(arrival, headers),
            ForwardedHeader::Forwarded => self.by_forwarded(arrival, headers),
        }
    }

    pub(super) fn trusts(&self, address: &IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    fn by_x_forwarded(&self, mut arrival: Arrival, headers: &HeaderMap) -> Arrival {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        for hop in lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')) {
            let Some(client) = read_address(hop.trim_ascii()) else { break };
            arrival.client = client;
            if !self.trusts(&client) {
                break;
            }
        }
        // They do not say who wrote which of several.
        arrival.scheme = only(headers, &X_FORWARDED_PROTO).and_then(read_scheme);
        arrival.host = only(headers, &X_FORWARDED_HOST).and_then(read_host);
        arrival
    }

    fn by_forwarded(&self, mut arrival: Arrival, headers: &HeaderMap) -> Arrival {
        for line in headers.get_all(FORWARDED).iter().rev() {
            let Some(elements) = Element::read_all(line.as_bytes()) else { break };
            for element in elements.into_iter().rev() {
                // Of several proxies the first knows what the client used.
                arrival.scheme = element.scheme.or(arrival.scheme);
                arrival.host = element.host.or(arrival.host);
                let Some(client) = element.client else { return arrival };
                arrival.client = client;
                if !self.trusts(&client) {
                    return arrival;
                }
            }
        }
        arrival
    }
}

/// The value of a header that comes once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.as_bytes()),
        _ => None,
    }
}

/// An address, perhaps with a port, as some proxies write it. IPv6 may be in brackets.
fn read_address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok().filter(|text| !text.contains('%'))?;
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok();
    let address = text.parse().ok();
    let address = address.or_else(|| in_brackets().map(IpAddr::V6));
    Some(address.or_else(|| Some(with_port()?.ip()))?.to_canonical())
}

/// Some proxies name the protocol of a WebSocket here.
fn read_scheme(text: &[u8]) -> Option<Scheme> {
    match text.to_ascii_lowercase().as_slice() {
        b"https" | b"wss" => Some(Scheme::HTTPS),
        b"http" | b"ws" => Some(Scheme::HTTP),
        _ => None,
    }
}

/// What one proxy says in `Forwarded`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    /// `None`: not said, not known, hidden, or not to be understood.
    client: Option<IpAddr>,
    scheme: Option<Scheme>,
    host: Option<Authority>,
}

impl Element {
    /// The elements of one line, if all of it is well-formed (RFC 7239 section 4).
    ///
    /// Half a line is worth nothing: a quote that a client leaves open would swallow what our proxy adds. Addresses are
    /// read without their quotes too, as they are often sent.
    fn read_all(line: &[u8]) -> Option<Vec<Self>> {
        let mut elements = Vec::new();
        let (mut element, mut names) = (Self::default(), HashSet::new());
        let mut rest = line;
        loop {
            rest = rest.trim_ascii_start();
            let (name, after) = take_while(rest, is_token_byte);
            if !name.is_empty() {
                let (value, after) = take_value(after.strip_prefix(b"=")?)?;
                let name = name.to_ascii_lowercase();
                match name.as_slice() {
                    b"for" => element.client = read_address(&value),
                    b"proto" => element.scheme = read_scheme(&value),
                    b"host" => element.host = read_host(&value),
                    _ => {}
                }
                if !names.insert(name) {
                    return None;
                }
                rest = after.trim_ascii_start();
            }
            match rest.split_first() {
                Some((b';', after)) => rest = after,
                Some((b',', after)) => {
                    elements.push(std::mem::take(&mut element));
                    names.clear();
                    rest = after;
                }
                Some(_) => return None,
                None => {
                    elements.push(element);
                    return Some(elements);
                }
            }
        }
    }
}

fn take_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let (value, rest) =
            take_while(text, |byte| is_token_byte(byte) || matches!(byte, b':' | b'[' | b']'));
        return (!value.is_empty()).then(|| (value.to_vec(), rest));
    };
    let mut value = Vec::new();
    loop {
        let (&first, after) = rest.split_first()?;
        let (byte, after) = match first {
            b'"' => return Some((value, after)),
            b'\\' => after.split_first().map(|(&byte, after)| (byte, after))?,
            _ => (first, after),
        };
        value.push(byte);
        rest = after;
    }
}

fn take_while(text: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|&byte| !belongs(byte)).unwrap_or(text.len()))
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Sent<'a> = &'a [(&'a str, &'a [u8])];

    /// One proxy by its address, one network of them, and one by IPv6.
    fn proxies(header: ForwardedHeader) -> TrustedProxies {
        let networks = ["192.0.2.1/32", "10.0.0.0/8", "2001:db8:1::/48"];
        TrustedProxies::new(networks.map(|network| network.parse().expect("a network")), header)
    }

    /// Client, scheme and host, as text.
    fn seen(header: ForwardedHeader, peer: &str, sent: Sent<'_>) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let arrival = proxies(header).arrival(peer.parse().expect("an address"), &headers);
        let scheme = arrival.scheme.as_ref().map_or("-", Scheme::as_str);
        let host = arrival.host.as_ref().map_or("-", Authority::as_str);
        format!("{} {scheme} {host}", arrival.client)
    }

    #[test]
    fn x_forwarded() {
        const FOR: &str = "x-forwarded-for";
        const PROTO: &str = "x-forwarded-proto";
        const HOST: &str = "x-forwarded-host";
        let table: &[(&str, Sent<'_>, &str)] = &[
            ("192.0.2.1", &[], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"198.51.100.7")], "198.51.100.7 - -"),
            ("::ffff:192.0.2.1", &[(FOR, b"198.51.100.7")], "198.51.100.7 - -"),
            ("2001:db8:1::5", &[(FOR, b"2001:db8:2::7")], "2001:db8:2::7 - -"),
            (
                "10.1.2.3",
                &[(FOR, b"198.51.100.7"), (PROTO, b"HTTPS"), (HOST, b"app.test:444")],
                "198.51.100.7 https app.test:444",
            ),
            // From anybody else: nothing.
            ("192.0.2.2", &[(FOR, b"198.51.100.7"), (PROTO, b"https"), (HOST, b"x")], "192.0.2.2 - -"),
            ("127.0.0.1", &[(FOR, b"198.51.100.7")], "127.0.0.1 - -"),
            ("::ffff:198.51.100.9", &[(FOR, b"192.0.2.1")], "198.51.100.9 - -"),
            // From the end, past those that are trusted, to the first that is not: what a client made up stands before.
            ("192.0.2.1", &[(FOR, b"127.0.0.1, 198.51.100.7")], "198.51.100.7 - -"),
            ("192.0.2.1", &[(FOR, b"127.0.0.1, 198.51.100.7,10.0.0.9 , 10.2.0.1")], "198.51.100.7 - -"),
            (
                "192.0.2.1",
                &[(FOR, b"127.0.0.1"), (FOR, b"198.51.100.7"), (FOR, b"10.0.0.9")],
                "198.51.100.7 - -",
            ),
            ("192.0.2.1", &[(FOR, b"10.0.0.8, 10.0.0.9")], "10.0.0.8 - -"),
            // With a port, in brackets.
            ("192.0.2.1", &[(FOR, b"198.51.100.7:4711")], "198.51.100.7 - -"),
            ("192.0.2.1", &[(FOR, b"[2001:db8:2::7]:4711")], "2001:db8:2::7 - -"),
            ("192.0.2.1", &[(FOR, b"[2001:db8:2::7]")], "2001:db8:2::7 - -"),
            ("192.0.2.1", &[(FOR, b"::ffff:198.51.100.7")], "198.51.100.7 - -"),
            // What cannot be read ends the way.
            ("192.0.2.1", &[(FOR, b"")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"198.51.100.7, ")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"198.51.100.7, unknown, 10.0.0.9")], "10.0.0.9 - -"),
            ("192.0.2.1", &[(FOR, b"198.51.100.7, \xff\xfe")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"198.51.100.256")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"198.51.100.7:99999")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"198.51.100.07")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"fe80::1%eth0")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"[fe80::1%1]:80")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"[198.51.100.7]")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(FOR, b"<script>"), (PROTO, b"javascript"), (HOST, b"a/b")], "192.0.2.1 - -"),
            ("192.0.2.1", &[(PROTO, b"wss"), (HOST, b"user@app.test")], "192.0.2.1 https -"),
            ("192.0.2.1", &[(PROTO, b"https, http"), (HOST, b"app.test, evil.test")], "192.0.2.1 - -"),
            (
                "192.0.2.1",
                &[(PROTO, b"https"), (PROTO, b"http"), (HOST, b"a"), (HOST, b"b")],
                "192.0.2.1 - -",
            ),
            // The other kind counts for nothing.
            (
                "192.0.2.1",
                &[("forwarded", b"for=203.0.113.9;proto=http;host=evil.test"), (FOR, b"198.51.100.7")],
                "198.51.100.7 - -",
            ),
        ];
        for (peer, sent, expected) in table {
            assert_eq!(seen(ForwardedHeader::XForwarded, peer, sent), *expected, "{peer} {sent:?}");
        }
    }

    #[test]
    fn forwarded() {
        let table: &[(&str, &[&str], &str)] = &[
            ("192.0.2.1", &["for=198.51.100.7"], "198.51.100.7 - -"),
            (
                "192.0.2.1",
                &["For=\"198.51.100.7:80\";PROTO=https;host=\"app.test:444\";by=_x"],
                "198.51.100.7 https app.test:444",
            ),
            ("192.0.2.1", &["for=\"[2001:db8:2::7]:4711\" ; proto=http"], "2001:db8:2::7 http -"),
            ("192.0.2.1", &["for=[2001:db8:2::7]:4711"], "2001:db8:2::7 - -"),
            ("192.0.2.1", &["for=\"198.51\\.100.7\""], "198.51.100.7 - -"),
            ("192.0.2.2", &["for=198.51.100.7;proto=https"], "192.0.2.2 - -"),
            // From the end; what the first trusted one says of the client counts.
            (
                "192.0.2.1",
                &[
                    "for=127.0.0.1;host=evil.test, for=198.51.100.7;proto=https;host=app.test, for=10.0.0.9;proto=http",
                ],
                "198.51.100.7 https app.test",
            ),
            (
                "192.0.2.1",
                &["for=127.0.0.1;proto=http", "for=198.51.100.7", "for=10.0.0.9"],
                "198.51.100.7 - -",
            ),
            // What is unknown or hidden ends the way.
            ("192.0.2.1", &["for=198.51.100.7, for=unknown;proto=https, for=10.0.0.9"], "10.0.0.9 https -"),
            ("192.0.2.1", &["for=198.51.100.7, for=_hidden"], "192.0.2.1 - -"),
            ("192.0.2.1", &["for=198.51.100.7, proto=https"], "192.0.2.1 https -"),
            ("192.0.2.1", &["for=198.51.100.7,"], "192.0.2.1 - -"),
            ("192.0.2.1", &[""], "192.0.2.1 - -"),
            // A line that is not well-formed counts for nothing, and nothing before it does.
            ("192.0.2.1", &["for=\", for=198.51.100.7"], "192.0.2.1 - -"),
            ("192.0.2.1", &["for=\", for=\"[2001:db8:2::7]\""], "192.0.2.1 - -"),
            ("192.0.2.1", &["for=127.0.0.1;x=\"\\"], "192.0.2.1 - -"),
            ("192.0.2.1", &["for=127.0.0.1", "for", "for=10.0.0.9"], "10.0.0.9 - -"),
            ("192.0.2.1", &["for=127.0.0.1;for=198.51.100.7"], "192.0.2.1 - -"),
            ("192.0.2.1", &["for=198.51.100.7 proto=https"], "192.0.2.1 - -"),
            ("192.0.2.1", &["for="], "192.0.2.1 - -"),
            ("192.0.2.1", &["for =198.51.100.7"], "192.0.2.1 - -"),
        ];
        for (peer, lines, expected) in table {
            let mut sent: Vec<_> = lines.iter().map(|line| ("forwarded", line.as_bytes())).collect();
            sent.push(("x-forwarded-for", b"203.0.113.9"));
            assert_eq!(seen(ForwardedHeader::Forwarded, peer, &sent), *expected, "{peer} {lines:?}");
        }
    }

    /// Whatever a client sends before it, the proxy's own word counts, or nothing.
    #[test]
    fn no_prefix_of_a_client_hides_what_a_proxy_adds() {
        let ours = "for=198.51.100.7;proto=https";
        let pieces = ["for=127.0.0.1", ",", ";", "\"", "\\", "=", " ", "x", "[", "for=10.0.0.9"];
        let mut prefixes = vec![String::new()];
        for _ in 0..4 {
            prefixes = prefixes
                .iter()
                .flat_map(|prefix| pieces.iter().map(move |piece| format!("{prefix}{piece}")))
                .collect();
            for prefix in &prefixes {
                let line = format!("{prefix}, {ours}");
                let seen = seen(ForwardedHeader::Forwarded, "192.0.2.1", &[("forwarded", line.as_bytes())]);
                assert!(["198.51.100.7 https -", "192.0.2.1 - -"].contains(&seen.as_str()), "{line}: {seen}");
            }
        }
    }
}
