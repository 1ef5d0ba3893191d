//! A login that somebody made, and what came of it.

use std::time::Duration;

use freshgate::{engine::TokenFacts, provider::ProviderConfig};

use super::seconds_between;
use crate::{
    check::{
        facts::{LoginFacts, ReplacedTokenFacts, UserInfoFacts},
        finding::Finding,
    },
    gate::section,
    words::{printable, rough},
};

pub(in crate::check) fn login(config: &ProviderConfig, facts: &LoginFacts) -> Vec<Finding> {
    let mut findings = vec![
        Finding::ok("sign-in", format!("{} signed in, and every check of the ID token passed", facts.user)),
        scope(facts),
        access_token(&facts.tokens),
        id_token(config, facts),
        userinfo(config, &facts.userinfo),
    ];
    findings.extend(refresh(config, facts));
    findings
}

/// RFC 6749 section 5.1: a scope that is not named is the one that was asked for.
fn scope(facts: &LoginFacts) -> Finding {
    let Some(granted) = &facts.tokens.scope else {
        return Finding::ok(
            "scope",
            format!("the provider names none, so what was asked for is granted: {}", facts.scopes.join(" ")),
        );
    };
    let granted: Vec<&str> = granted.split_ascii_whitespace().collect();
    // It asks for a refresh token, and many do not name it afterwards.
    let missing =
        facts.scopes.iter().filter(|scope| *scope != "offline_access" && !granted.contains(&scope.as_str()));
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    let named = printable(&granted.join(" "));
    if missing.is_empty() {
        Finding::ok("scope", format!("granted: {named}"))
    } else {
        Finding::warning(
            "scope",
            format!("granted: {named}; asked for and not granted: {}", missing.join(" ")),
        )
        .mend("allow it for this client at the provider, or ask for less: client_kwargs.scope")
    }
}

fn access_token(tokens: &TokenFacts) -> Finding {
    let size = bytes(tokens.access_token_bytes);
    let what = |life: &str| format!("{size}, {}, {life}", printable(&tokens.token_type));
    match tokens.access_token_lifetime {
        None => Finding::warning(
            "access token",
            what("and the provider does not say how long it lives, so it is not refreshed before it is refused"),
        )
        .mend("have the provider send expires_in, if it can"),
        Some(life) if life < Duration::from_secs(30) => {
            Finding::warning("access token", what(&format!("lives {}, which is refreshed all the time", rough(life))))
        }
        Some(life) => Finding::ok("access token", what(&format!("lives {}", rough(life)))),
    }
}

fn id_token(config: &ProviderConfig, facts: &LoginFacts) -> Finding {
    let TokenFacts { id_token_bytes, id_token_issued_at, id_token_expires_at, .. } = &facts.tokens;
    let size = bytes(id_token_bytes.unwrap_or_default());
    let life = id_token_issued_at.zip(*id_token_expires_at).map(|(from, to)| to.saturating_since(from));
    let life = life.map(|life| format!(", lives {}", rough(life))).unwrap_or_default();
    let leeway = config.clock_leeway.as_secs_f64();
    // It was made between the question and the answer, and its time is in whole seconds.
    let ahead = id_token_issued_at.map_or(0.0, |issued| seconds_between(facts.answered_at, issued));
    let behind =
        id_token_issued_at.map_or(0.0, |issued| seconds_between(issued, facts.tokens.asked_at) - 1.0);
    let (far, word) =
        if ahead > behind { (ahead, "after it arrived") } else { (behind, "before it was asked for") };
    if far > 2.0 {
        return Finding::warning(
            "id token",
            format!("{size}{life}; it says that it was made {far:.0} s {word}: the clocks differ, and {leeway} s are allowed for"),
        )
        .mend("have both machines keep their clocks by NTP");
    }
    Finding::ok("id token", format!("{size}{life}"))
}

