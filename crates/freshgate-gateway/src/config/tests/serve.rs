//! `freshgate serve`: what good configurations come to, and one report per problem.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{AppScheme, Framework, Host, SessionApiAddress, Told, Upstream},
    Case, GOOD,
};

const APP: &str = "[[upstream]]\naddress = \"http://127.0.0.1:8601\"\n";

/// A good `[auth]` and this, in freshgate.toml.
fn case(text: &str) -> Case {
    Case::new().file("freshgate.toml", &format!("{GOOD}\n{text}"))
}

macro_rules! report {
    ($name:ident, $case:expr) => {
        report!($name, $case, &[]);
    };
    ($name:ident, $case:expr, $arguments:expr) => {
        #[test]
        fn $name() {
            let report = $case.report_of_serve($arguments);
            insta::assert_snapshot!(report);
        }
    };
}

#[test]
fn one_app_needs_its_address_alone() {
    let case = case(APP);
    let (config, report) = case.serve(&[]).unwrap_or_else(|report| panic!("{report:?}"));
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(config.upstreams, [Upstream::new("127.0.0.1:8601")]);
    assert_eq!(config.session_api, None, "nobody would ask");
    assert_eq!(config.gate.public.base_path(), "");
    assert_eq!(config.gate.providers[0].provider.client_id, "reports");
}

#[test]
fn several_apps_and_all_that_can_be_said_of_them() {
    let case = case(
        r#"
        [[upstream]]
        path = "/reports/"
        address = "http://reports:8601"
        app = "streamlit"
        secret_file = "etc/reports.secret"

        [[upstream]]
        path = "/wiki"
        address = "http://[::1]"
        strip_path = true
        hand_off = ["headers", "bearer", "assertion"]
        require_login = true
        public_paths = ["/health"]
        connect_timeout = "2s"
        answer_timeout = "1m"
        "#,
    );
    let (config, report) = case.serve(&[]).unwrap_or_else(|report| panic!("{report:?}"));
    assert!(report.is_empty(), "{report:?}");
    let reports = Upstream {
        path: "/reports".into(),
        framework: Framework::Streamlit,
        secret_file: Some(case.path("etc/reports.secret")),
        ..Upstream::new("reports:8601")
    };
    let wiki = Upstream {
        path: "/wiki".into(),
        strip_path: true,
        told: Told { headers: true, bearer: true, assertion: true },
        require_login: Some(true),
        public_paths: vec!["/health".into()],
        connect_timeout: Duration::from_secs(2),
        answer_timeout: Some(Duration::from_secs(60)),
        ..Upstream::new("[::1]:80")
    };
    assert_eq!(config.upstreams, [reports, wiki]);
    let usual = SessionApiAddress::Unix(PathBuf::from("/run/freshgate/session-api.sock"));
    assert_eq!(config.session_api, Some(usual));
    let [host] = &config.gate.hosts(&config.upstreams)[..] else { panic!("one") };
    assert_eq!(host.config.access.rules[0].path, "/wiki");
    assert_eq!(host.config.access.open_paths, ["/reports"]);

    let (config, _) = case.serve(&["--session-api", "127.0.0.1:8503"]).unwrap();
    assert_eq!(config.session_api.unwrap().to_string(), "http://127.0.0.1:8503");
}

#[test]
fn where_a_proxy_asks_there_need_be_no_app() {
    let asked = "[forward_auth]\nproxy = \"nginx\"";
    let case = public_case("trusted_proxies = [\"127.0.0.1\"]", asked);
    let (config, report) = case.serve(&[]).unwrap_or_else(|report| panic!("{report:?}"));
    assert!(report.is_empty() && config.upstreams.is_empty(), "{report:?}");
    assert_eq!(config.gate.hosts(&config.upstreams).len(), 1);
}

/// A good `[auth]` at a host that is not this machine, with this before and after it.
fn public_case(before: &str, after: &str) -> Case {
    let auth = GOOD.replace("http://localhost:8501", "https://apps.example.com");
    Case::new().file("freshgate.toml", &format!("{before}\n{auth}\n{after}"))
}

const TWO_HOSTS: &str = r#"
[[upstream]]
address = "http://127.0.0.1:8601"
host = "apps.example.com"

