//! Facts to findings, as tables. What whole checks look like is in the snapshots of `check/tests.rs`.

use std::{path::PathBuf, time::Duration};

use freshgate::{
    engine::{TokenFacts, TriedRefresh},
    provider::{ConnectionTrouble, OfflineAccess},
    store::StoreInspection,
};
use freshgate_oidc::{ClientCredential, ExpectedIssuer, Issuer, ProviderMetadata, Secret};
use http::StatusCode;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::check::{
    facts::{
        CertificateFacts, FolderFacts, GateProbe, LoginFacts, ReplacedTokenFacts, SealFacts, Skew,
        StoreFacts, Trouble, Unreached, UserInfoFacts,
    },
    finding::Verdict,
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
const ISSUER: &str = "https://id.example.com";

fn config() -> ProviderConfig {
    let metadata_url = url("https://id.example.com/.well-known/openid-configuration");
    let secret = ClientCredential::Secret(Secret::new("hunter2"));
    ProviderConfig {
        issuer: ExpectedIssuer::Exactly(Issuer::new(ISSUER)),
        scope: "openid email".into(),
        clock_leeway: Duration::from_secs(30),
        ..ProviderConfig::new("default", metadata_url, "app", secret)
    }
}

fn metadata(more: Value) -> ProviderMetadata {
    let mut document = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://id.example.com/authorize",
        "token_endpoint": "https://id.example.com/token",
        "jwks_uri": "https://id.example.com/keys",
    });
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ProviderMetadata::parse(document.to_string().as_bytes(), &config().issuer).unwrap()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn site(start: &str) -> Site {
    let start = url(start);
    Site {
        redirect_uri: start.join("oauth2callback").unwrap(),
        is_loopback: freshgate_oidc::is_loopback(&start),
        start,
    }
}

fn trouble(trouble: ConnectionTrouble) -> Unreached {
    Unreached { trouble: Trouble::Connection(trouble), why: "the whole chain".into() }
}

/// All that is said, in one line.
fn said(finding: &Finding) -> String {
    format!("{}; {}", finding.what, finding.mends.join("; "))
}

#[test]
fn why_a_provider_is_not_reached() {
    use ConnectionTrouble::*;
    let table = [
        (Refused, "nobody listens at id.example.com, port 443", "[auth] server_metadata_url"),
        (NoRoute, "no network leads to", "HTTPS_PROXY"),
        (TimedOut, "does not answer in time", "[provider.default] timeout"),
        (UntrustedCertificate, "issued by nobody that this machine trusts", "[provider.default] ca_file"),
        (CertificateOfAnotherHost, "has the certificate of another host", "[auth] server_metadata_url"),
        (CertificateExpired, "the certificate of id.example.com is over", "clock"),
        (CertificateNotYetValid, "is not valid yet", "clock"),
        (BadCertificate, "does not pass (the whole chain)", "replaced"),
        (NotTls, "speaks no TLS at port 443", "http://"),
        (Closed, "ends the connection at port 443", "https"),
        (Other, "is not reached (the whole chain)", "other means"),
    ];
    for (why, what, mend) in table {
        let facts = ProviderFacts { document: Asked::Unreached(trouble(why)), known: None };
        let findings = provider(&config(), &facts, &site("https://app.example.com/"), NOW);
        let [finding] = findings.as_slice() else { panic!("one finding: {findings:?}") };
        assert_eq!((finding.topic, finding.verdict), ("reach", Verdict::Problem), "{why:?}");
        assert!(finding.what.contains(what), "{why:?}: {finding:?}");
        assert!(finding.mends.join("; ").contains(mend), "{why:?}: {finding:?}");
    }
}

