//! What wrk cannot do, for `bench/run`: requests at a steady rate, and messages over WebSockets.
//!
//! `bench_load rate ADDR:PORT SECONDS CONNECTIONS REQUESTS_PER_SECOND [HEADER…]`
//! `bench_load messages ADDR:PORT SECONDS SOCKETS [HEADER…]`
//!
//! Prints one line of JSON.

use std::{
    env,
    error::Error,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::sleep_until,
};

/// A text frame of 64 bytes, masked by zeros (RFC 6455, section 5.2), and what comes back.
const MESSAGE: [u8; 64] = [b'm'; 64];
const MASKED: [u8; 6] = [0x81, 0x80 | 64, 0, 0, 0, 0];

type Connection = BufReader<TcpStream>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what}?"));
    let mode = next("rate or messages")?;
    let address: SocketAddr = next("where")?.parse()?;
    let lasts = Duration::from_secs(next("for how long")?.parse()?);
    let connections: u32 = next("how many connections")?.parse()?;
    let rate = if mode == "rate" { Some(next("how many requests a second")?.parse::<f64>()?) } else { None };
    let headers: String = arguments.map(|header| format!("{header}\r\n")).collect();

    let mut clients = JoinSet::new();
    let begin = Instant::now() + Duration::from_millis(200);
    for number in 0..connections {
        let headers = headers.clone();
        match rate {
            Some(rate) => {
                let every = Duration::from_secs_f64(f64::from(connections) / rate);
                let first = begin + every.mul_f64(f64::from(number) / f64::from(connections));
                clients.spawn(ask_steadily(address, headers, first, every, begin + lasts));
            }
            None => drop(clients.spawn(send_messages(address, headers, begin + lasts))),
        }
    }
    let mut took = Vec::new();
    while let Some(done) = clients.join_next().await {
        took.extend(done??);
    }
    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    };
    let per_second = took.len() as f64 / lasts.as_secs_f64();
    println!(
        r#"{{"requests": {}, "rate": {per_second}, "p50_ms": {}, "p99_ms": {}}}"#,
        took.len(),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

/// Asks when it is time, also where the last answer was late: the wait for it counts.
async fn ask_steadily(
    address: SocketAddr,
    headers: String,
    first: Instant,
    every: Duration,
    end: Instant,
) -> io::Result<Vec<Duration>> {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    let mut connection = connect(address).await?;
    let (mut took, mut due, mut body) = (Vec::new(), first, Vec::new());
    while due < end {
        let mut since = due;
        if Instant::now() < due {
            sleep_until(due.into()).await;
            // The timer is as exact as a millisecond.
            since = Instant::now();
        }
        connection.write_all(request.as_bytes()).await?;
        let head = read_head(&mut connection).await?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.trim().parse().ok());
        let (true, Some(length)) = (head.starts_with("HTTP/1.1 200"), length) else {
            return Err(io::Error::other(format!("not answered: {head}")));
        };
        body.resize(length, 0);
        connection.read_exact(&mut body).await?;
        took.push(since.elapsed());
        due += every;
    }
    Ok(took)
}

/// Sends a message, waits until it comes back, and so on.
async fn send_messages(address: SocketAddr, headers: String, end: Instant) -> io::Result<Vec<Duration>> {
    let request = format!(
        "GET /_stcore/stream HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         {headers}\r\n"
    );
    let mut connection = connect(address).await?;
    connection.write_all(request.as_bytes()).await?;
    let head = read_head(&mut connection).await?;
    if !head.starts_with("HTTP/1.1 101") {
        return Err(io::Error::other(format!("no WebSocket: {head}")));
    }
    let message = [MASKED.as_slice(), &MESSAGE].concat();
    let (mut took, mut answer) = (Vec::new(), [0; 2 + MESSAGE.len()]);
    while Instant::now() < end {
        let since = Instant::now();
        connection.write_all(&message).await?;
        connection.read_exact(&mut answer).await?;
        if answer[2..] != MESSAGE {
            return Err(io::Error::other("another message came back"));
        }
        took.push(since.elapsed());
    }
    Ok(took)
}

async fn connect(address: SocketAddr) -> io::Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

async fn read_head(connection: &mut Connection) -> io::Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if connection.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head[before..].trim().is_empty() {
            return Ok(head);
        }
    }
}
