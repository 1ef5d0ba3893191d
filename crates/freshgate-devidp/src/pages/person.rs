//! How a user appears in a list.

use serde_json::Value;

use crate::config::DevUser;
use crate::provider::Provider;

/// One line of a list of users.
pub(super) struct Person {
    /// For the `id` of an element: the `sub` as far as it can be one.
    pub(super) id: String,
    pub(super) sub: String,
    pub(super) name: String,
    pub(super) initial: String,
    pub(super) email: Option<String>,
    /// Where its claims are edited.
    pub(super) edit: String,
    /// Whether `login_hint` means this one.
    pub(super) hinted: bool,
    /// Where it is signed in.
    pub(super) presence: String,
}

impl Person {
    pub(super) fn of(provider: &Provider, user: &DevUser) -> Person {
        let name = user.display_name();
        Person {
            id: user
                .sub
                .chars()
                .map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' })
                .collect(),
            sub: user.sub.clone(),
            name: name.to_owned(),
            initial: name.chars().next().unwrap_or('?').to_uppercase().collect(),
            email: text_claim(user, "email").map(str::to_owned),
            edit: edit_address(provider, &user.sub),
            hinted: false,
            presence: String::new(),
        }
    }
}

/// Where the claims of a user are edited.
pub(super) fn edit_address(provider: &Provider, sub: &str) -> String {
    let sub: String = url::form_urlencoded::byte_serialize(sub.as_bytes()).collect();
    format!("{}/users/edit?sub={sub}", provider.issuer.base_path())
}

/// Whether a `login_hint` means this user: Core 3.1.2.1 leaves open what it holds.
pub(super) fn is_meant(user: &DevUser, hint: &str) -> bool {
    let claims = [text_claim(user, "email"), text_claim(user, "preferred_username")];
    user.sub == hint || claims.into_iter().flatten().any(|claim| claim.eq_ignore_ascii_case(hint))
}

fn text_claim<'u>(user: &'u DevUser, name: &str) -> Option<&'u str> {
    user.claims.get(name).and_then(Value::as_str)
}
