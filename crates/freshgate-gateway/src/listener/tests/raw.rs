//! A socket that a test speaks over byte by byte, in the place of a browser or of an app.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Fails the test if something that must happen does not.
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), work).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("in vain: {what}"),
    }
}

/// Waits until a condition holds that nothing announces.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    in_time(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = in_time("connects", TcpStream::connect(address)).await.expect("a connection");
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time("the other side takes bytes", self.stream.write_all(bytes.as_ref())).await.expect("sent");
    }

    /// Everything up to and with the empty line.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head in ASCII");
            }
            assert!(self.more().await, "the connection ended within a head: {}", self.unread.escape_ascii());
        }
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.more().await, "the connection ended early: {}", self.unread.escape_ascii());
        }
        self.unread.drain(..length).collect()
    }

    /// Reads these bytes and no others.
    pub(crate) async fn expect(&mut self, bytes: &str) {
        let read = self.exactly(bytes.len()).await;
        assert_eq!(read.escape_ascii().to_string(), bytes.as_bytes().escape_ascii().to_string());
    }

    /// Everything until the other side closes, whichever way.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Fails unless the other side closes without another byte.
    pub(crate) async fn expect_end(&mut self) {
        assert_eq!(self.rest().await, "");
    }

    /// Whether nothing is there to be read at this moment.
    pub(crate) fn is_silent(&self) -> bool {
        let mut byte = [0];
        self.unread.is_empty()
            && self
                .stream
                .try_read(&mut byte)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("half closed");
    }

    async fn more(&mut self) -> bool {
        let read = in_time("the other side sends or closes", self.stream.read_buf(&mut self.unread)).await;
        // A reset is an end too: it is what a socket that closes with bytes unread sends.
        read.unwrap_or(0) > 0
    }
}

/// An app whose part is played by the test.
pub(crate) struct App {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl App {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Raw {
        let (stream, _) = in_time("the app is connected to", self.listener.accept()).await.expect("accepts");
        Raw { stream, unread: Vec::new() }
    }

    /// Whether nobody has connected since the last `accept`.
    pub(crate) async fn is_left_alone(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(20), self.listener.accept()).await.is_err()
    }
}
