//! What a check comes to: findings, each with what is to be done about it.

use std::fmt;

use url::Url;

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as one would want; or it may not work.
    Warning,
    /// Nobody can sign in, or nobody stays signed in.
    Problem,
}

impl Verdict {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// What it is about, in one word.
    pub(super) topic: &'static str,
    /// What was found. Text of others in it is printable.
    pub(super) what: String,
    /// What to do about it.
    pub(super) mends: Vec<String>,
}

impl Finding {
    pub(super) fn ok(topic: &'static str, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, topic, what: what.into(), mends: Vec::new() }
    }

    pub(super) fn warning(topic: &'static str, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::ok(topic, what) }
    }

    pub(super) fn problem(topic: &'static str, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::ok(topic, what) }
    }

    /// Says what to do about it. May be said several times.
    pub(super) fn mend(mut self, how: impl Into<String>) -> Self {
        self.mends.push(how.into());
        self
    }
}

/// What findings are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// This gate, and the machine it runs on.
    Gate,
    /// A provider, by its name in the configuration, and where it is.
    Provider { name: String, at: Url },
    /// A login at this provider that somebody made for the check.
    Login { provider: String },
}

/// All findings about one thing.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) about: About,
    pub(super) findings: Vec<Finding>,
}

/// What has to be registered at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) provider: String,
    pub(super) redirect_uri: Url,
    /// The rest only where the provider offers it.
    pub(super) post_logout_redirect_uri: Option<Url>,
    pub(super) backchannel_logout_uri: Option<Url>,
    pub(super) frontchannel_logout_uri: Option<Url>,
}

impl Registration {
    /// By their names in client registration.
    pub(super) fn uris(&self) -> Vec<(&'static str, &Url)> {
        let all = [
            ("redirect_uri", Some(&self.redirect_uri)),
            ("post_logout_redirect_uri", self.post_logout_redirect_uri.as_ref()),
            ("backchannel_logout_uri", self.backchannel_logout_uri.as_ref()),
            ("frontchannel_logout_uri", self.frontchannel_logout_uri.as_ref()),
        ];
        all.into_iter().filter_map(|(name, uri)| Some((name, uri?))).collect()
    }
}

/// The whole of a check.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) sections: Vec<Section>,
    pub(super) register: Vec<Registration>,
}

impl Outcome {
    /// How many findings have this verdict.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.findings().filter(|finding| finding.verdict == verdict).count()
    }

    /// The worst of all verdicts.
    pub(super) fn verdict(&self) -> Verdict {
        self.findings().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.sections.iter().flat_map(|section| &section.findings)
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate => f.write_str("This gate"),
            Self::Provider { name, at } => write!(f, "The provider `{name}`: {at}"),
            Self::Login { provider } => write!(f, "A login at `{provider}`"),
        }
    }
}