fn userinfo(config: &ProviderConfig, userinfo: &UserInfoFacts) -> Finding {
    match userinfo {
        UserInfoFacts::NotAsked => Finding::ok("userinfo", "is not asked, or there is none"),
        UserInfoFacts::Agrees { claims } => {
            Finding::ok("userinfo", format!("tells {claims} claims of the same subject as the ID token"))
        }
        UserInfoFacts::Failed(why) => Finding::problem("userinfo", why.clone()).mend(format!(
            "look whether this client may ask it, or do without: [provider.{}] userinfo = false",
            config.name
        )),
    }
}

fn refresh(config: &ProviderConfig, facts: &LoginFacts) -> Vec<Finding> {
    let (at, name) = (section(&config.name), &config.name);
    let Some(size) = facts.tokens.refresh_token_bytes else {
        return vec![
            Finding::problem(
                "refresh",
                "the provider issued no refresh token: users must sign in again whenever their access token is over",
            )
            .mend("allow refresh tokens (the grant refresh_token, or \"offline access\") for this client there")
            .mend(format!(
                "some issue one only to who is asked for consent: {at} client_kwargs = {{ prompt = \"consent\" }}; Google \
                 wants {{ access_type = \"offline\" }}; see also [provider.{name}] offline_access"
            )),
        ];
    };
    let tried = match &facts.refresh {
        None => return Vec::new(),
        Some(Err(why)) => {
            return vec![
                Finding::problem(
                    "refresh",
                    format!("a refresh token was issued ({}), but a refresh failed: {why}", bytes(size)),
                )
                .mend("look at what the provider logs of it, and whether this client may refresh"),
            ];
        }
        Some(Ok(tried)) => tried,
    };
    let id_token =
        if tried.new_id_token { "brought a new ID token" } else { "brought no ID token, which is no harm" };
    let mut findings = Vec::new();
    if tried.new_access_token {
        findings.push(Finding::ok(
            "refresh",
            format!("a refresh token was issued ({}), and a refresh {id_token}", bytes(size)),
        ));
    } else {
        findings.push(
            Finding::warning(
                "refresh",
                "a refresh brought the same access token again: it cannot be made to live longer that way",
            )
            .mend("look whether the provider hands out a new one only when the old one is over"),
        );
    }
    let rotation = if tried.rotated {
        "each refresh brings another refresh token, in place of the one before"
    } else {
        "the refresh token stays the same"
    };
    findings.push(Finding::ok("rotation", rotation));
    findings.extend(replaced_token(config, &facts.replaced_token));
    findings
}

/// Whether an answer that is lost can be asked for again.
fn replaced_token(config: &ProviderConfig, replaced: &ReplacedTokenFacts) -> Option<Finding> {
    let name = &config.name;
    Some(match replaced {
        ReplacedTokenFacts::NotTried | ReplacedTokenFacts::NoneReplaced => return None,
        ReplacedTokenFacts::Accepted { alive: true } => Finding::ok(
            "grace",
            format!(
                "the refresh token of before was accepted a second time, and the session lives: an answer that is lost can \
                 be asked for again; if the provider says for how long, write [provider.{name}] grace = \"…\""
            ),
        ),
        ReplacedTokenFacts::Accepted { alive: false } => Finding::warning(
            "grace",
            "the refresh token of before was accepted a second time, but after that the session could not be refreshed any more",
        )
        .mend(format!("do not let a refresh token be sent twice: [provider.{name}] lost_answer = \"sign_in_again\"")),
        ReplacedTokenFacts::Refused { alive: true } => Finding::ok(
            "grace",
            "the refresh token of before was refused, and the session lives: there is no grace, and no harm in trying",
        ),
        ReplacedTokenFacts::Refused { alive: false } => Finding::ok(
            "grace",
            "the refresh token of before was refused, and all tokens of this login were revoked: the provider takes a second \
             use for theft",
        ),
        ReplacedTokenFacts::Unclear(why) => Finding::warning("grace", format!("whether there is any cannot be told: {why}")),
    })
}

fn bytes(count: usize) -> String {
    if count < 10_000 { format!("{count} bytes") } else { format!("{} KiB", count / 1024) }
}
