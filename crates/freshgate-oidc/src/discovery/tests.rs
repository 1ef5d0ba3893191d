//! Metadata as providers write it, and as they should not.

use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    json!({
        "issuer": "https://idp.example/realms/data",
        "authorization_endpoint": "https://idp.example/authorize",
        "token_endpoint": "https://idp.example/token",
        "jwks_uri": "https://idp.example/jwks",
    })
}

fn with(member: &str, value: Value) -> Value {
    let mut document = document();
    document[member] = value;
    document
}

fn of_url(url: &str) -> ExpectedIssuer {
    ExpectedIssuer::OfMetadataUrl(Url::parse(url).unwrap())
}

fn parse(document: &Value) -> Result<ProviderMetadata, MetadataError> {
    let expected = ExpectedIssuer::Exactly(Issuer::new(document["issuer"].as_str().unwrap_or_default()));
    ProviderMetadata::parse(document.to_string().as_bytes(), &expected)
}

#[test]
fn the_least_that_a_provider_can_say() {
    let metadata = parse(&document()).unwrap();
    assert_eq!(metadata.issuer.as_str(), "https://idp.example/realms/data");
    assert_eq!(metadata.token_endpoint.as_str(), "https://idp.example/token");
    assert!(metadata.userinfo_endpoint.is_none() && metadata.end_session_endpoint.is_none());
    assert!(metadata.scopes_supported.is_none() && metadata.token_endpoint_auth_methods_supported.is_none());
    assert!(
        !metadata.authorization_response_iss_parameter_supported && !metadata.backchannel_logout_supported
    );
    assert!(!metadata.lists_scope("openid"));
}

#[test]
fn everything_that_a_provider_can_say() {
    let mut document = document();
    for member in [
        "userinfo_endpoint",
        "end_session_endpoint",
        "revocation_endpoint",
        "pushed_authorization_request_endpoint",
    ] {
        document[member] = json!(format!("https://idp.example/{member}"));
    }
    for member in [
        "require_pushed_authorization_requests",
        "authorization_response_iss_parameter_supported",
        "backchannel_logout_supported",
        "backchannel_logout_session_supported",
        "frontchannel_logout_supported",
    ] {
        document[member] = json!(true);
    }
    for member in [
        "scopes_supported",
        "grant_types_supported",
        "token_endpoint_auth_methods_supported",
        "id_token_signing_alg_values_supported",
        "userinfo_signing_alg_values_supported",
        "code_challenge_methods_supported",
        "dpop_signing_alg_values_supported",
        "prompt_values_supported",
    ] {
        document[member] = json!([member, 1]);
    }
    let metadata = parse(&document).unwrap();
    let url = |url: &Option<Url>| url.as_ref().unwrap().path().trim_start_matches('/').to_owned();
    assert_eq!(url(&metadata.userinfo_endpoint), "userinfo_endpoint");
    assert_eq!(url(&metadata.end_session_endpoint), "end_session_endpoint");
    assert_eq!(url(&metadata.revocation_endpoint), "revocation_endpoint");
    assert_eq!(url(&metadata.pushed_authorization_request_endpoint), "pushed_authorization_request_endpoint");
    assert!(metadata.require_pushed_authorization_requests);
    assert!(metadata.authorization_response_iss_parameter_supported);
    assert!(metadata.backchannel_logout_supported && metadata.backchannel_logout_session_supported);
    assert!(metadata.frontchannel_logout_supported);
    let list = |list: &Option<Vec<String>>| list.as_ref().unwrap().join(" ");
    assert_eq!(list(&metadata.scopes_supported), "scopes_supported");
    assert_eq!(list(&metadata.grant_types_supported), "grant_types_supported");
    assert_eq!(
        list(&metadata.token_endpoint_auth_methods_supported),
        "token_endpoint_auth_methods_supported"
    );
    assert_eq!(
        list(&metadata.id_token_signing_alg_values_supported),
        "id_token_signing_alg_values_supported"
    );
    assert_eq!(
        list(&metadata.userinfo_signing_alg_values_supported),
        "userinfo_signing_alg_values_supported"
    );
    assert_eq!(list(&metadata.code_challenge_methods_supported), "code_challenge_methods_supported");
    assert_eq!(list(&metadata.dpop_signing_alg_values_supported), "dpop_signing_alg_values_supported");
    assert_eq!(list(&metadata.prompt_values_supported), "prompt_values_supported");
    assert!(metadata.lists_scope("scopes_supported"));
}

#[test]
fn what_is_optional_may_be_odd() {
    for (member, value) in [
        ("userinfo_endpoint", Value::Null),
        ("userinfo_endpoint", json!("")),
        ("scopes_supported", json!("openid email")),
        ("scopes_supported", Value::Null),
        ("authorization_response_iss_parameter_supported", json!("true")),
        ("backchannel_logout_supported", json!(1)),
        ("something_new", json!({"a": [1]})),
    ] {
        let metadata = parse(&with(member, value.clone())).unwrap();
        assert!(
            metadata.userinfo_endpoint.is_none() && metadata.scopes_supported.is_none(),
            "{member} {value}"
        );
        assert!(!metadata.authorization_response_iss_parameter_supported, "{member} {value}");
        assert!(!metadata.backchannel_logout_supported, "{member} {value}");
    }
}

