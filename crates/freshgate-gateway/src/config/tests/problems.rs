//! One report per problem.

use super::{super::*, Case, GOOD};
use crate::listener::tests::tls::{FIRST, SECOND};

/// A snapshot of the report of a case.
macro_rules! report {
    ($name:ident, $case:expr) => {
        report!($name, $case, &[]);
    };
    ($name:ident, $case:expr, $arguments:expr) => {
        #[test]
        fn $name() {
            let report = $case.report($arguments);
            insta::assert_snapshot!(report);
        }
    };
}

// Where secrets are.
report!(no_secrets_file, Case::new());
report!(no_auth, Case::with_secrets("[database]\npassword = \"hunter2\"\n"));
report!(auth_is_not_a_table, Case::with_secrets("auth = \"hunter2\"\n"));
report!(named_secrets_file_is_missing, Case::new(), &["--secrets", "elsewhere.toml"]);
report!(named_secrets_file_is_none, Case::new().file("secrets.json", "{}"), &["--secrets", "secrets.json"]);
report!(secrets_file_is_a_folder, Case::new().file(".streamlit/secrets.toml/x", ""));
report!(app_is_missing, Case::with_secrets(GOOD).without_app());

// What TOML cannot read.
report!(toml_syntax, Case::with_secrets(&GOOD.replace("reports\"", "reports")));
report!(
    toml_syntax_beside_a_secret,
    Case::with_secrets(&GOOD.replace("\"hunter2-of-the-client\"", "hunter2-of-the-client # hunter2"))
);
report!(toml_duplicate_key, Case::with_secrets(&format!("{GOOD}client_secret = \"hunter2-again\"\n")));
report!(toml_syntax_in_freshgate_toml, Case::with_freshgate_toml("listen = 127.0.0.1:9000\n"));
report!(
    toml_syntax_in_streamlit_config,
    Case::with_secrets(GOOD).file(".streamlit/config.toml", "[server]\ncookieSecret = hunter2\n")
);

// What is missing.
report!(redirect_uri_missing, Case::with_auth("redirect_uri", "redirect_url"));
report!(
    cookie_secret_missing,
    Case::with_auth("cookie_secret = \"hunter2-0123456789-0123456789-0123456789\"\n", "")
);
report!(client_id_missing, Case::with_auth("client_id = \"reports\"\n", ""));
report!(client_secret_missing, Case::with_auth("client_secret = \"hunter2-of-the-client\"\n", ""));
report!(server_metadata_url_missing, Case::with_auth("server_metadata_url", "metadata_url"));
report!(
    keys_of_a_named_provider_missing,
    Case::with_secrets(&format!("{GOOD}\n[auth.google]\nclient_id = \"x\"\n"))
);
report!(no_provider, Case::with_secrets(&GOOD.lines().take(3).collect::<Vec<_>>().join("\n")));
report!(key_is_empty, Case::with_auth("\"reports\"", "\"\""));
report!(environment_is_incomplete, Case::new().variable("FRESHGATE_CLIENT_ID", "reports"));

// redirect_uri.
report!(redirect_uri_is_relative, Case::with_auth("http://localhost:8501/oauth2callback", "/oauth2callback"));
report!(
    redirect_uri_is_no_web_address,
    Case::with_auth("http://localhost:8501/oauth2callback", "localhost:8501/oauth2callback")
);
report!(redirect_uri_ends_elsewhere, Case::with_auth("8501/oauth2callback", "8501/callback"));
report!(redirect_uri_has_a_query, Case::with_auth("/oauth2callback", "/oauth2callback?x=1"));
report!(redirect_uri_has_a_password, Case::with_auth("http://localhost", "http://me:hunter2@localhost"));
report!(redirect_uri_is_plain_http, Case::with_auth("http://localhost:8501", "http://app.example.com"));
report!(
    redirect_uri_lacks_the_base_path,
    Case::with_secrets(GOOD),
    &["--", "--server.baseUrlPath", "/reports/"]
);
report!(
    redirect_uri_has_a_base_path_of_its_own,
    Case::with_auth("8501/oauth2callback", "8501/reports/oauth2callback")
);
report!(redirect_uri_has_another_port, Case::with_secrets(GOOD), &["--listen", "127.0.0.1:9000"]);
report!(redirect_uri_has_another_port_than_the_default, Case::with_auth("8501", "9000"));
report!(
    redirect_uri_has_another_port_in_a_container,
    Case::with_secrets(GOOD),
    &["--listen", "0.0.0.0:9000"]
);
report!(redirect_uri_is_not_normal, Case::with_auth("http://localhost:8501", "https://App.example.com:443"));
report!(public_url_differs, Case::with_freshgate_toml("public_url = \"https://app.example.com\"\n"));