[[upstream]]
address = "http://127.0.0.1:8602"
host = "Wiki.apps.example.com"
require_login = true

[[access.rule]]
path = "/admin"
host = "wiki.apps.example.com"

[[access.rule]]
path = "/internal"
"#;

#[test]
fn apps_by_https_and_on_a_unix_socket() {
    let case = case(
        "[[upstream]]\npath = \"/a\"\naddress = \"https://reports.example.com\"\nca_file = \"ca.pem\"\n\
         [[upstream]]\npath = \"/b\"\naddress = \"https://[::1]:8443\"\n\
         [[upstream]]\npath = \"/c\"\naddress = \"unix:/run/app.sock\"\n\
         [[upstream]]\npath = \"/d\"\naddress = \"unix:app.sock\"\n",
    );
    let (config, report) = case.serve(&[]).unwrap_or_else(|report| panic!("{report:?}"));
    assert!(report.is_empty(), "{report:?}");
    let apps: Vec<_> = config.upstreams.iter().map(|app| (app.address.clone(), app.scheme.clone())).collect();
    let here = case.path("app.sock").display().to_string();
    assert_eq!(
        apps,
        [
            ("reports.example.com:443".into(), AppScheme::Https("reports.example.com".into())),
            ("[::1]:8443".into(), AppScheme::Https("[::1]".into())),
            ("/run/app.sock".into(), AppScheme::Unix),
            (here, AppScheme::Unix),
        ]
    );
    assert_eq!(config.upstreams[0].ca_file, Some(case.path("ca.pem")));
}

#[test]
fn apps_at_hosts_of_their_own() {
    let case = public_case("cookie_domain = \"apps.example.com\"", TWO_HOSTS);
    let (config, report) = case.serve(&[]).unwrap_or_else(|report| panic!("{report:?}"));
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(config.gate.cookie_domain.as_deref(), Some("apps.example.com"));
    let hosts = config.gate.hosts(&config.upstreams);
    let [main, wiki] = &hosts[..] else { panic!("{hosts:?}") };
    assert_eq!((main.name.as_deref(), wiki.name.as_deref()), (None, Some("wiki.apps.example.com")));
    assert_eq!(wiki.config.public.redirect_uri().as_str(), "https://wiki.apps.example.com/oauth2callback");
    let rules =
        |host: &Host| host.config.access.rules.iter().map(|rule| rule.path.clone()).collect::<Vec<_>>();
    assert_eq!(
        (rules(main), rules(wiki)),
        (vec!["/internal".into()], vec!["/internal".into(), "/admin".into(), "/".into()])
    );
}

#[test]
fn the_base_path_is_that_of_redirect_uri() {
    let auth = GOOD.replace("8501/oauth2callback", "8501/apps/oauth2callback");
    let case = Case::new().file("freshgate.toml", &format!("{auth}\n{APP}"));
    let (config, report) = case.serve(&[]).unwrap_or_else(|report| panic!("{report:?}"));
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(config.gate.public.base_path(), "/apps");
}

#[test]
fn auth_may_be_in_a_secrets_toml_that_is_named_and_in_no_other() {
    let case = Case::with_secrets(GOOD).file("freshgate.toml", APP).file("etc/secrets.toml", GOOD);
    let (config, report) = case.serve(&["--secrets", "etc/secrets.toml"]).unwrap();
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(config.gate.cookie_secret.expose(), "hunter2-0123456789-0123456789-0123456789");
    assert!(case.serve(&[]).is_err(), "that of .streamlit/ is an app's");
}

#[test]
fn auth_in_freshgate_toml_is_for_run_too() {
    let case = Case::new().file("freshgate.toml", GOOD);
    assert_eq!(case.config(&[]).providers[0].provider.client_id, "reports");
}

