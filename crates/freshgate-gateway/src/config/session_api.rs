//! Where apps that the gate did not start ask about their sessions.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    report::{Problem, Report},
    setting::{SESSION_API, Sources},
    upstream::Upstream,
};

/// Where the session API listens: on this machine alone, as secrets and tokens travel in the clear there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionApiAddress {
    /// A unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// As apps are told in `FRESHGATE_SESSION_API`.
impl fmt::Display for SessionApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

/// Where both sides look unless told otherwise. The Python module knows it too.
const DEFAULT: &str = "/run/freshgate/session-api.sock";

/// Reads where it listens. `None` if no app could ask.
pub(super) fn read(
    sources: &Sources<'_>,
    upstreams: &[Upstream],
    report: &mut Report,
) -> Option<SessionApiAddress> {
    let anybody_asks = upstreams.iter().any(|upstream| upstream.secret_file.is_some());
    let Some(given) = sources.find(SESSION_API, report) else {
        return anybody_asks.then(|| SessionApiAddress::Unix(PathBuf::from(DEFAULT)));
    };
    if !anybody_asks {
        report.add(
            Problem::warning(format!("`{}` has no effect", given.name))
                .at(&given.item.place, "no app has a `secret_file`")
                .help("give each app that is to ask a `secret_file` in its [[upstream]]"),
        );
    }
    let text = given.text(report)?.trim();
    match parse(text, &given.folder) {
        Ok(address) => anybody_asks.then_some(address),
        Err((label, help)) => given.refuse(label, &help, report),
    }
}

fn parse(text: &str, folder: &Path) -> Result<SessionApiAddress, (&'static str, String)> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.trim_start_matches("//") {
            "" => Err(("the path is missing", format!("write unix:PATH, such as unix:{DEFAULT}"))),
            _ => Ok(SessionApiAddress::Unix(folder.join(path))),
        };
    }
    let help =
        || format!("write unix:PATH, such as unix:{DEFAULT}, or a loopback address such as 127.0.0.1:8503");
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(SessionApiAddress::Tcp(address)),
        Ok(address) => Err((
            "reaches beyond this machine",
            format!(
                "choose a loopback address, such as 127.0.0.1:{}: tokens travel in the clear there",
                address.port()
            ),
        )),
        Err(_) => Err(("neither unix:PATH nor a loopback address", help())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("unix:/run/x.sock", Some("unix:/run/x.sock")),
            ("unix:x.sock", Some("unix:/folder/x.sock")),
            ("127.0.0.1:8503", Some("http://127.0.0.1:8503")),
            ("http://127.0.0.1:8503/", Some("http://127.0.0.1:8503")),
            ("[::1]:8503", Some("http://[::1]:8503")),
            ("0.0.0.0:8503", None),
            ("unix:", None),
            ("/run/x.sock", None),
            ("localhost:8503", None),
            ("https://127.0.0.1:8503", None),
        ] {
            let parsed = parse(text, Path::new("/folder")).ok().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
