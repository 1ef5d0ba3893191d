//! `freshgate health`: asks a running gate's operator listener, for supervisors that can start a program and nothing
//! else, such as a container's health check. An image needs no other program for it.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use crate::config::StartupProblem;

/// How long each step may take: to connect, to ask, to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The status line is in here, whatever follows it.
const ENOUGH: u64 = 64;

/// Asks the gate that listens there for operators. The exit code is 0 if it answers that it is well, else 1, with a line
/// on standard error that says what is wrong.
pub fn run(operators: SocketAddr) -> ExitCode {
    match ask(reachable(operators)) {
        Ok(status) if status.split(' ').nth(1) == Some("200") => ExitCode::SUCCESS,
        Ok(status) => unhealthy(operators, &io::Error::other(format!("it answers {:?}", status.trim()))),
        Err(error) => unhealthy(operators, &error),
    }
}

/// Where a listener on every interface is reached from this machine.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let host = match listening.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    SocketAddr::new(host, listening.port())
}

/// The status line of `/health`.
fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ENOUGH).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

fn unhealthy(operators: SocketAddr, why: &io::Error) -> ExitCode {
    StartupProblem::new("the gate is not well").at(operators.to_string()).because(why).print();
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// What comes of it if somebody answers so.
    fn answered(answer: &'static str) -> ExitCode {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let gate = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            assert!(asked.starts_with(b"GET /health HTTP/1.1\r\n"));
            client.write_all(answer.as_bytes()).unwrap();
        });
        let code = run(address);
        gate.join().unwrap();
        code
    }

    #[test]
    fn only_200_is_well() {
        let table = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", ExitCode::SUCCESS),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", ExitCode::FAILURE),
            ("HTTP/1.1 404 Not Found\r\n\r\n200", ExitCode::FAILURE),
            ("SSH-2.0-x\r\n", ExitCode::FAILURE),
            ("", ExitCode::FAILURE),
        ];
        for (answer, expected) in table {
            assert_eq!(answered(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn nobody_there_is_not_well() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        assert_eq!(run(free), ExitCode::FAILURE);
    }
}
