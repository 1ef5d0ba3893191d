//! What good configurations come to.

use std::time::Duration;

use freshgate::provider::{
    AssertionAudience, DpopUse, LostAnswer, OfflineAccess, PushedRequests, Refreshing,
};
use freshgate_oidc::{ClientAuthMethod, ClientCredential, ExpectedIssuer};
use freshgate_web::{AccessRule, Condition, ForwardAuth, ToldBy};

use super::{super::*, Case, GOOD, client_secret};
use crate::listener::{ForwardedHeader, TrustedProxies, tests::tls::FIRST};

#[test]
fn a_plain_app() {
    let case = Case::with_secrets(GOOD);
    let (RunConfig { gate: config, .. }, report) = case.run(&[]).unwrap();
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8501");
    assert_eq!(config.public.origin().as_str(), "http://localhost:8501/");
    assert_eq!(config.public.base_path(), "");
    assert!(!config.public.is_https());
    assert_eq!(config.store, StoreLocation::Sqlite(case.path(".freshgate/sessions.db")));
    assert_eq!(config.session.absolute_lifetime, Duration::from_secs(30 * 24 * 3600));
    assert!(config.session.refresh_ahead);
    assert_eq!(config.session.active_for, Duration::from_secs(600));
    assert_eq!(config.cookie_secret.expose(), "hunter2-0123456789-0123456789-0123456789");
    assert_eq!(config.exposed_tokens, ExposedTokens::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.log, LogConfig { filter: "info".into(), format: LogFormat::Text });
    let app = case.app(&[]);
    assert_eq!(app.script, case.path("app.py"));
    assert!(app.secrets_files.is_empty() && app.arguments.is_empty());
    let [provider] = config.providers.as_slice() else { panic!("one provider") };
    let provider = &provider.provider;
    assert_eq!(provider.name, "default");
    assert_eq!(provider.client_id, "reports");
    assert_eq!(client_secret(provider).expose(), "hunter2-of-the-client");
    assert_eq!(provider.scope, "openid email profile");
    let parameters: Vec<_> = provider.authorize_parameters.others().collect();
    assert_eq!(parameters, [("prompt", "select_account")]);
    assert_eq!(provider.issuer, ExpectedIssuer::OfMetadataUrl(provider.metadata_url.clone()));
    assert_eq!(provider.offline_access, OfflineAccess::IfListed);
    assert!(provider.userinfo && provider.client_auth_method.is_none());
}

#[test]
fn headers_that_streamlit_trusts_are_known_wherever_they_are_named() {
    let trusted = |case: Case, arguments: &[&str]| {
        let (config, report) = case.run(arguments).unwrap();
        (config.app.trusted_user_headers, report.render(Look::Plain))
    };
    let good = || Case::with_secrets(GOOD);
    let json = r#"{"X-Team": "team", "x-mail": "mail"}"#;
    let (names, report) = trusted(
        good().file(
            ".streamlit/config.toml",
            "[server.trustedUserHeaders]\nX-Team = \"team\"\nX-Mail = \"mail\"\n",
        ),
        &[],
    );
    assert_eq!(names, ["x-team", "x-mail"]);
    insta::assert_snapshot!(report);
    assert_eq!(trusted(good(), &["--", "--server.trustedUserHeaders", json]).0, ["x-team", "x-mail"]);
    let variable = good().variable("STREAMLIT_SERVER_TRUSTED_USER_HEADERS", json);
    assert_eq!(trusted(variable, &[]).0, ["x-team", "x-mail"]);
    assert_eq!(trusted(good(), &[]), (Vec::<http::HeaderName>::new(), String::new()));
}

