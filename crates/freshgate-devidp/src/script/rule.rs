//! What a script can ask for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::jwt_fault::JwtFault;
use super::seen::{Endpoint, Seen};
use crate::signing::OldKeys;

/// Which requests are to go wrong, and how.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) endpoint: RuleEndpoint,
    /// Only requests of this user, where the request tells: refresh tokens and access tokens do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    /// How many requests pass unharmed first.
    #[serde(default)]
    pub(super) skip: u64,
    /// How many requests after those. Absent: all.
    #[serde(default)]
    pub(super) times: Option<u64>,
    pub(super) action: Fault,
}

/// The endpoints by the names that rules use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RuleEndpoint {
    Discovery,
    Jwks,
    Authorize,
    /// The redirect back to the relying party, whatever page it comes from.
    Callback,
    Par,
    /// Any grant type.
    Token,
    #[serde(rename = "token:code")]
    TokenCode,
    #[serde(rename = "token:refresh")]
    TokenRefresh,
    Userinfo,
    Revoke,
    EndSession,
    Api,
}

/// What goes wrong. Everything can be combined; what makes no sense for an endpoint is ignored there.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fault {
    /// Wait before the request is handled. A client that leaves meanwhile does not keep it from being handled.
    pub(super) delay_before_ms: u64,
    /// Wait after the request was handled, before it is answered.
    pub(super) delay_after_ms: u64,
    /// Close the connection without an answer.
    pub(super) cut: Option<When>,
    /// Answer this.
    pub(super) respond: Option<CannedAnswer>,
    /// Replace the signing keys before the request is handled.
    pub(super) rotate_keys: Option<OldKeys>,
    /// Members of a successful JSON answer to leave out; for `callback` and `end_session`, parameters of the redirect.
    pub(super) omit: Vec<String>,
    /// Members of a successful JSON answer to put in or replace; for `callback` and `end_session`, parameters.
    pub(super) set: Map<String, Value>,
    /// Make a successful JSON answer larger by a member `padding` of this length.
    pub(super) pad_bytes: usize,
    /// What is wrong with the ID token of a token answer.
    pub(super) id_token: Option<JwtFault>,
    /// How long the access token of a token answer is, if longer than usual.
    pub(super) access_token_bytes: usize,
    /// When the access token of a token answer ends, in milliseconds since 1970. No longer counts once that is past.
    pub(super) access_token_ends_at_ms: Option<i64>,
    /// Answer userinfo as a signed JWT, with this wrong with it (`{}`: nothing).
    pub(super) signed: Option<JwtFault>,
    /// Sign this user in at once, without a page. A user that is not there yet is added.
    pub(super) auto_login: Option<String>,
}

/// On which side of handling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    /// The provider never gets to see the request.
    #[default]
    BeforeHandling,
    /// The provider has done what was asked; only the answer is lost.
    AfterHandling,
}

/// An answer word for word.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CannedAnswer {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// A text is sent as it is, anything else as JSON.
    #[serde(default)]
    pub(super) body: Value,
    #[serde(default)]
    pub(super) when: When,
}

/// The rules, oldest first.
#[derive(Default)]
pub(super) struct Rules(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    last_id: u64,
    rules: Vec<ActiveRule>,
}

/// A rule and how often a request has matched it.
#[derive(Clone, Serialize)]
pub(super) struct ActiveRule {
    id: u64,
    matched: u64,
    #[serde(flatten)]
    rule: Rule,
}

impl Rules {
    pub(super) fn add(&self, rules: Vec<Rule>) -> Vec<u64> {
        let mut numbered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = numbered.last_id + 1;
        for rule in rules {
            numbered.last_id += 1;
            let id = numbered.last_id;
            numbered.rules.push(ActiveRule { id, matched: 0, rule });
        }
        (first..=numbered.last_id).collect()
    }