// Where the apps are.
report!(no_app, case(""));
report!(no_auth_anywhere, Case::new().file("freshgate.toml", APP));
report!(one_upstream_without_brackets, case("[upstream]\naddress = \"http://127.0.0.1:8601\"\n"));
report!(an_app_without_an_address, case("[[upstream]]\npath = \"/reports\"\n"));
report!(an_address_of_another_kind, case("[[upstream]]\naddress = \"ftp://reports.example.com\"\n"));
report!(an_address_of_a_folder, case("[[upstream]]\naddress = \"unix:/run/\"\n"));
report!(a_ca_file_for_no_certificate, case(&format!("{APP}ca_file = \"ca.pem\"\n")));
report!(an_address_with_a_path, case("[[upstream]]\naddress = \"http://127.0.0.1:8601/reports\"\n"));
report!(an_address_that_is_none, case("[[upstream]]\naddress = \"127.0.0.1:8601\"\n"));
report!(an_address_with_a_password, case("[[upstream]]\naddress = \"http://me:hunter2@127.0.0.1:8601\"\n"));
report!(a_path_that_is_none, case(&format!("{APP}path = \"reports\"\n")));
report!(a_path_of_the_gate, case(&format!("{APP}path = \"/auth\"\n")));
report!(two_apps_at_one_path, case(&format!("{APP}path = \"/reports\"\n{APP}path = \"/Reports/\"\n")));
report!(two_apps_at_the_root, case(&format!("{APP}{APP}")));

// At which hosts.
report!(hosts_that_each_have_a_login, public_case("", TWO_HOSTS));
report!(a_host_that_is_none, public_case("", &format!("{APP}host = \"https://wiki.example.com/\"\n")));
report!(a_host_with_a_port, public_case("", &format!("{APP}host = \"wiki.example.com:8443\"\n")));
report!(a_host_in_the_clear, case(&format!("{APP}host = \"wiki.example.com\"\n")));
report!(
    a_host_that_is_not_under_the_domain,
    public_case("cookie_domain = \"apps.example.com\"", &format!("{APP}host = \"wiki.example.com\"\n"))
);
report!(a_domain_that_the_login_is_not_under, public_case("cookie_domain = \"wiki.example.com\"", TWO_HOSTS));
report!(a_domain_without_a_dot, public_case("cookie_domain = \"com\"", TWO_HOSTS));
report!(a_domain_for_one_host, public_case("cookie_domain = \"example.com\"", APP));
report!(two_apps_at_one_host, public_case("", &format!("{APP}{APP}host = \"apps.example.com\"\n")));
report!(
    a_rule_for_a_host_without_apps,
    public_case("", &format!("{APP}[[access.rule]]\npath = \"/x\"\nhost = \"wiki.example.com\"\n"))
);

// What they are told.
report!(an_unknown_key, case(&format!("{APP}adress = \"x\"\n")));
report!(an_unknown_framework, case(&format!("{APP}app = \"streamlet\"\n")));
report!(streamlit_without_a_secret, case(&format!("{APP}app = \"streamlit\"\n")));
report!(an_unknown_hand_off, case(&format!("{APP}hand_off = [\"header\"]\n")));
report!(
    a_bearer_token_that_is_bound,
    case(&format!("{APP}hand_off = [\"headers\", \"bearer\"]\n[provider.default]\ndpop = \"always\"\n"))
);
report!(a_public_path_that_is_none, case(&format!("{APP}public_paths = [\"health\", \"/a b\"]\n")));
report!(a_timeout_out_of_range, case(&format!("{APP}answer_timeout = \"1ms\"\n")));

// The session API.
report!(
    a_session_api_that_nobody_asks,
    case(&format!("session_api = \"127.0.0.1:8503\"\n{APP}"))
        .file("freshgate.toml", &format!("session_api = \"127.0.0.1:8503\"\n{GOOD}\n{APP}"))
);
report!(
    a_session_api_beyond_this_machine,
    case(&format!("{APP}secret_file = \"x\"\n")),
    &["--session-api", "0.0.0.0:8503"]
);
report!(
    a_session_api_that_is_none,
    case(&format!("{APP}secret_file = \"x\"\n")),
    &["--session-api", "/run/x"]
);

// What is for another command.
#[test]
fn apps_of_serve_are_none_of_run() {
    insta::assert_snapshot!(case(APP).report(&[]));
}

#[test]
fn a_rule_for_a_host_is_none_of_run() {
    let rule = "[[access.rule]]\npath = \"/x\"\nhost = \"wiki.example.com\"\n";
    insta::assert_snapshot!(case(rule).report(&[]));
}

#[test]
fn auth_twice() {
    insta::assert_snapshot!(Case::with_secrets(GOOD).file("freshgate.toml", GOOD).report(&[]));
}