#[test]
fn who_may_enter() {
    let access = |toml: &str| Case::with_freshgate_toml(toml).config(&[]).access;
    let everybody = Case::with_secrets(GOOD).config(&[]).access;
    assert_eq!(everybody, Access::default());
    assert!(!everybody.require_login);

    let users = Access { require_login: true, ..Access::default() };
    assert_eq!(access("[access]\nrequire_login = true\n"), users);
    assert_eq!(Case::with_secrets(GOOD).config(&["--require-login"]).access, users);

    let claim = |name: &str, one_of: &[serde_json::Value]| Condition::Claim {
        name: name.into(),
        one_of: one_of.to_vec(),
    };
    let rule = |path: &str, conditions: &[Condition]| AccessRule {
        path: path.into(),
        conditions: conditions.to_vec(),
    };
    let staff = Condition::Email {
        addresses: vec!["ada@other.example".into()],
        domains: vec!["example.com".into(), "example.org".into()],
    };
    let whole = "[access]\nemails = [\"ada@other.example\"]\nemail_domains = [\"example.com\", \"example.org\"]\nunverified_email = true\n\
        claims = { level = [3, 4], internal = true, \"/realm_access/roles\" = \"user\" }\n\
        [[access.rule]]\npath = \"/admin\"\ngroups = [\"admins\"]\n[[access.rule]]\npath = \"/help\"\n";
    assert_eq!(
        access(whole),
        Access {
            require_login: true,
            unverified_email: true,
            forward_auth: None,
            rules_of_hosts: Vec::new(),
            open_paths: Vec::new(),
            rules: vec![
                rule(
                    "/",
                    &[
                        staff.clone(),
                        claim("level", &[3.into(), 4.into()]),
                        claim("internal", &[true.into()]),
                        claim("/realm_access/roles", &["user".into()]),
                    ]
                ),
                rule("/admin", &[claim("groups", &["admins".into()])]),
                rule("/help", &[]),
            ],
        }
    );
    let case = Case::with_secrets(GOOD)
        .variable("FRESHGATE_ACCESS_EMAILS", "ada@other.example")
        .variable("FRESHGATE_ACCESS_EMAIL_DOMAINS", "example.com, example.org");
    assert_eq!(case.config(&[]).access.rules, [rule("/", &[staff])]);
}

#[test]
fn how_often_one_client_may_ask() {
    let case = Case::with_freshgate_toml("[limits]\nlogins_per_minute = 0\nrefreshes_per_minute = 30\n")
        .variable("FRESHGATE_LIMITS_LOGOUTS_PER_MINUTE", "7");
    let number = std::num::NonZeroU32::new;
    let rates = freshgate_web::RateLimits { logins: None, refreshes: number(30), logouts: number(7) };
    assert_eq!(case.config(&[]).limits, Limits { rates, ..Limits::default() });
}

#[test]
fn how_many_connections_one_client_may_have() {
    let default = Limits::default();
    let number = std::num::NonZeroUsize::new;
    for (written, connections_per_client) in [("7", number(7)), ("0", None)] {
        let case = Case::with_secrets(GOOD).variable("FRESHGATE_LIMITS_CONNECTIONS_PER_CLIENT", written);
        assert_eq!(case.config(&[]).limits, Limits { connections_per_client, ..default });
    }
    let of_client = default.connections_per_client.expect("a limit");
    assert!(of_client.get() < default.connections, "one client alone holds not all of them");
}