#[test]
fn certificates() {
    let day = |days: i64| Timestamp::from_unix_seconds(NOW.as_unix_seconds() + days * 24 * 3600);
    let read = |from, to, is_for_host| CertificateFacts::Read {
        from: day(from),
        to: day(to),
        is_for_host,
        names: vec!["other.example.com".to_owned()],
    };
    let start = url("https://app.example.com/");
    for (from, to, is_for_host, own, others, expected) in [
        (-60, 30, true, Verdict::Ok, Verdict::Ok, "good for 30 days more, until 2027-02-14"),
        (-80, 10, true, Verdict::Warning, Verdict::Warning, "good for 10 days more, until 2027-01-25"),
        // What lives for six days is renewed every few.
        (-3, 3, true, Verdict::Ok, Verdict::Ok, "good for 3 days more"),
        (-5, 1, true, Verdict::Warning, Verdict::Warning, "good for 24 h more"),
        (-90, 0, true, Verdict::Problem, Verdict::Warning, "is over since 2027-01-15 08:00:00Z; renew it"),
        (
            1,
            90,
            true,
            Verdict::Problem,
            Verdict::Ok,
            "from 2027-01-16 08:00:00Z on; look at this machine's clock",
        ),
        (
            -60,
            30,
            false,
            Verdict::Problem,
            Verdict::Ok,
            "is for other.example.com, and browsers come by app.example.com",
        ),
    ] {
        let facts = read(from, to, is_for_host);
        let finding = certificate::own(&start, &facts, NOW);
        assert_eq!(finding.verdict, own, "{facts:?}");
        assert!(said(&finding).contains(expected), "{facts:?}: {finding:?}");
        assert_eq!(certificate::others("id.example.com", "them", &facts, NOW).verdict, others, "{facts:?}");
    }
    let facts = CertificateFacts::Unreadable("BadDer".to_owned());
    assert_eq!(certificate::own(&start, &facts, NOW).verdict, Verdict::Problem);
    assert_eq!(certificate::others("id.example.com", "them", &facts, NOW).verdict, Verdict::Warning);
}

#[test]
fn clocks() {
    let leeway = config();
    for (seconds, give_or_take, verdict) in [
        (0.0, 0.5, Verdict::Ok),
        (-2.0, 0.5, Verdict::Ok),
        // Slow answers: nothing can be told.
        (6.0, 8.0, Verdict::Ok),
        (2.6, 0.5, Verdict::Warning),
        (-29.0, 0.5, Verdict::Warning),
        // It may be within what is allowed for.
        (30.4, 0.5, Verdict::Warning),
        (30.6, 0.5, Verdict::Problem),
        (-3600.0, 0.5, Verdict::Problem),
    ] {
        let finding = clock::skew(&leeway, Skew { seconds, give_or_take });
        assert_eq!(finding.verdict, verdict, "{seconds} {give_or_take}");
    }
    assert!(clock::skew(&leeway, Skew { seconds: -90.0, give_or_take: 0.5 }).what.contains("90 s behind"));
    assert!(clock::skew(&leeway, Skew { seconds: 90.0, give_or_take: 0.5 }).what.contains("90 s ahead of"));
}

#[test]
fn refresh_tokens() {
    let listed = json!({"scopes_supported": ["openid", "offline_access"]});
    let both = json!({"scopes_supported": ["openid", "offline_access"], "grant_types_supported": ["authorization_code", "refresh_token"]});
    let without_grant = json!({"scopes_supported": ["openid", "offline_access"], "grant_types_supported": ["authorization_code"]});
    for (more, offline_access, verdict, expected) in [
        (&listed, OfflineAccess::IfListed, Verdict::Ok, "listed, and is asked for"),
        (&both, OfflineAccess::IfListed, Verdict::Ok, "listed, and is asked for"),
        (&listed, OfflineAccess::Never, Verdict::Warning, "offline_access = \"never\""),
        (&json!({}), OfflineAccess::Always, Verdict::Ok, "though the provider does not list it"),
        (&json!({}), OfflineAccess::IfListed, Verdict::Warning, "access_type"),
        (&without_grant, OfflineAccess::Always, Verdict::Warning, "does not list the grant refresh_token"),
    ] {
        let config = ProviderConfig { offline_access, ..config() };
        let metadata = metadata(more.clone());
        let finding = refresh::refresh(&config, &metadata, &config.scopes_for(&metadata, None));
        assert_eq!(finding.verdict, verdict, "{more} {offline_access:?}");
        assert!(said(&finding).contains(expected), "{more} {offline_access:?}: {finding:?}");
    }
}

