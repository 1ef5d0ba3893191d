//! Connections to one app: made when needed, kept for a while.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{UpstreamError, UpstreamOptions, connection::UpstreamConnection};

const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));

/// One app and the connections to it.
pub(super) struct Pool {
    address: Arc<str>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    most_idle: usize,
    /// The one used last is at the end and is the first to be used again: the others get old and are closed.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Box<UpstreamConnection>,
    since: Instant,
}

impl Pool {
    /// A pool, and a task that closes what was idle for too long. The task ends with the pool.
    pub(super) fn start(options: &UpstreamOptions) -> Arc<Self> {
        let pool = Arc::new(Self {
            address: Arc::clone(&options.address),
            connect_timeout: options.connect_timeout,
            idle_timeout: options.idle_timeout,
            most_idle: options.idle_connections,
            idle: Mutex::default(),
        });
        tokio::spawn(close_old_ones(Arc::downgrade(&pool), options.idle_timeout));
        pool
    }

    /// An idle connection that is open as far as can be known.
    pub(super) fn take(&self) -> Option<Box<UpstreamConnection>> {
        loop {
            let Idle { mut connection, since } = self.lock().pop()?;
            if since.elapsed() < self.idle_timeout && connection.is_idle() {
                return Some(connection);
            }
        }
    }

    /// A new connection's socket.
    pub(super) async fn connect(&self) -> Result<TcpStream, UpstreamError> {
        let unreachable =
            |source: io::Error| UpstreamError::Unreachable { address: Arc::clone(&self.address), source };
        let stream = timeout(self.connect_timeout, TcpStream::connect(&*self.address))
            .await
            .map_err(|_| UpstreamError::TimedOut { after: self.connect_timeout })?
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        // A WebSocket may be silent for hours; its other end must not vanish unnoticed.
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE).map_err(unreachable)?;
        Ok(stream)
    }

    /// Keeps a connection whose last answer was read to its end, unless something is still going on with it.
    pub(super) fn put_back(&self, mut connection: Box<UpstreamConnection>) {
        if connection.is_ready() || connection.is_idle() {
            let mut idle = self.lock();
            if idle.len() < self.most_idle {
                idle.push(Idle { connection, since: Instant::now() });
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close_old_ones(pool: Weak<Pool>, idle_timeout: Duration) {
    loop {
        tokio::time::sleep(idle_timeout.max(Duration::from_millis(100))).await;
        let Some(pool) = pool.upgrade() else { return };
        let old: Vec<Idle> = {
            let mut idle = pool.lock();
            let old = idle.partition_point(|kept| kept.since.elapsed() >= idle_timeout);
            idle.drain(..old).collect()
        };
        // Closed here, without the lock.
        drop(old);
    }
}