#[test]
fn the_listener_speaks_tls_as_it_or_streamlit_is_told() {
    let case =
        || Case::with_auth("http://", "https://").file("cert.pem", FIRST.0).file("certs/key.pem", FIRST.1);
    let is_https = |case: &Case, arguments: &[&str]| {
        let config = case.config(arguments);
        assert!(config.public.is_https());
        (config.tls.is_some(), case.app(arguments).arguments)
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(is_https(&case(), &[]), (false, none.clone()), "a proxy ends TLS");
    let flags = ["--tls-certificate", "cert.pem", "--tls-key", "certs/key.pem"];
    assert_eq!(is_https(&case(), &flags), (true, none.clone()));
    let in_file =
        case().file("freshgate.toml", "[tls]\ncertificate = \"cert.pem\"\nkey = \"certs/key.pem\"\n");
    assert_eq!(is_https(&in_file, &[]), (true, none));

    let plain = vec!["--server.sslCertFile=".to_owned(), "--server.sslKeyFile=".to_owned()];
    let of_streamlit = case().file(
        ".streamlit/config.toml",
        "[server]\nsslCertFile = \"cert.pem\"\nsslKeyFile = \"certs/key.pem\"\n",
    );
    assert_eq!(is_https(&of_streamlit, &[]), (true, plain.clone()), "Streamlit itself speaks plain http");
    let arguments = ["--", "--server.sslCertFile=cert.pem", "--server.sslKeyFile", "certs/key.pem"];
    assert_eq!(is_https(&case(), &arguments), (true, plain));

    let (dev, _) =
        case().dev(&["app.py", "--tls-certificate", "cert.pem", "--tls-key", "certs/key.pem"]).unwrap();
    let gate = dev.gate("http://127.0.0.1:8510", &freshgate::clock::SystemEntropy).unwrap();
    assert_eq!(gate.public.redirect_uri().as_str(), "https://localhost:8501/oauth2callback");
}

#[test]
fn proxies_that_ask() {
    let asked = |toml: &str| Case::with_freshgate_toml(toml).config(&[]).access.forward_auth;
    let with = |told_by, tokens| Some(ForwardAuth { told_by, tokens });
    let trusted = "trusted_proxies = [\"127.0.0.1\"]\n[forward_auth]\n";
    assert_eq!(asked(""), None);
    assert_eq!(asked(&format!("{trusted}proxy = \"nginx\"\n")), with(ToldBy::Original, false));
    assert_eq!(asked(&format!("{trusted}proxy = \"caddy\"\n")), with(ToldBy::Forwarded, false));
    assert_eq!(
        asked(&format!("{trusted}proxy = \"traefik\"\ntokens = true\n")),
        with(ToldBy::Forwarded, true)
    );
}

#[test]
fn proxies_in_front() {
    let proxies = |networks: &[&str], header| {
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()), header)
    };
    let in_file = |toml: &str| Case::with_freshgate_toml(toml).config(&[]).proxies;
    assert_eq!(Case::with_secrets(GOOD).config(&[]).proxies, TrustedProxies::default());
    assert_eq!(
        in_file("trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.1\", \"::1\"]\n"),
        proxies(&["10.0.0.0/8", "192.0.2.1/32", "::1/128"], ForwardedHeader::XForwarded)
    );
    let case = Case::with_secrets(GOOD)
        .variable("FRESHGATE_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32")
        .variable("FRESHGATE_FORWARDED_HEADER", "forwarded");
    assert_eq!(
        case.config(&[]).proxies,
        proxies(&["10.0.0.0/8", "2001:db8::/32"], ForwardedHeader::Forwarded)
    );
}

#[test]
fn the_host_that_browsers_use() {
    for (from, to, expected) in [
        ("8501", "8501", "localhost:8501"),
        ("http://localhost:8501", "https://app.example.com", "app.example.com"),
        ("http://localhost:8501", "https://app.example.com:8443", "app.example.com:8443"),
        ("localhost:8501", "[::1]:8501", "[::1]:8501"),
    ] {
        assert_eq!(Case::with_auth(from, to).config(&[]).public.host().unwrap(), expected);
    }
}

#[test]
fn nothing_secret_is_in_its_debug() {
    assert!(!format!("{:?}", Case::with_secrets(GOOD).config(&[])).contains("hunter2"));
}

#[test]
fn flags_come_before_variables_before_freshgate_toml() {
    let file = "listen = \"127.0.0.1:3\"\nstore = \"sqlite:file.db\"\npublic_url = \"http://localhost:8501\"\n[log]\nfilter = \"error\"\nformat = \"json\"\n";
    let case = Case::with_freshgate_toml(file)
        .variable("FRESHGATE_LISTEN", "127.0.0.1:2")
        .variable("FRESHGATE_LOG", "warn");
    let config = case.config(&["--listen", "127.0.0.1:1"]);
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.log, LogConfig { filter: "warn".into(), format: LogFormat::Json });
    assert_eq!(config.store, StoreLocation::Sqlite(case.path("file.db")));
    assert_eq!(case.config(&[]).listen.port(), 2);
    assert_eq!(
        case.config(&["--listen", "127.0.0.1:1"]).public.redirect_uri().port(),
        Some(8501),
        "as public_url says"
    );
}

