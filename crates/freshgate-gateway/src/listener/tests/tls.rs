//! TLS on the listener. The certificates are for these tests alone, and nobody trusts them.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{
    Served, echo,
    raw::{Raw, in_time},
};
use crate::listener::{CertificateError, ListenerLimits, Tls};

pub(crate) const FIRST: (&str, &str) =
    (include_str!("certificates/first.pem"), include_str!("certificates/first.key.pem"));
pub(crate) const SECOND: (&str, &str) =
    (include_str!("certificates/second.pem"), include_str!("certificates/second.key.pem"));

/// The files of a certificate, to be replaced.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn with(pair: (&str, &str)) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.replace(pair);
        files
    }

    fn replace(&self, (certificate, key): (&str, &str)) {
        fs::write(self.path("certificate.pem"), certificate).unwrap();
        fs::write(self.path("key.pem"), key).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn load(&self) -> Result<Tls, CertificateError> {
        Tls::load(&self.path("certificate.pem"), &self.path("key.pem"))
    }
}

async fn serve(tls: Tls, limits: ListenerLimits) -> Served {
    let service = tower::service_fn(echo);
    Served::start_with(|listener| listener.with_tls(Some(tls)), service, limits, Duration::from_secs(5)).await
}

/// Shakes hands as a browser that trusts this certificate alone, to speak HTTP/1.1.
pub(crate) async fn connect(address: SocketAddr, trusted: &str) -> io::Result<TlsStream<TcpStream>> {
    connect_to_speak(&[b"http/1.1"], address, trusted).await
}

/// The same to speak one of these, the best first.
pub(crate) async fn connect_to_speak(
    protocols: &[&[u8]],
    address: SocketAddr,
    trusted: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = in_time("connects", TcpStream::connect(address)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    in_time("shakes hands", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"/ ") {
        let read = in_time("an answer comes", stream.read_buf(&mut answer)).await.unwrap();
        assert!(read > 0, "the connection ended early: {}", answer.escape_ascii());
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_over_tls_are_answered_and_the_connection_is_kept() {
    let mut served = serve(Files::with(FIRST).load().unwrap(), ListenerLimits::default()).await;
    let mut client = connect(served.address, FIRST.0).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    for _ in 0..2 {
        let answer = ask(&mut client, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    served.finish();
    let mut rest = Vec::new();
    // An orderly end: without `close_notify` this is an error.
    in_time("it ends", client.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(served.stopped().await.aborted, 0);
}

#[tokio::test]
async fn who_speaks_plain_http_is_told_so() {
    let served = serve(Files::with(FIRST).load().unwrap(), ListenerLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    let text = client.rest().await;
    assert_eq!(text, "This address speaks https. Write https:// instead of http:// here.");
}

#[tokio::test]
async fn who_speaks_nonsense_or_nothing_is_hung_up_on() {
    let limits = ListenerLimits { head_timeout: Duration::from_millis(50), ..ListenerLimits::default() };
    let served = serve(Files::with(FIRST).load().unwrap(), limits).await;
    for sent in ["", "\u{16}", "\u{16}\u{3}\u{1}\u{0}\u{5}hello", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"]
    {
        let mut client = Raw::connect(served.address).await;
        client.send(sent).await;
        let answer = client.rest().await;
        assert!(!answer.contains("HTTP"), "{sent:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_listener_that_stops_waits_for_no_handshake() {
    let limits = ListenerLimits { head_timeout: Duration::from_secs(600), ..ListenerLimits::default() };
    let mut served = serve(Files::with(FIRST).load().unwrap(), limits).await;
    let mut client = Raw::connect(served.address).await;
    client.send("\u{16}").await;
    // It was accepted once a later one was.
    connect(served.address, FIRST.0).await.unwrap();
    served.finish();
    assert_eq!(served.stopped().await.aborted, 0);
    client.expect_end().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let files = Files::with(FIRST);
    let tls = files.load().unwrap();
    let served = serve(tls.clone(), ListenerLimits::default()).await;
    let mut before = connect(served.address, FIRST.0).await.unwrap();
    let steps: &[((&str, &str), &str)] = &[
        (FIRST, FIRST.0),
        ((SECOND.0, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), FIRST.0),
        ((SECOND.0, FIRST.1), FIRST.0),
        ((SECOND.0, ""), FIRST.0),
        (("", SECOND.1), FIRST.0),
        (SECOND, SECOND.0),
        ((FIRST.0, SECOND.1), SECOND.0),
        (FIRST, FIRST.0),
    ];
    for (pair, shown) in steps {
        files.replace(*pair);
        tls.look();
        connect(served.address, shown).await.unwrap();
        let other = if *shown == FIRST.0 { SECOND.0 } else { FIRST.0 };
        assert!(connect(served.address, other).await.is_err(), "it shows one certificate");
    }
    fs::remove_file(files.path("key.pem")).unwrap();
    tls.look();
    connect(served.address, FIRST.0).await.unwrap();
    // Connections outlive the certificate that they began with.
    ask(&mut before, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
}

#[test]
fn a_key_shows_nowhere() {
    let tls = Files::with(FIRST).load().unwrap();
    let key = FIRST.1.lines().nth(1).unwrap();
    let wrong = Files::with((SECOND.0, FIRST.1)).load().unwrap_err();
    for text in [format!("{tls:?}"), format!("{wrong:?} {wrong}")] {
        assert!(!text.contains(key) && !text.contains("BEGIN"), "{text}");
    }
}
