//! Connections to one app: made when needed, kept for a while.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    ReachedBy, UpstreamError, UpstreamOptions, connection::UpstreamConnection, transport::AppTransport,
};

/// One app and the connections to it.
pub(super) struct Pool {
    address: Arc<str>,
    reached_by: ReachedBy,
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
            reached_by: options.reached_by.clone(),
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
    pub(super) async fn connect(&self) -> Result<AppTransport, UpstreamError> {
        let unreachable =
            |source: io::Error| UpstreamError::Unreachable { address: Arc::clone(&self.address), source };
        timeout(self.connect_timeout, self.reached_by.connect(&self.address))
            .await
            .map_err(|_| UpstreamError::TimedOut { after: self.connect_timeout })?
            .map_err(unreachable)
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