#[test]
fn where_the_keys_are() {
    let beside_the_store = |arguments: &[&str]| Case::with_secrets(GOOD).config(arguments).keys;
    assert!(beside_the_store(&[]).file.ends_with("work/.freshgate/keys.toml"));
    assert!(beside_the_store(&["--store", "sqlite:data/x.db"]).file.ends_with("work/data/keys.toml"));
    assert!(beside_the_store(&["--store", "memory:"]).file.ends_with("work/.freshgate/keys.toml"));
    assert!(beside_the_store(&[]).former_cookie_secrets.is_empty());

    let file = "[keys]\nfile = \"other.toml\"\nformer_cookie_secrets = [\"hunter2-one\", \"hunter2-two\"]\n";
    let case = Case::with_freshgate_toml(file).file("former", "hunter2-three\n\nhunter2-four\n");
    let keys = case.config(&[]).keys;
    assert_eq!(keys.file, case.path("other.toml"));
    let case = case.variable("FRESHGATE_FORMER_COOKIE_SECRETS_FILE", "former");
    let case = case.variable("FRESHGATE_KEYS_FILE", "third.toml");
    let config = case.config(&[]);
    assert_eq!(config.keys.file, case.path("third.toml"));
    let former: Vec<_> = config.keys.former_cookie_secrets.iter().map(|secret| secret.expose()).collect();
    assert_eq!(former, ["hunter2-one", "hunter2-two", "hunter2-three", "hunter2-four"]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn how_sessions_are_kept_fresh() {
    let file = "[session]\nrefresh_ahead = false\nactive_for = \"1h\"\nmin_validity = \"1m\"\n";
    let case = Case::with_freshgate_toml(file);
    let session = case.config(&[]).session;
    assert!(!session.refresh_ahead);
    assert_eq!(session.active_for, Duration::from_secs(3600));
    assert_eq!(session.min_validity, Duration::from_secs(60));
    let case =
        case.variable("FRESHGATE_SESSION_REFRESH_AHEAD", "on").variable("FRESHGATE_SESSION_ACTIVE_FOR", "0s");
    let session = case.config(&[]).session;
    assert!(session.refresh_ahead);
    assert_eq!(session.active_for, Duration::ZERO, "only those with an open socket are active");
}

#[test]
fn how_long_sessions_live() {
    let case = Case::with_freshgate_toml("");
    assert_eq!(case.config(&[]).session.idle_timeout, None);
    let case = Case::with_freshgate_toml("[session]\nabsolute_lifetime = \"12h\"\nidle_timeout = \"30m\"\n");
    let session = case.config(&[]).session;
    assert_eq!(session.absolute_lifetime, Duration::from_secs(12 * 3600));
    assert_eq!(session.idle_timeout, Some(Duration::from_secs(1800)));
    let case = case.variable("FRESHGATE_SESSION_IDLE_TIMEOUT", "10s");
    assert_eq!(case.config(&[]).session.idle_timeout, Some(Duration::from_secs(10)));
}

#[test]
fn paths_start_where_they_are_written() {
    let case = Case::with_secrets(GOOD)
        .file("etc/gate.toml", "store = \"sqlite:x.db\"\npython = \"venv/bin/python\"\n");
    let config = case.config(&["--config", "etc/gate.toml"]);
    assert_eq!(config.store, StoreLocation::Sqlite(case.path("etc/x.db")));
    assert_eq!(case.app(&["--config", "etc/gate.toml"]).python, Some(case.path("etc/venv/bin/python")));
    let config = case.config(&["--config", "etc/gate.toml", "--store", "sqlite:y.db"]);
    assert_eq!(config.store, StoreLocation::Sqlite(case.path("y.db")));
}

#[test]
fn the_port_of_redirect_uri_follows_the_listener() {
    let case = Case::with_auth("8501", "{port}");
    let mut config = case.config(&["--listen", "127.0.0.1:9000"]);
    assert_eq!(config.public.redirect_uri().as_str(), "http://localhost:9000/oauth2callback");
    config.bound_to("127.0.0.1:1234".parse().unwrap());
    assert_eq!(config.public.redirect_uri().as_str(), "http://localhost:1234/oauth2callback");
    let mut config = Case::with_secrets(GOOD).config(&[]);
    config.bound_to("127.0.0.1:1234".parse().unwrap());
    assert_eq!(config.public.redirect_uri().port(), Some(8501), "without {{port}} it stays");
}

#[test]
fn https_has_a_proxy_in_front_and_any_port() {
    let case = Case::with_auth("http://localhost:8501", "https://app.example.com");
    let (RunConfig { gate: config, .. }, report) = case.run(&["--listen", "127.0.0.1:9000"]).unwrap();
    assert!(report.is_empty() && config.public.is_https());
    assert_eq!(config.public.origin().as_str(), "https://app.example.com/");
}

#[test]
fn loopback_addresses_may_be_plain_http() {
    for host in ["localhost", "127.0.0.1", "[::1]", "app.localhost"] {
        Case::with_auth("localhost", host).config(&[]);
    }
}

#[test]
fn the_base_path_comes_from_streamlit() {
    let auth = GOOD.replace("8501/oauth2callback", "8501/reports/v2/oauth2callback");
    let in_file = |path| Case::with_secrets(&auth).file(path, "[server]\nbaseUrlPath = \"/reports/v2/\"\n");
    for (case, arguments) in [
        (Case::with_secrets(&auth), &["--", "--server.baseUrlPath", "reports/v2"][..]),
        (Case::with_secrets(&auth), &["--", "--server.baseUrlPath=/reports/v2/"]),
        (Case::with_secrets(&auth).variable("STREAMLIT_SERVER_BASE_URL_PATH", "reports/v2"), &[]),
        (in_file(".streamlit/config.toml"), &[]),
        (in_file("../home/.streamlit/config.toml"), &[]),
        // The flag wins over the variable, the variable over the file.
        (
            Case::with_secrets(&auth).variable("STREAMLIT_SERVER_BASE_URL_PATH", "other"),
            &["--", "--server.baseUrlPath", "reports/v2"],
        ),
        (
            Case::with_secrets(&auth)
                .file(".streamlit/config.toml", "[server]\nbaseUrlPath = \"other\"\n")
                .variable("STREAMLIT_SERVER_BASE_URL_PATH", "reports/v2"),
            &[],
        ),
        // `env:NAME` in the file stands for a variable.
        (
            Case::with_secrets(&auth)
                .file(".streamlit/config.toml", "[server]\nbaseUrlPath = \"env:BASE\"\n")
                .variable("BASE", "reports/v2"),
            &[],
        ),
    ] {
        let config = case.config(arguments);
        assert_eq!(config.public.base_path(), "/reports/v2");
        assert_eq!(config.public.start().as_str(), "http://localhost:8501/reports/v2/");
    }
}

#[test]
fn the_gate_takes_streamlits_place() {
    let case = Case::with_auth("8501", "9000");
    let arguments = ["--", "--server.port", "9000", "--server.address=0.0.0.0", "--server.headless", "true"];
    assert_eq!(case.config(&arguments).listen.to_string(), "0.0.0.0:9000");
    assert_eq!(case.app(&arguments).arguments, ["--server.headless", "true"]);
    let case = Case::with_auth("8501", "9000").file(".streamlit/config.toml", "[server]\nport = 9000\n");
    assert_eq!(case.config(&[]).listen.to_string(), "127.0.0.1:9000");
}

#[test]
fn the_last_secrets_file_with_auth_wins_as_a_whole() {
    let other = GOOD.replace("reports", "at-home").replace("[auth]", "[auth]\nexpose_tokens = \"id\"");
    let config = Case::with_secrets(GOOD).file("../home/.streamlit/secrets.toml", &other).config(&[]);
    assert_eq!(config.providers[0].provider.client_id, "reports");
    assert!(!config.exposed_tokens.id, "nothing of the other file's [auth] is left");
    let config = Case::with_secrets("x = 1\n").file("../home/.streamlit/secrets.toml", &other).config(&[]);
    assert_eq!(config.providers[0].provider.client_id, "at-home");
}

#[test]
fn secrets_beside_the_script() {
    let case = Case::new().file("apps/app.py", "").file("apps/.streamlit/secrets.toml", GOOD);
    let run = crate::cli::Run {
        app: "apps".into(),
        common: crate::cli::Common::default(),
        app_options: crate::cli::AppOptions::default(),
    };
    assert!(load_run(&run, &case.environment()).is_err(), "apps has no streamlit_app.py");
    let run = crate::cli::Run { app: "apps/app.py".into(), ..run };
    assert!(load_run(&run, &case.environment()).is_ok());
}

#[test]
fn secrets_elsewhere() {
    let case = Case::new().file("etc/secrets.toml", GOOD);
    let app = case.app(&["--secrets", "etc/secrets.toml"]);
    assert_eq!(app.secrets_files, [case.path("etc/secrets.toml")], "Streamlit must be told");
    let app = case.app(&["--secrets", "etc/secrets.toml", "--", "--secrets.files=other.toml", "--x"]);
    assert_eq!(app.arguments, ["--x"], "and nothing else");
    let app = case.app(&["--", "--secrets.files", "etc/secrets.toml"]);
    assert_eq!(app.arguments, ["--secrets.files", "etc/secrets.toml"]);
    assert!(app.secrets_files.is_empty(), "Streamlit is told already");
    let case =
        case.file(".streamlit/config.toml", "[secrets]\nfiles = [\"missing.toml\", \"etc/secrets.toml\"]\n");
    assert!(case.app(&[]).secrets_files.is_empty(), "Streamlit knows");
}

#[test]
fn secrets_in_a_folder() {
    let case = Case::new()
        .file("mnt/auth/redirect_uri", "http://localhost:8501/oauth2callback\n")
        .file("mnt/auth/cookie_secret", "hunter2-0123456789-0123456789-0123456789\n")
        .file("mnt/auth/client_id", "reports\n")
        .file("mnt/auth/client_secret", "hunter2-of-the-client\n")
        .file("mnt/auth/server_metadata_url", "https://id.example.com/.well-known/openid-configuration\n");
    let config = case.config(&["--secrets", "mnt"]);
    assert_eq!(client_secret(&config.providers[0].provider).expose(), "hunter2-of-the-client");
}

#[test]
fn everything_from_the_environment() {
    let case = Case::new()
        .file("secret.txt", "hunter2-of-the-client\n")
        .variable("FRESHGATE_REDIRECT_URI", "https://app.example.com/oauth2callback")
        .variable("FRESHGATE_COOKIE_SECRET", "hunter2-0123456789-0123456789-0123456789")
        .variable("FRESHGATE_CLIENT_ID", "reports")
        .variable("FRESHGATE_CLIENT_SECRET_FILE", "secret.txt")
        .variable("FRESHGATE_SERVER_METADATA_URL", "https://id.example.com/.well-known/openid-configuration")
        .variable("FRESHGATE_SCOPE", "openid groups")
        .variable("FRESHGATE_EXPOSE_TOKENS", "id, access");
    let (RunConfig { gate: config, .. }, report) = case.run(&[]).unwrap();
    assert!(report.is_empty(), "{report:?}");
    let provider = &config.providers[0].provider;
    assert_eq!(client_secret(provider).expose(), "hunter2-of-the-client");
    assert_eq!(provider.scope, "openid groups");
    assert_eq!(config.exposed_tokens, ExposedTokens { id: true, access: true });
}

#[test]
fn exposed_tokens() {
    for (value, id, access) in [
        ("\"id\"", true, false),
        ("[\"access\"]", false, true),
        ("[\"id\", \"access\"]", true, true),
        ("[]", false, false),
    ] {
        let config = Case::with_secrets(&format!("{GOOD}expose_tokens = {value}\n")).config(&[]);
        assert_eq!(config.exposed_tokens, ExposedTokens { id, access }, "{value}");
    }
}

#[test]
fn named_providers() {
    let named = format!(
        "{GOOD}\n[auth.keycloak]\nclient_id = \"k\"\nclient_secret = \"hunter2\"\nserver_metadata_url = \"https://k.example.com/realm/.well-known/openid-configuration\"\n\
         client_kwargs = {{ scope = [\"openid\", \"groups\"], prompt = \"login\", token_endpoint_auth_method = \"client_secret_post\", audience = \"api\", max_age = 600, verify = \"ca.pem\", timeout = 3 }}\n\
         authorize_params = {{ kc_idp_hint = \"github\" }}\n"
    );
    let case = Case::with_secrets(&named)
        .file("ca.pem", "-----BEGIN CERTIFICATE-----\n")
        .file("freshgate.toml", "[provider.keycloak]\nissuer = \"https://k.example.com/realm\"\noffline_access = \"never\"\nuserinfo = false\npar = \"always\"\ndpop = \"auto\"\nclock_leeway = \"1m\"\nlost_answer = \"retry\"\ngrace = \"20s\"\nrefreshes_in_flight = 8\n");
    let (RunConfig { gate: config, .. }, report) = case.run(&[]).unwrap();
    assert!(report.is_empty(), "{report:?}");
    let [default, keycloak] = config.providers.as_slice() else { panic!("two providers") };
    assert_eq!(default.provider.name, "default");
    assert_eq!(keycloak.transport.timeout, Duration::from_secs(3));
    assert_eq!(keycloak.transport.extra_roots.len(), 1);
    let keycloak = &keycloak.provider;
    assert_eq!(keycloak.name, "keycloak");
    assert_eq!(keycloak.scope, "openid groups");
    assert_eq!(keycloak.client_auth_method, Some(ClientAuthMethod::ClientSecretPost));
    assert_eq!(keycloak.issuer.to_string(), "https://k.example.com/realm");
    assert_eq!(keycloak.offline_access, OfflineAccess::Never);
    assert_eq!(keycloak.pushed_requests, PushedRequests::Always);
    assert_eq!(default.provider.pushed_requests, PushedRequests::IfRequired);
    assert_eq!((keycloak.dpop, default.provider.dpop), (DpopUse::IfListed, DpopUse::Never));
    assert_eq!(keycloak.clock_leeway, Duration::from_secs(60));
    assert_eq!(keycloak.refreshing.lost_answer, Some(LostAnswer::RetryWithin(Duration::from_secs(20))));
    assert_eq!(keycloak.refreshing.requests_in_flight.get(), 8);
    assert_eq!(default.provider.refreshing, Refreshing::default());
    assert!(!keycloak.userinfo);
    let parameters: Vec<(&str, &str)> = keycloak.authorize_parameters.others().collect();
    assert_eq!(
        parameters,
        [("prompt", "login"), ("audience", "api"), ("max_age", "600"), ("kc_idp_hint", "github")]
    );
}

#[test]
fn what_becomes_of_a_lost_answer() {
    let table = [
        ("", None),
        ("lost_answer = \"auto\"", None),
        ("lost_answer = \"retry\"", Some(LostAnswer::RetryOnce)),
        ("lost_answer = \"retry_always\"", Some(LostAnswer::RetryAlways)),
        ("lost_answer = \"sign_in_again\"", Some(LostAnswer::SignInAgain)),
        ("grace = \"2m\"", Some(LostAnswer::RetryWithin(Duration::from_secs(120)))),
        ("grace = \"2m\"\nlost_answer = \"auto\"", Some(LostAnswer::RetryWithin(Duration::from_secs(120)))),
    ];
    for (written, expected) in table {
        let config = Case::with_freshgate_toml(&format!("[provider.default]\n{written}\n")).config(&[]);
        assert_eq!(config.providers[0].provider.refreshing.lost_answer, expected, "{written}");
    }
}

#[test]
fn trusted_audiences() {
    let written = "[provider.default]\ntrusted_audiences = [\"project\", \"other app\"]\n";
    let config = Case::with_freshgate_toml(written).config(&[]);
    assert_eq!(config.providers[0].provider.trusted_audiences, ["project", "other app"]);
    assert!(Case::with_secrets(GOOD).config(&[]).providers[0].provider.trusted_audiences.is_empty());
}

#[test]
fn only_named_providers() {
    let auth = GOOD.replace("client_id", "[auth.idp]\nclient_id");
    let config = Case::with_secrets(&auth).config(&[]);
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.providers[0].provider.name, "idp");
    // A section called `default` is the default provider, before what [auth] itself says.
    let auth = format!(
        "{GOOD}\n[auth.default]\nclient_id = \"other\"\nclient_secret = \"hunter2\"\nserver_metadata_url = \"https://o.example.com/.well-known/openid-configuration\"\n"
    );
    let config = Case::with_secrets(&auth).config(&[]);
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.providers[0].provider.client_id, "other");
}

