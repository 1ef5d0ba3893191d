//! Which connection carries a request, and why connections fail, with servers that make them fail.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::*;

/// An authority that nobody knows but who is told.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// When a certificate is good.
enum Good {
    Now,
    InThePast,
    InTheFuture,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn options(&self) -> TransportOptions {
        TransportOptions { extra_roots: vec![self.0.pem().into_bytes()], ..TransportOptions::default() }
    }

    /// Serves with a certificate for this name, and says on which port.
    async fn serve(&self, name: &str, good: Good) -> u16 {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = match good {
            Good::Now => (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2090, 1, 1)),
            Good::InThePast => (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1)),
            Good::InTheFuture => (rcgen::date_time_ymd(2089, 1, 1), rcgen::date_time_ymd(2090, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (listener, port) = listen().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            }
        });
        port
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Answers one request with 200.
async fn answer(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await;
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let _ = stream.shutdown().await;
}

async fn ask(options: &TransportOptions, url: &str) -> Result<ProviderAnswer, TransportError> {
    let request = ProviderRequest {
        method: Method::GET,
        url: Url::parse(url).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        answer_limit: 1024,
        connection: Connection::Kept,
    };
    HttpTransport::new(options).unwrap().send(request).await
}

async fn trouble(options: &TransportOptions, url: &str) -> ConnectionTrouble {
    match ask(options, url).await {
        Ok(answer) => panic!("{url} answered with {}", answer.status),
        Err(error) => error.trouble(),
    }
}

#[tokio::test]
async fn troubles_with_certificates_are_told_apart() {
    let authority = Authority::new();
    let knows = authority.options();
    let good = authority.serve("localhost", Good::Now).await;
    let url = |port| format!("https://localhost:{port}/");
    assert_eq!(ask(&knows, &url(good)).await.unwrap().status, StatusCode::OK);
    let shown = |options| async move {
        HttpTransport::new(options).unwrap().certificate(&Url::parse(&url(good)).unwrap()).await
    };
    assert!(shown(&knows).await.is_some_and(|certificate| certificate.starts_with(&[0x30])), "DER");
    assert_eq!(shown(&TransportOptions::default()).await, None, "one that does not pass");
    assert_eq!(
        trouble(&TransportOptions::default(), &url(good)).await,
        ConnectionTrouble::UntrustedCertificate
    );
    let others = authority.serve("id.example.com", Good::Now).await;
    assert_eq!(trouble(&knows, &url(others)).await, ConnectionTrouble::CertificateOfAnotherHost);
    let expired = authority.serve("localhost", Good::InThePast).await;
    assert_eq!(trouble(&knows, &url(expired)).await, ConnectionTrouble::CertificateExpired);
    let early = authority.serve("localhost", Good::InTheFuture).await;
    assert_eq!(trouble(&knows, &url(early)).await, ConnectionTrouble::CertificateNotYetValid);
}

#[tokio::test]
async fn troubles_before_any_certificate_are_told_apart() {
    let options = TransportOptions { timeout: Duration::from_millis(300), ..TransportOptions::default() };
    let (plain, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = plain.accept().await {
            answer(stream).await;
        }
    });
    assert_eq!(trouble(&options, &format!("https://localhost:{port}/")).await, ConnectionTrouble::NotTls);

    let (gone, port) = listen().await;
    drop(gone);
    assert_eq!(trouble(&options, &format!("http://127.0.0.1:{port}/")).await, ConnectionTrouble::Refused);

    let (silent, port) = listen().await;
    assert_eq!(trouble(&options, &format!("http://127.0.0.1:{port}/")).await, ConnectionTrouble::TimedOut);
    assert_eq!(trouble(&options, &format!("https://127.0.0.1:{port}/")).await, ConnectionTrouble::TimedOut);
    drop(silent);

    let (rude, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = rude.accept().await {
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://127.0.0.1:{port}/");
        assert_eq!(trouble(&options, &url).await, ConnectionTrouble::Closed, "{url}");
    }
    // A name that cannot be looked up is for the caller to look up: no error here says so.
    let error = ask(&options, "http://name.invalid/").await.err().unwrap();
    assert!(matches!(error, TransportError::NotSent { .. }));
    assert_eq!(error.trouble(), ConnectionTrouble::Other);
}

/// Answers the first request on each connection, and closes it when the second comes.
async fn serve_once(mut connection: TcpStream) {
    let mut request = [0; 4096];
    let length = connection.read(&mut request).await.unwrap();
    assert!(length > 0);
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let _ = connection.read(&mut request).await;
}

#[tokio::test]
async fn a_request_with_a_connection_of_its_own_is_not_lost_on_one_that_the_provider_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/token", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve_once(connection));
        }
    });
    let transport = HttpTransport::new(&TransportOptions::default()).unwrap();
    let send = async |connection| {
        let (method, headers, body) = (Method::POST, HeaderMap::new(), Bytes::from_static(b"a=b"));
        let request =
            ProviderRequest { method, url: url.clone(), headers, body, answer_limit: 100, connection };
        transport.send(request).await
    };
    // Twice, so that neither leaves a connection for the next.
    for _ in 0..2 {
        send(Connection::Kept).await.unwrap();
        send(Connection::New).await.unwrap();
        send(Connection::New).await.unwrap();
        let lost = send(Connection::Kept).await;
        assert!(matches!(lost, Err(TransportError::AnswerLost { .. })));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_lost_and_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let _ = connection.read(&mut [0; 1024]).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n";
        let _ = connection.write_all(&[&head[..], &[b'x'; 101]].concat()).await;
    });
    let request = ProviderRequest {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        answer_limit: 100,
        connection: Connection::New,
    };
    let transport = HttpTransport::new(&TransportOptions::default()).unwrap();
    let Err(error @ TransportError::AnswerLost { .. }) = transport.send(request).await else {
        panic!("it was sent, and its answer not read")
    };
    let why = error.source().unwrap().to_string();
    assert_eq!(why, "it is larger than 100 bytes, the most that is read");
}
