//! ID tokens by every algorithm there is (OpenID Connect Core, sections 3.1.3.7 and 3.1.3.8; RFC 7518; RFC 8037).

use freshgate_devidp::SigningAlgorithm;

use crate::gate::Gate;

/// Each is verified at the login and at a refresh, with `at_hash`, whose hash is that of the algorithm.
#[tokio::test(flavor = "multi_thread")]
async fn each_signs_a_user_in_and_refreshes() {
    let folder = tempfile::tempdir().unwrap();
    let named = SigningAlgorithm::ALL.map(|algorithm| match algorithm {
        SigningAlgorithm::Rs256 => ("default", algorithm),
        other => (other.name(), other),
    });
    let gate = Gate::start_with(folder.path(), &named).await;
    for (provider, algorithm) in named {
        let browser = gate.sign_in_at(provider, "ada").await;
        gate.refresh(&browser).await;
        assert_eq!(gate.user(&browser).await.as_deref(), Some("ada"), "{algorithm:?}");
    }
    gate.end().await;
}
