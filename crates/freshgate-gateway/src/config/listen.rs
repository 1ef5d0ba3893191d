//! Where the gate listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{report::Report, setting::Given};

/// Where `run` and `dev` listen unless told otherwise: this machine alone, Streamlit's usual port.
pub(super) const DEFAULT_PORT: u16 = 8501;

/// This machine alone, at this port.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Reads `ADDRESS:PORT`.
pub(super) fn read(given: &Given, report: &mut Report) -> Option<SocketAddr> {
    let text = given.text(report)?.trim();
    match parse(text) {
        Ok(address) => Some(address),
        Err(help) => given.refuse("expected ADDRESS:PORT", &help, report),
    }
}

fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!("add the port: {}", SocketAddr::new(address, DEFAULT_PORT)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(port) => only_port(port),
            Err(_) => {
                format!("write an address of this machine and a port, such as 127.0.0.1:{DEFAULT_PORT}")
            }
        });
    };
    match (host, port.parse::<u16>()) {
        (_, Err(_)) => Err("the port is a number up to 65535".to_owned()),
        ("localhost", Ok(port)) => Ok(loopback(port)),
        ("" | "*", Ok(port)) => Err(only_port(port)),
        (_, Ok(port)) => Err(format!(
            "name an address instead of a host: 127.0.0.1:{port} for this machine alone, 0.0.0.0:{port} for every interface"
        )),
    }
}

fn only_port(port: u16) -> String {
    format!("write 127.0.0.1:{port} for this machine alone, or 0.0.0.0:{port} for every interface")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:9000", Some("127.0.0.1:9000")),
            ("0.0.0.0:80", Some("0.0.0.0:80")),
            ("[::1]:8501", Some("[::1]:8501")),
            ("localhost:8501", Some("127.0.0.1:8501")),
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("127.0.0.1", None),
            ("::1", None),
            ("8501", None),
            (":8501", None),
            ("app.example.com:8501", None),
            ("127.0.0.1:70000", None),
            ("127.0.0.1:x", None),
            ("http://127.0.0.1:8501", None),
        ] {
            assert_eq!(parse(text).ok().map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }
}
