//! What is counted: one figure for each answer, by code, and nothing that names a user.

use std::time::Duration;

use freshgate::{counting, engine::RefreshError, session::EndReason};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;

use crate::{
    provider::Act,
    setting::{DEADLINE, Setting},
};

#[tokio::test]
async fn each_outcome_is_counted_by_its_code() {
    let recorder = PrometheusBuilder::new().build_recorder();
    // The engine's tasks run on this thread too.
    let _counted_here = metrics::set_default_local_recorder(&recorder);
    counting::describe();
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.engine.fresh(key, None, DEADLINE).await.unwrap();
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    setting.provider.next_token_act(Act::Status(503, "", json!({})));
    assert!(matches!(setting.engine.refresh(key, DEADLINE).await, Err(RefreshError::TryLater(_))));
    setting.clock.advance(Duration::from_secs(275));
    setting.provider.next_token_act(Act::Status(503, "", json!({})));
    setting.engine.fresh(key, None, DEADLINE).await.unwrap();
    setting.engine.end(key, EndReason::Operator).await.unwrap();
    assert!(matches!(setting.engine.refresh(key, DEADLINE).await, Err(RefreshError::SignInAgain(_))));

    let text = recorder.handle().render();
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        r#"freshgate_refresh_answers_total{wanted="fresh",outcome="not_needed",reason=""} 1"#,
        r#"freshgate_refresh_answers_total{wanted="fresh",outcome="kept",reason="provider_unavailable"} 1"#,
        r#"freshgate_refresh_answers_total{wanted="refresh",outcome="refreshed",reason=""} 1"#,
        r#"freshgate_refresh_answers_total{wanted="refresh",outcome="try_later",reason="provider_unavailable"} 1"#,
        r#"freshgate_refresh_answers_total{wanted="refresh",outcome="sign_in_again",reason="operator"} 1"#,
        r#"freshgate_refreshes_total{outcome="refreshed",reason=""} 1"#,
        r#"freshgate_refreshes_total{outcome="try_later",reason="provider_unavailable"} 2"#,
        r#"freshgate_token_requests_total{provider="default",grant="authorization_code",outcome="granted"} 1"#,
        r#"freshgate_token_requests_total{provider="default",grant="refresh_token",outcome="granted"} 1"#,
        r#"freshgate_token_requests_total{provider="default",grant="refresh_token",outcome="unavailable"} 2"#,
        r#"freshgate_sessions_started_total{provider="default"} 1"#,
        r#"freshgate_sessions_ended_total{reason="operator"} 1"#,
    ] {
        assert!(lines.contains(&line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains(&key.to_string()));
}