#[test]
fn what_an_operator_is_told() {
    let is = |document: &Value, error: &str| assert_eq!(parse(document).unwrap_err().to_string(), error);
    for member in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        is(&with(member, Value::Null), &format!("the provider's metadata has no `{member}`"));
        is(&with(member, json!("")), &format!("the provider's metadata has no `{member}`"));
    }
    is(&with("issuer", Value::Null), "the provider's metadata has no `issuer`");
    for member in ["issuer", "token_endpoint", "userinfo_endpoint", "end_session_endpoint"] {
        for bad in ["not an address", "/token", "ftp://idp.example/", "javascript:alert(1)"] {
            let error = format!("`{member}` in the provider's metadata is not a web address");
            is(&with(member, json!(bad)), &error);
        }
    }
    is(
        &with("token_endpoint", json!(["x"])),
        "`token_endpoint` in the provider's metadata is not a web address",
    );
    is(
        &with("token_endpoint", json!("http://idp.example/token")),
        "`token_endpoint` in the provider's metadata is not https: http://idp.example/token",
    );
    let any = ExpectedIssuer::Exactly(Issuer::new("x"));
    for not_json in [&b""[..], b"<html>", b"[]", b"\xff", b"{} x"] {
        assert!(matches!(ProviderMetadata::parse(not_json, &any), Err(MetadataError::NotJson(_))));
    }
    let huge = vec![b' '; ProviderMetadata::MAX_BYTES + 1];
    assert!(matches!(ProviderMetadata::parse(&huge, &any), Err(MetadataError::TooLarge { .. })));
}

#[test]
fn discovery_4_3_whose_metadata_it_is() {
    let exactly = |issuer: &str| ExpectedIssuer::Exactly(Issuer::new(issuer));
    for (issuer, expected, good) in [
        ("https://a.example", exactly("https://a.example"), true),
        ("https://a.example", exactly("https://a.example/"), false),
        ("https://a.example", exactly("https://A.example"), false),
        ("https://a.example", of_url("https://a.example/.well-known/openid-configuration"), true),
        ("https://a.example/", of_url("https://a.example/.well-known/openid-configuration"), true),
        ("https://a.example/t/", of_url("https://a.example/t/.well-known/openid-configuration"), true),
        ("https://a.example/t", of_url("https://a.example/t/.well-known/openid-configuration?v=2"), true),
        ("https://a.example:443/t", of_url("https://A.example/t/.well-known/openid-configuration"), true),
        ("https://a.example/u", of_url("https://a.example/t/.well-known/openid-configuration"), false),
        ("https://a.example", of_url("https://a.example/t/.well-known/openid-configuration"), false),
        ("https://a.example/t/u", of_url("https://a.example/t/.well-known/openid-configuration"), false),
        ("https://b.example", of_url("https://a.example/.well-known/openid-configuration"), false),
        ("http://a.example", of_url("https://a.example/.well-known/openid-configuration"), false),
        ("https://a.example/?x", of_url("https://a.example/.well-known/openid-configuration"), false),
        ("https://a.example/#x", of_url("https://a.example/.well-known/openid-configuration"), false),
        ("https://a.example:444", of_url("https://a.example/.well-known/openid-configuration"), false),
        ("https://x@a.example", of_url("https://a.example/.well-known/openid-configuration"), false),
    ] {
        let found = ProviderMetadata::parse(with("issuer", json!(issuer)).to_string().as_bytes(), &expected);
        match found {
            Ok(metadata) => assert!(good && metadata.issuer.as_str() == issuer, "{issuer} {expected}"),
            Err(MetadataError::IssuerMismatch { .. }) => assert!(!good, "{issuer} {expected}"),
            Err(other) => panic!("{issuer} {expected}: {other}"),
        }
        assert_eq!(expected.may_be(&Issuer::new(issuer)), good, "{issuer} {expected}");
    }
    let error = ProviderMetadata::parse(
        document().to_string().as_bytes(),
        &of_url("https://idp.example/.well-known/openid-configuration"),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "the provider's metadata names the issuer https://idp.example/realms/data, expected was https://idp.example"
    );
    let error = ProviderMetadata::parse(
        document().to_string().as_bytes(),
        &of_url("https://idp.example/realms/data"),
    );
    assert!(matches!(error, Err(MetadataError::AddressNamesNoIssuer { .. })));
}

#[test]
fn http_is_for_this_machine() {
    for (url, good) in [
        ("http://localhost:8080/token", true),
        ("http://idp.localhost/token", true),
        ("http://127.0.0.1:1/token", true),
        ("http://127.1.2.3/token", true),
        ("http://[::1]/token", true),
        ("http://localhost.example/token", false),
        ("http://127.0.0.1.example/token", false),
        ("http://10.0.0.1/token", false),
        ("http://[::2]/token", false),
        ("https://10.0.0.1/token", true),
    ] {
        for member in ["token_endpoint", "userinfo_endpoint", "issuer"] {
            let found = parse(&with(member, json!(url)));
            assert_eq!(found.is_ok(), good, "{member} {url}");
            let insecure = matches!(found, Err(MetadataError::InsecureEndpoint { .. }));
            assert_eq!(insecure, !good, "{member} {url}");
        }
    }
}