// Providers.
report!(metadata_url_is_relative, Case::with_auth("https://id.example.com", "id.example.com"));
report!(metadata_url_is_plain_http, Case::with_auth("https://id.example.com", "http://id.example.com"));
report!(metadata_url_has_a_placeholder, Case::with_auth("id.example.com", "login.example.com/{tenant}/v2.0"));
report!(
    metadata_url_is_of_no_tenant,
    Case::with_auth("id.example.com", "login.microsoftonline.com/common/v2.0")
);
report!(
    metadata_url_is_the_issuer,
    Case::with_auth("id.example.com/.well-known/openid-configuration", "id.example.com/realm/")
);
report!(
    provider_name_has_an_underscore,
    Case::with_secrets(&GOOD.replace("client_id", "[auth.my_idp]\nclient_id"))
);
report!(table_is_no_provider, Case::with_secrets(&format!("{GOOD}\n[auth.extra]\nclientid = \"hunter2\"\n")));
report!(
    keys_in_the_wrong_section,
    Case::with_secrets(&format!(
        "{}expose_tokens = \"id\"\nauthorize_url = \"https://x\"\n",
        GOOD.replace("client_id", "[auth.idp]\nclient_id")
    ))
);
// The client's key.
fn with_client_key(key: &str, more: &str) -> Case {
    let file = format!("[provider.default]\nclient_key_file = \"key.pem\"\n{more}");
    Case::with_freshgate_toml(&file).file("key.pem", key)
}
macro_rules! key {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../freshgate-oidc/src/client_auth/key/testdata/",
            $name
        ))
    };
}
report!(
    client_key_file_is_missing,
    Case::with_freshgate_toml("[provider.default]\nclient_key_file = \"key.pem\"\n")
);
report!(client_key_is_none, with_client_key("hunter2", ""));
report!(client_key_has_a_password, with_client_key(key!("encrypted.pem"), ""));
report!(client_key_is_of_another_kind, with_client_key(key!("secp256k1.pem"), ""));
report!(
    client_key_with_anothers_certificate,
    with_client_key(concat!(key!("p256-pkcs8.pem"), key!("rsa-certificate.pem")), "")
);
report!(
    client_key_signs_otherwise,
    with_client_key(
        key!("p256-pkcs8.pem"),
        "client_key_algorithm = \"RS256\"\nassertion_audience = \"me\"\n"
    )
);
report!(
    client_key_settings_without_a_key,
    Case::with_freshgate_toml(
        "[provider.default]\nclient_key_id = \"k1\"\nassertion_audience = \"issuer\"\n"
    )
);
report!(
    private_key_jwt_without_a_key,
    Case::with_auth(
        "client_secret = \"hunter2-of-the-client\"",
        "client_kwargs = { token_endpoint_auth_method = \"private_key_jwt\" }"
    )
);
report!(
    a_key_and_another_method,
    Case::with_secrets(&format!(
        "{GOOD}client_kwargs = {{ token_endpoint_auth_method = \"client_secret_post\" }}\n"
    ))
    .file("freshgate.toml", "[provider.default]\nclient_key_file = \"key.pem\"\n")
    .file("key.pem", key!("p256-pkcs8.pem"))
);

report!(client_secret_is_a_number, Case::with_auth("\"hunter2-of-the-client\"", "12345678"));
report!(cookie_secret_is_short, Case::with_auth("hunter2-0123456789-0123456789-0123456789", "hunter2"));
report!(
    client_kwargs_have_wrong_types,
    Case::with_secrets(&format!(
        "{GOOD}client_kwargs = {{ timeout = \"30\", scope = 5, token_endpoint_auth_method = \"client_secret_bsic\", max_age = [1], response_mode = \"form_post\" }}\n"
    ))
);
report!(
    authorize_params_that_cannot_be,
    Case::with_secrets(&format!(
        "{GOOD}[auth.authorize_params]\nresource = \"/api\"\nmax_age = \"soon\"\nresponse_type = \"token\"\nclaims = {{}}\n"
    ))
);
report!(client_kwargs_are_no_table, Case::with_secrets(&format!("{GOOD}client_kwargs = \"openid\"\n")));
report!(
    client_kwargs_without_effect,
    Case::with_secrets(&format!(
        "{GOOD}[auth.client_kwargs]\nscope = \"email\"\nverify = false\nproxy = \"http://me:hunter2@proxy\"\nnonce = \"hunter2\"\n"
    ))
);
report!(
    expose_tokens_names_the_refresh_token,
    Case::with_secrets(&format!("{GOOD}expose_tokens = [\"id\", \"refresh\"]\n"))
);
report!(expose_tokens_has_the_wrong_type, Case::with_secrets(&format!("{GOOD}expose_tokens = true\n")));