#[test]
fn logouts_and_what_is_registered_for_them() {
    let end_session = json!({"end_session_endpoint": "https://id.example.com/logout"});
    let back = json!({
        "end_session_endpoint": "https://id.example.com/logout",
        "backchannel_logout_supported": true, "backchannel_logout_session_supported": true,
    });
    let by_user = json!({"end_session_endpoint": "https://id.example.com/logout", "backchannel_logout_supported": true});
    let front = json!({"frontchannel_logout_supported": true});
    let public = "https://app.example.com/reports/";
    for (more, start, verdict, expected) in [
        (&back, public, Verdict::Ok, "told by the back channel"),
        (&back, "http://localhost:8501/", Verdict::Warning, "http://localhost:8501/ is not reached"),
        (&by_user, public, Verdict::Ok, "all sessions of that user end"),
        (&end_session, public, Verdict::Warning, "stays signed in here until the next refresh"),
        (&front, public, Verdict::Warning, "stays signed in there"),
        (&json!({}), public, Verdict::Warning, "the provider tells nobody"),
    ] {
        let finding = logout::logout(&metadata(more.clone()), &site(start));
        assert_eq!(finding.verdict, verdict, "{more}");
        assert!(said(&finding).contains(expected), "{more}: {finding:?}");
    }

    let names = |more: Option<&Value>| {
        let metadata = more.map(|more| metadata(more.clone()));
        let registration = registration("default", metadata.as_ref(), &site(public));
        registration.uris().iter().map(|(name, uri)| format!("{name} {}", uri.path())).collect::<Vec<_>>()
    };
    let redirect = "redirect_uri /reports/oauth2callback";
    let post_logout = "post_logout_redirect_uri /reports/oauth2callback";
    let back_channel = "backchannel_logout_uri /reports/auth/backchannel-logout";
    let front_channel = "frontchannel_logout_uri /reports/auth/frontchannel-logout";
    assert_eq!(names(Some(&json!({}))), [redirect]);
    assert_eq!(names(Some(&back)), [redirect, post_logout, back_channel]);
    assert_eq!(names(Some(&front)), [redirect, front_channel]);
    assert_eq!(names(None), [redirect, post_logout, back_channel, front_channel], "nothing is known");
}

#[test]
fn where_browsers_and_the_gate_meet() {
    let app = |status| GateProbe::Gate { app: Asked::Answered(status) };
    let refused = || GateProbe::Unreached(trouble(ConnectionTrouble::Refused));
    let (local, public) = ("http://localhost:8501/", "https://app.example.com/");
    // start, listen, what answers here, what answers there, and the verdicts on address, cookies, running and proxy
    type Case<'a> = (&'a str, &'a str, GateProbe, Option<GateProbe>, &'a str);
    let table: [Case<'_>; 10] = [
        (local, "127.0.0.1:8501", refused(), None, "ok ok ok"),
        (local, "0.0.0.0:8501", app(StatusCode::OK), None, "warning ok ok"),
        (local, "127.0.0.1:8501", app(StatusCode::BAD_GATEWAY), None, "ok ok problem"),
        (local, "127.0.0.1:8501", GateProbe::SomethingElse(StatusCode::OK), None, "ok ok problem"),
        (
            local,
            "127.0.0.1:8501",
            GateProbe::Unreached(trouble(ConnectionTrouble::TimedOut)),
            None,
            "ok ok warning",
        ),
        (public, "127.0.0.1:8501", app(StatusCode::OK), Some(app(StatusCode::OK)), "ok ok ok ok"),
        (
            public,
            "0.0.0.0:8501",
            app(StatusCode::OK),
            Some(app(StatusCode::NOT_FOUND)),
            "ok warning ok warning",
        ),
        (
            public,
            "127.0.0.1:8501",
            refused(),
            Some(GateProbe::SomethingElse(StatusCode::BAD_GATEWAY)),
            "ok ok ok ok",
        ),
        (
            public,
            "127.0.0.1:8501",
            app(StatusCode::OK),
            Some(GateProbe::SomethingElse(StatusCode::BAD_GATEWAY)),
            "ok ok ok warning",
        ),
        (
            public,
            "127.0.0.1:8501",
            refused(),
            Some(GateProbe::Unreached(trouble(ConnectionTrouble::UntrustedCertificate))),
            "ok ok ok warning",
        ),
    ];
    for (start, listen, here, there, expected) in table {
        let start = url(start);
        let about = format!("{start} {listen} {here:?} {there:?}");
        let addresses = Addresses {
            is_loopback: freshgate_oidc::is_loopback(&start),
            start: &start,
            listen: listen.parse().unwrap(),
            tls: false,
            here,
            public: there,
            certificate: None,
            now: NOW,
        };
        let verdicts: Vec<_> = gate(&addresses).iter().map(|finding| finding.verdict.code()).collect();
        assert_eq!(verdicts.join(" "), expected, "{about}");
    }
}

