//! Time and chance: the two inputs of every service that tests replace.

use std::time::Duration;

use freshgate_oidc::{Secret, Timestamp};

/// Tells the time. Rules take a [`Timestamp`]; services ask their `Clock` for one.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_unix_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Yields unpredictable bytes: session ids, state, nonce, verifier, sealing nonces.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`. A service that cannot get randomness must not go on, so this panics rather than fail quietly.
    fn fill(&self, bytes: &mut [u8]);

    /// 256 random bits in base64url, as ids, state, nonce and verifier are made of.
    fn token(&self) -> Secret {
        let mut bytes = [0_u8; 32];
        self.fill(&mut bytes);
        let token = Secret::new(freshgate_oidc::base64url(&bytes));
        zeroize::Zeroize::zeroize(&mut bytes);
        token
    }
}

/// The operating system's randomness, through aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the operating system yields randomness");
    }
}
