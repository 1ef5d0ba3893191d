//! Whether something is reached, and what keeps it from being.

use freshgate::provider::{ConnectionTrouble, ProviderConfig};
use url::Url;

use crate::check::{
    facts::{Trouble, Unreached},
    finding::Finding,
};

/// What to say of a provider's address that is not reached. `setting`: what names the address.
pub(super) fn unreached(
    topic: &'static str,
    url: &Url,
    unreached: &Unreached,
    setting: &str,
    config: &ProviderConfig,
) -> Finding {
    let host = url.host_str().unwrap_or_default();
    let provider = &config.name;
    let (what, mend) = said(url, unreached.trouble);
    let what = match unreached.trouble {
        Trouble::Connection(ConnectionTrouble::Other | ConnectionTrouble::BadCertificate) => {
            format!("{what} ({})", unreached.why)
        }
        _ => what,
    };
    let finding = Finding::problem(topic, what);
    match (unreached.trouble, mend) {
        (Trouble::Connection(ConnectionTrouble::UntrustedCertificate), _) => finding.mend(format!(
            "if the provider has an authority of its own (a company's, say), name its certificate in freshgate.toml: \
             [provider.{provider}] ca_file = \"PATH.pem\""
        )),
        (Trouble::Connection(ConnectionTrouble::TimedOut), mend) => {
            finding.mend(mend).mend(format!("or wait longer: [provider.{provider}] timeout"))
        }
        (Trouble::Connection(ConnectionTrouble::CertificateOfAnotherHost), _) => {
            finding.mend(format!("write the name that the certificate is for in place of {host}: {setting}"))
        }
        (Trouble::NoSuchHost | Trouble::Connection(ConnectionTrouble::Refused), mend) => {
            finding.mend(format!("{mend}: {setting}"))
        }
        (_, mend) => finding.mend(mend),
    }
}

/// What happened, and what to do about it.
pub(super) fn said(url: &Url, trouble: Trouble) -> (String, &'static str) {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let trouble = match trouble {
        Trouble::NoSuchHost => {
            return (
                format!("the name {host} cannot be looked up"),
                "look for a slip of the pen, and at this machine's DNS",
            );
        }
        Trouble::Connection(trouble) => trouble,
    };
    match trouble {
        ConnectionTrouble::Refused => {
            (format!("nobody listens at {host}, port {port}"), "start it there, or correct host and port")
        }
        ConnectionTrouble::NoRoute => (
            format!("no network leads to {host}"),
            "look at this machine's network and firewall; HTTPS_PROXY and NO_PROXY count too",
        ),
        ConnectionTrouble::TimedOut => (
            format!("{host} does not answer in time"),
            "look whether a firewall drops what goes there; HTTPS_PROXY and NO_PROXY count too",
        ),
        ConnectionTrouble::UntrustedCertificate => (
            format!("the certificate of {host} was issued by nobody that this machine trusts"),
            "install the certificate of its authority on this machine",
        ),
        ConnectionTrouble::CertificateOfAnotherHost => (
            format!("what answers for {host} has the certificate of another host"),
            "ask for it by the name that the certificate is for",
        ),
        ConnectionTrouble::CertificateExpired => (
            format!("the certificate of {host} is over"),
            "have it renewed there; if it is not, this machine's clock is wrong",
        ),
        ConnectionTrouble::CertificateNotYetValid => (
            format!("the certificate of {host} is not valid yet"),
            "look at this machine's clock, which is behind if the certificate is good",
        ),
        ConnectionTrouble::BadCertificate => {
            (format!("the certificate of {host} does not pass"), "have it replaced there")
        }
        ConnectionTrouble::NotTls => (
            format!("{host} speaks no TLS at port {port}: plain http, most likely"),
            "correct the port; or, for a provider on this machine alone, write http:// in place of https://",
        ),
        ConnectionTrouble::Closed => (
            format!("{host} ends the connection at port {port} without an answer"),
            "look whether it wants https there, and what is between this machine and it",
        ),
        _ => {
            (format!("{host} is not reached"), "look whether it is reached from this machine by other means")
        }
    }
}