#[test]
fn a_gate_that_speaks_tls_itself() {
    let refuses_http = || GateProbe::SomethingElse(StatusCode::BAD_REQUEST);
    for (tls, here, expected) in [
        (true, refuses_http(), "ok ok ok"),
        (false, refuses_http(), "ok warning problem"),
        (true, GateProbe::SomethingElse(StatusCode::OK), "ok ok problem"),
    ] {
        let start = url("https://app.example.com/");
        let about = format!("{tls} {here:?}");
        let listen = "0.0.0.0:443".parse().unwrap();
        let addresses = Addresses {
            is_loopback: false,
            start: &start,
            listen,
            tls,
            here,
            public: None,
            certificate: None,
            now: NOW,
        };
        let verdicts: Vec<_> = gate(&addresses).iter().map(|finding| finding.verdict.code()).collect();
        assert_eq!(verdicts.join(" "), expected, "{about}");
    }
}

#[test]
fn stores_and_keys() {
    let path = || PathBuf::from("/srv/sessions.db");
    let inspection = |schema| StoreInspection { schema, known_schema: 2, live: 1, ended: 2 };
    let there = |schema, open_to_others| StoreFacts::There {
        path: path(),
        inspection: inspection(schema),
        open_to_others,
    };
    let absent = |folder| StoreFacts::Absent { path: path(), folder };
    for (facts, verdict, expected) in [
        (StoreFacts::Memory, Verdict::Warning, "in memory"),
        (absent(FolderFacts::Writable), Verdict::Ok, "is made at the start"),
        (absent(FolderFacts::IsMade), Verdict::Ok, "is made at the start"),
        (absent(FolderFacts::NotWritable), Verdict::Problem, "nothing may be written beside"),
        (absent(FolderFacts::Missing), Verdict::Problem, "there is no folder for"),
        (there(2, false), Verdict::Ok, "has 1 session and remembers 2 that ended"),
        (there(1, false), Verdict::Ok, "has schema 1, and is brought to 2"),
        (there(2, true), Verdict::Warning, "chmod 600 /srv/sessions.db"),
        (StoreFacts::Unusable { path: path(), why: "broken".into() }, Verdict::Problem, "broken"),
    ] {
        let finding = store(&facts);
        assert_eq!(finding.verdict, verdict, "{facts:?}");
        assert!(said(&finding).contains(expected), "{finding:?}");
    }
    let ring = |of_cookie_secret, looked_at, unreadable, open: Option<&str>| SealFacts::Ring {
        seals: "8f3a90c1d2e4b576".into(),
        of_cookie_secret,
        looked_at,
        unreadable,
        open_to_others: open.map(PathBuf::from),
    };
    for (facts, verdict, expected) in [
        (ring(true, 0, 0, None), Verdict::Ok, "8f3a90c1d2e4b576, made from cookie_secret, seals"),
        (
            ring(false, 3, 0, None),
            Verdict::Ok,
            "of the key file, seals sessions; those in the store can be read (3 sessions",
        ),
        (ring(true, 3, 1, None), Verdict::Warning, "former_cookie_secrets"),
        (ring(false, 3, 0, Some("/srv/keys.toml")), Verdict::Warning, "chmod 600 /srv/keys.toml"),
        (SealFacts::Unusable("broken".into()), Verdict::Problem, "docs/keys.md"),
    ] {
        let finding = seal(&facts);
        assert_eq!(finding.verdict, verdict, "{facts:?}");
        assert!(said(&finding).contains(expected), "{finding:?}");
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds)
}

/// A login without a fault, and without a grace that was probed.
fn good_login() -> LoginFacts {
    let tokens = TokenFacts {
        token_type: "Bearer".into(),
        access_token_bytes: 900,
        access_token_lifetime: Some(Duration::from_secs(300)),
        refresh_token_bytes: Some(70),
        id_token_bytes: Some(1000),
        id_token_issued_at: Some(at(0)),
        id_token_expires_at: Some(at(300)),
        scope: Some("openid email".into()),
        asked_at: at(0),
    };
    let refreshed =
        TriedRefresh { rotated: true, new_id_token: true, new_access_token: true, tokens: tokens.clone() };
    LoginFacts {
        user: "ada".into(),
        tokens,
        answered_at: at(1),
        scopes: ["openid", "email", "offline_access"].map(str::to_owned).into(),
        userinfo: UserInfoFacts::Agrees { claims: 5 },
        refresh: Some(Ok(refreshed)),
        replaced_token: ReplacedTokenFacts::NotTried,
    }
}