// The environment.
report!(variable_hides_a_key, Case::with_secrets(GOOD).variable("FRESHGATE_CLIENT_SECRET", "hunter2-other"));
report!(
    variable_and_its_file,
    Case::with_secrets(GOOD)
        .variable("FRESHGATE_COOKIE_SECRET", "hunter2-0123456789-0123456789-0123456789")
        .variable("FRESHGATE_COOKIE_SECRET_FILE", "x")
);
report!(
    file_of_a_variable_is_missing,
    Case::with_secrets(GOOD).variable("FRESHGATE_CLIENT_SECRET_FILE", "secret.txt")
);
report!(variable_is_misspelt, Case::with_secrets(GOOD).variable("FRESHGATE_LISTN", "hunter2"));
report!(variable_is_not_an_address, Case::with_secrets(GOOD).variable("FRESHGATE_LISTEN", "8501"));

// freshgate.toml and flags.
report!(config_file_is_missing, Case::with_secrets(GOOD), &["--config", "other.toml"]);
report!(
    unknown_keys,
    Case::with_freshgate_toml(
        "lisen = \"hunter2\"\nclient_secret = \"hunter2\"\nabsolute_lifetime = \"1d\"\ncolour = \"red\"\n\n[log]\nlevel = \"info\"\n\n[provider.default]\nuser_info = true\n"
    )
);
report!(table_is_a_value, Case::with_freshgate_toml("log = \"info\"\n"));
report!(provider_is_unknown, Case::with_freshgate_toml("[provider.defualt]\nuserinfo = false\n"));
report!(
    wrong_types,
    Case::with_freshgate_toml(
        "listen = 8501\n[session]\nabsolute_lifetime = 30\nmin_validity = \"30\"\nrefresh_ahead = \"true\"\nactive_for = 10\n[limits]\nsockets_per_session = \"30\"\n[provider.default]\nuserinfo = \"true\"\noffline_access = \"allways\"\ntrusted_audiences = \"project\"\n"
    )
);
report!(
    out_of_range,
    Case::with_freshgate_toml(
        "[session]\nabsolute_lifetime = \"1s\"\nidle_timeout = \"9s\"\nactive_for = \"2d\"\n[limits]\nlogins_in_flight = 0\nlogins_per_minute = -1\n"
    )
);
report!(
    access_rules,
    Case::with_freshgate_toml(
        "[access]\nrequire_login = false\nemails = [\"ada\"]\nemail_domains = [\"@example.com\"]\ngroups = []\nclaims = { age = 1.5, team = [] }\n[[access.rule]]\ngroups = [\"admins\"]\n[[access.rule]]\npath = \"/a/../b\"\nemail = [\"x@y\"]\ngroups = \"admins\"\n"
    )
);
report!(
    access_rules_that_ask_for_nothing,
    Case::with_freshgate_toml(
        "[access]\nclaims = {}\nemails = []\n[[access.rule]]\npath = \"/a\"\nclaims = {}\n[[access.rule]]\npath = \"/b\"\nemail_domains = []\n"
    )
    .variable("FRESHGATE_ACCESS_GROUPS", " , ")
);
report!(
    access_rule_is_no_list,
    Case::with_freshgate_toml("[access]\nrule = \"/reports\"\nclaims = [\"x\"]\n")
);
report!(
    trusted_proxies_are_none,
    Case::with_freshgate_toml(
        "trusted_proxies = [\"proxy.example.com\", \"0.0.0.0/0\", \"10.0.0.5/8\", \"10.0.0.0/33\", 7]\nforwarded_header = \"x-forward\"\n"
    )
);
report!(trusted_proxies_are_no_list, Case::with_freshgate_toml("trusted_proxies = \"10.0.0.5\"\n"));
report!(
    forwarded_header_without_proxies,
    Case::with_secrets(GOOD).variable("FRESHGATE_FORWARDED_HEADER", "forwarded")
);
report!(listen_is_not_an_address, Case::with_secrets(GOOD), &["--listen", "app.example.com:80"]);
report!(store_is_unknown, Case::with_secrets(GOOD), &["--store", "redis://user:hunter2@cache"]);
report!(store_is_a_path, Case::with_secrets(GOOD), &["--store", "sessions.db"]);
report!(log_filter_is_none, Case::with_secrets(GOOD), &["--log", "freshgate=loud", "--log-format", "jsn"]);
report!(
    ca_file_holds_none,
    Case::with_freshgate_toml("[provider.default]\nca_file = \"ca.pem\"\n").file("ca.pem", "hunter2")
);
report!(
    lost_answer_and_grace_disagree,
    Case::with_freshgate_toml("[provider.default]\nlost_answer = \"sign_in_again\"\ngrace = \"30s\"\n")
);
report!(
    lost_answer_is_unknown,
    Case::with_freshgate_toml(
        "[provider.default]\nlost_answer = \"retry-always\"\ngrace = \"0s\"\nrefreshes_in_flight = 0\n"
    )
);
report!(ca_file_is_missing, Case::with_freshgate_toml("[provider.default]\nca_file = \"ca.pem\"\n"));
report!(
    issuer_is_plain_http,
    Case::with_freshgate_toml("[provider.default]\nissuer = \"http://id.example.com\"\n")
);