    pub(super) fn list(&self) -> Vec<ActiveRule> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rules.clone()
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rules.clear();
    }

    pub(super) fn remove(&self, id: u64) -> bool {
        let rules = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).rules;
        let before = rules.len();
        rules.retain(|rule| rule.id != id);
        rules.len() < before
    }

    /// What is to go wrong with this request; counts it.
    pub(super) fn faults_for(&self, seen: &Seen) -> Vec<Fault> {
        self.take(|rule| {
            rule.endpoint.includes(seen.endpoint) && (rule.sub.is_none() || rule.sub == seen.sub)
        })
    }

    /// What is to go wrong with a redirect back to the relying party; counts it.
    pub(super) fn faults_for_callback(&self) -> Vec<Fault> {
        self.take(|rule| rule.endpoint == RuleEndpoint::Callback)
    }

    fn take(&self, matches: impl Fn(&Rule) -> bool) -> Vec<Fault> {
        let mut numbered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = Vec::new();
        for active in numbered.rules.iter_mut().filter(|active| matches(&active.rule)) {
            active.matched += 1;
            let number = active.matched;
            let last = active.rule.times.map_or(u64::MAX, |times| active.rule.skip.saturating_add(times));
            if number > active.rule.skip && number <= last {
                faults.push(active.rule.action.clone());
            }
        }
        faults
    }
}

impl RuleEndpoint {
    fn includes(self, endpoint: Endpoint) -> bool {
        match self {
            RuleEndpoint::Discovery => endpoint == Endpoint::Discovery,
            RuleEndpoint::Jwks => endpoint == Endpoint::Jwks,
            RuleEndpoint::Authorize => endpoint == Endpoint::Authorize,
            RuleEndpoint::Callback => false,
            RuleEndpoint::Par => endpoint == Endpoint::Par,
            RuleEndpoint::Token => {
                matches!(endpoint, Endpoint::TokenCode | Endpoint::TokenRefresh | Endpoint::TokenOther)
            }
            RuleEndpoint::TokenCode => endpoint == Endpoint::TokenCode,
            RuleEndpoint::TokenRefresh => endpoint == Endpoint::TokenRefresh,
            RuleEndpoint::Userinfo => endpoint == Endpoint::Userinfo,
            RuleEndpoint::Revoke => endpoint == Endpoint::Revoke,
            RuleEndpoint::EndSession => endpoint == Endpoint::EndSession,
            RuleEndpoint::Api => endpoint == Endpoint::Api,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Rule, Rules};
    use crate::script::seen::{Endpoint, Seen};

    #[test]
    fn rules_count_what_they_match() {
        let rules = Rules::default();
        let rule = |rule| serde_json::from_value::<Rule>(rule).unwrap();
        rules.add(vec![
            rule(
                json!({"endpoint": "token:refresh", "skip": 1, "times": 2, "action": {"delay_after_ms": 1}}),
            ),
            rule(json!({"endpoint": "token", "sub": "alice", "action": {"delay_after_ms": 2}})),
        ]);
        let seen = |endpoint, sub: &str| Seen { sub: Some(sub.to_owned()), ..Seen::at(endpoint) };
        let delays = |seen: &Seen| -> Vec<u64> {
            rules.faults_for(seen).iter().map(|fault| fault.delay_after_ms).collect()
        };
        let (alice, bob) = (seen(Endpoint::TokenRefresh, "alice"), seen(Endpoint::TokenRefresh, "bob"));
        assert_eq!(delays(&alice), [2]);
        assert_eq!(delays(&alice), [1, 2]);
        assert_eq!(delays(&seen(Endpoint::TokenCode, "bob")), [0_u64; 0]);
        assert_eq!(delays(&bob), [1]);
        assert_eq!(delays(&alice), [2]);
    }

    #[test]
    fn a_misspelt_rule_is_refused() {
        for rule in [
            json!({"endpoint": "tokens", "action": {}}),
            json!({"endpoint": "token", "action": {"delay": 5}}),
            json!({"endpoint": "token", "time": 1, "action": {}}),
            json!({"endpoint": "token", "action": {"id_token": {"signature": "wrong"}}}),
        ] {
            assert!(serde_json::from_value::<Rule>(rule.clone()).is_err(), "{rule}");
        }
    }
}