#[test]
fn a_public_client_needs_no_secret() {
    let auth = GOOD.replace(
        "client_secret = \"hunter2-of-the-client\"",
        "client_kwargs = { token_endpoint_auth_method = \"none\", prompt = \"\" }",
    );
    let config = Case::with_secrets(&auth).config(&[]);
    assert!(matches!(config.providers[0].provider.credential, ClientCredential::Public));
    let parameters = &config.providers[0].provider.authorize_parameters;
    assert_eq!(parameters.others().count(), 0, "an empty prompt is not sent");
}

#[test]
fn unknown_keys_of_auth_are_tolerated() {
    let (_, report) =
        Case::with_secrets(&format!("{GOOD}colour = \"red\"\nserver_metadata = \"x\"\n")).run(&[]).unwrap();
    assert!(report.is_empty(), "{report:?}");
}

#[test]
fn the_store_folder_is_made() {
    let case = Case::with_secrets(GOOD);
    case.config(&[]).prepare_store_folder().unwrap();
    assert_eq!(std::fs::read_to_string(case.path(".freshgate/.gitignore")).unwrap(), "*\n");
    let case = Case::with_secrets(GOOD);
    case.config(&["--store", "memory:"]).prepare_store_folder().unwrap();
    assert!(!case.path(".freshgate").exists());
}