// Streamlit's own options.
report!(
    streamlit_has_half_of_tls,
    Case::with_secrets(GOOD).file(".streamlit/config.toml", "[server]\nsslCertFile = \"cert.pem\"\n")
);

// TLS.
fn tls(certificate: &str, key: &str) -> Case {
    Case::with_freshgate_toml("[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n")
        .file("cert.pem", certificate)
        .file("key.pem", key)
}
report!(tls_key_alone, Case::with_secrets(GOOD), &["--tls-key", "key.pem"]);
report!(
    tls_file_is_missing,
    Case::with_secrets(GOOD),
    &["--tls-key", "key.pem", "--tls-certificate", "cert.pem"]
);
report!(tls_holds_no_certificate, tls("hunter2", FIRST.1));
report!(tls_holds_no_key, tls(FIRST.0, "hunter2"));
report!(tls_certificate_and_key_disagree, tls(FIRST.0, SECOND.1));
report!(tls_and_plain_http, tls(FIRST.0, FIRST.1));
report!(base_path_is_none, Case::with_secrets(GOOD).variable("STREAMLIT_SERVER_BASE_URL_PATH", "a b?"));
report!(address_is_a_socket, Case::with_secrets(GOOD), &["--", "--server.address=unix:/run/app.sock"]);

// All at once.
report!(
    several,
    Case::with_secrets(
        &GOOD
            .replace("8501/oauth2callback", "8501/callback")
            .replace("hunter2-0123456789-0123456789-0123456789", "hunter2")
            .replace("client_id = \"reports\"\n", "")
            .replace("https://id", "http://id")
    )
    .file("freshgate.toml", "stroe = \"memory:\"\n")
    .variable("FRESHGATE_LOG_FORMAT", "xml"),
    &["--listen", "9000"]
);

#[test]
fn an_unreadable_file() {
    let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let mut report = Report::default();
    report.add(toml_file::unreadable(".streamlit/secrets.toml", &error, Problem::error));
    let report = report.render(Look::Plain);
    insta::assert_snapshot!(report);
}

#[test]
fn problems_have_colours_on_a_terminal() {
    let report = Case::new().run(&[]).unwrap_err();
    let problem = StartupProblem::new("the address is taken").mend("choose another");
    for coloured in [report.render(Look::Coloured), problem.render(Look::Coloured)] {
        assert!(coloured.contains("\u{1b}["), "{coloured}");
    }
    assert!(!problem.render(Look::Plain).contains('\u{1b}'));
}

#[test]
fn what_a_file_says_cannot_drive_the_terminal() {
    let report = Case::with_secrets(GOOD).report(&["--listen", "\u{1b}[2J\u{1b}]0;x\u{7}"]);
    assert!(!report.contains(['\u{1b}', '\u{7}']), "{report:?}");
}

// Keys.
report!(
    former_cookie_secrets_have_the_wrong_type,
    Case::with_freshgate_toml("[keys]\nformer_cookie_secrets = [\"hunter2-former\", 7]\nfiel = \"x\"\n")
);
report!(
    file_of_former_cookie_secrets_is_missing,
    Case::with_secrets(GOOD).variable("FRESHGATE_FORMER_COOKIE_SECRETS_FILE", "nowhere")
);
