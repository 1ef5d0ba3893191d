//! How many files the process may have open: every connection is one, and most systems start programs with room for a
//! thousand.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a connection takes at most: a browser's WebSocket, and the one to the app behind it.
const PER_CONNECTION: u64 = 2;
/// What is open besides: the store, listeners, connections to the provider.
const RESERVE: u64 = 64;

/// Raises the soft limit to the hard one, and says if that is not enough for so many connections. The app inherits it,
/// and needs it: it has the other end of every WebSocket.
pub fn allow(connections: usize) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, ..before };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the limit on open files cannot be raised"
            );
            before.current
        }
    };
    if let Some(fitting) = limit.and_then(|limit| fewer(limit, connections)) {
        tracing::warn!(
            open_files = limit,
            connections,
            fitting,
            "the system allows too few open files for `limits.connections`: raise its hard limit (`ulimit -Hn`, or \
             LimitNOFILE of a systemd unit), or allow fewer connections"
        );
    }
}

/// How many connections fit into so many files, if fewer than these.
fn fewer(limit: u64, connections: usize) -> Option<u64> {
    let fitting = limit.saturating_sub(RESERVE) / PER_CONNECTION;
    (fitting < connections as u64).then_some(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits() {
        for (limit, connections, expected) in [
            (1024, 10_000, Some(480)),
            (1024, 480, None),
            (1024, 481, Some(480)),
            (20_064, 10_000, None),
            (20_063, 10_000, Some(9_999)),
            (10, 1, Some(0)),
            (u64::MAX, 1_000_000, None),
        ] {
            assert_eq!(fewer(limit, connections), expected, "{limit} {connections}");
        }
    }
}