/// A private key, as `openssl genpkey` writes it.
const CLIENT_KEY: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../freshgate-oidc/src/client_auth/key/testdata/p256-pkcs8.pem"
));

#[test]
fn a_key_takes_the_place_of_the_secret() {
    let without_secret = GOOD.replace("client_secret = \"hunter2-of-the-client\"\n", "");
    let of_key = "[provider.default]\nclient_key_file = \"etc/key.pem\"\n";
    let all = format!(
        "{of_key}client_key_algorithm = \"ES256\"\nclient_key_id = \"k1\"\nassertion_audience = \"issuer\"\n"
    );
    let method = "client_kwargs = { token_endpoint_auth_method = \"private_key_jwt\" }\n";
    for (auth, file, variable, audience, notes) in [
        (without_secret.clone(), of_key, None, None, 0),
        (without_secret.clone(), &all, None, Some(AssertionAudience::Issuer), 0),
        (format!("{without_secret}{method}"), of_key, None, None, 0),
        (without_secret.clone(), "", Some("etc/key.pem"), None, 0),
        // The variable wins, and a secret that is there is passed over.
        (
            GOOD.to_owned(),
            "[provider.default]\nclient_key_file = \"nowhere.pem\"\n",
            Some("etc/key.pem"),
            None,
            1,
        ),
    ] {
        let mut case = Case::with_secrets(&auth).file("freshgate.toml", file).file("etc/key.pem", CLIENT_KEY);
        if let Some(path) = variable {
            case = case.variable("FRESHGATE_CLIENT_KEY_FILE", path);
        }
        let (RunConfig { gate: config, .. }, report) =
            case.run(&[]).unwrap_or_else(|report| panic!("{report:?}"));
        let provider = &config.providers[0].provider;
        assert!(matches!(provider.credential, ClientCredential::Key(_)), "{file}");
        assert_eq!(provider.assertion_audience, audience, "{file}");
        assert_eq!(report.render(Look::Plain).matches("is used instead of").count(), notes, "{report:?}");
    }
}

#[test]
fn resources_and_lists_of_words() {
    for (written, resources, acr_values) in [
        ("resource = \"https://api.example.com/v1\"", &["https://api.example.com/v1"][..], None),
        ("resource = [\"https://a.example.com\", \"urn:b\"]", &["https://a.example.com", "urn:b"], None),
        ("acr_values = [\"urn:mfa\", \"urn:hwk\"]", &[], Some("urn:mfa urn:hwk")),
    ] {
        let auth = format!("{GOOD}client_kwargs = {{ {written} }}\n");
        let config = Case::with_secrets(&auth).config(&[]);
        let parameters = &config.providers[0].provider.authorize_parameters;
        let found: Vec<&str> = parameters.resources().iter().map(|resource| resource.as_str()).collect();
        assert_eq!(found, resources, "{written}");
        let found = parameters.others().find(|(name, _)| *name == "acr_values").map(|(_, value)| value);
        assert_eq!(found, acr_values, "{written}");
    }
}