#[test]
fn logins() {
    type Change = fn(&mut LoginFacts);
    let table: [(&str, Change, Verdict, &str); 18] = [
        ("sign-in", |_| {}, Verdict::Ok, "ada signed in"),
        ("scope", |_| {}, Verdict::Ok, "granted: openid email"),
        ("scope", |facts| facts.tokens.scope = None, Verdict::Ok, "what was asked for is granted"),
        ("scope", |facts| facts.tokens.scope = Some("openid".into()), Verdict::Warning, "not granted: email"),
        ("access token", |_| {}, Verdict::Ok, "900 bytes, Bearer, lives 5 min"),
        ("access token", |facts| facts.tokens.access_token_bytes = 65_536, Verdict::Ok, "64 KiB"),
        ("access token", |facts| facts.tokens.access_token_lifetime = None, Verdict::Warning, "expires_in"),
        (
            "access token",
            |facts| facts.tokens.access_token_lifetime = Some(Duration::from_secs(10)),
            Verdict::Warning,
            "lives 10 s",
        ),
        (
            "id token",
            |facts| facts.tokens.id_token_issued_at = Some(at(20)),
            Verdict::Warning,
            "19 s after it arrived",
        ),
        (
            "id token",
            |facts| facts.tokens.id_token_issued_at = Some(at(-20)),
            Verdict::Warning,
            "19 s before it was asked for",
        ),
        ("id token", |facts| facts.tokens.id_token_issued_at = Some(at(-1)), Verdict::Ok, "1000 bytes"),
        ("userinfo", |facts| facts.userinfo = UserInfoFacts::NotAsked, Verdict::Ok, "is not asked"),
        (
            "userinfo",
            |facts| facts.userinfo = UserInfoFacts::Failed("status 403".into()),
            Verdict::Problem,
            "[provider.default] userinfo = false",
        ),
        (
            "refresh",
            |facts| facts.tokens.refresh_token_bytes = None,
            Verdict::Problem,
            "prompt = \"consent\"",
        ),
        (
            "refresh",
            |facts| facts.refresh = Some(Err("refused".into())),
            Verdict::Problem,
            "a refresh failed: refused",
        ),
        (
            "refresh",
            |facts| {
                if let Some(Ok(refresh)) = &mut facts.refresh {
                    refresh.new_access_token = false;
                }
            },
            Verdict::Warning,
            "the same access token again",
        ),
        ("rotation", |_| {}, Verdict::Ok, "another refresh token"),
        (
            "rotation",
            |facts| {
                if let Some(Ok(refresh)) = &mut facts.refresh {
                    refresh.rotated = false;
                }
            },
            Verdict::Ok,
            "stays the same",
        ),
    ];
    for (topic, change, verdict, expected) in table {
        let mut facts = good_login();
        change(&mut facts);
        let findings = login(&config(), &facts);
        let finding = findings.iter().find(|finding| finding.topic == topic).unwrap();
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(said(finding).contains(expected), "{expected} in {finding:?}");
        let others = findings.iter().filter(|finding| finding.topic != topic);
        assert!(others.clone().all(|finding| finding.verdict == Verdict::Ok), "{topic}: {findings:?}");
    }
}

#[test]
fn grace() {
    use ReplacedTokenFacts::*;
    for (replaced_token, expected) in [
        (NotTried, None),
        (NoneReplaced, None),
        (Accepted { alive: true }, Some((Verdict::Ok, "grace = \"…\""))),
        (Accepted { alive: false }, Some((Verdict::Warning, "sign_in_again"))),
        (Refused { alive: true }, Some((Verdict::Ok, "no harm in trying"))),
        (Refused { alive: false }, Some((Verdict::Ok, "takes a second use for theft"))),
        (Unclear("status 503".into()), Some((Verdict::Warning, "status 503"))),
    ] {
        let about = format!("{replaced_token:?}");
        let findings = login(&config(), &LoginFacts { replaced_token, ..good_login() });
        let found = findings.iter().find(|finding| finding.topic == "grace");
        match (found, expected) {
            (None, None) => {}
            (Some(finding), Some((verdict, text))) => {
                assert_eq!(finding.verdict, verdict, "{about}");
                assert!(said(finding).contains(text), "{about}: {finding:?}");
            }
            other => panic!("{about}: {other:?}"),
        }
    }
}
