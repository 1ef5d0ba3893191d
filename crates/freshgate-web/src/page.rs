//! Our pages: one template, no script.

use std::sync::LazyLock;

use askama::Template;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What a page shows.
#[derive(Debug, Template)]
#[template(path = "page.html")]
pub(crate) struct Page<'a> {
    pub(crate) heading: &'a str,
    pub(crate) message: &'a str,
    pub(crate) action: Option<Action<'a>>,
    /// What to quote when asking for help.
    pub(crate) quote: Option<Quote<'a>>,
}

/// The one thing to click.
#[derive(Debug)]
pub(crate) enum Action<'a> {
    /// Leads to an address.
    Link { label: &'a str, to: &'a str },
    /// Sends a POST there.
    Button { label: &'a str, to: &'a str },
    /// Leads to an address; and, beside it, signs out by a POST.
    LinkOrSignOut { label: &'a str, to: &'a str, sign_out: &'a str },
}

/// What to quote when asking for help.
#[derive(Debug)]
pub(crate) struct Quote<'a> {
    pub(crate) code: &'a str,
    pub(crate) request_id: &'a str,
}

const STYLE: &str = include_str!("../templates/page.css");

static STYLE_HASH: LazyLock<String> =
    LazyLock::new(|| STANDARD.encode(freshgate_oidc::sha256(STYLE.as_bytes())));

impl Page<'_> {
    /// The page's HTML.
    pub(crate) fn html(&self) -> String {
        // Writing into a `String` fails only if one of the values above cannot be shown.
        self.render().expect("all values of a page are text")
    }

    /// Whether it sends a POST to us.
    pub(crate) fn has_form(&self) -> bool {
        match self.action {
            Some(Action::Button { .. } | Action::LinkOrSignOut { .. }) => true,
            Some(Action::Link { .. }) | None => false,
        }
    }

    /// The Content-Security-Policy: our style, by its hash, and nothing else.
    pub(crate) fn content_security_policy(&self) -> String {
        // A page with a form has no `form-action`: Chromium applies it to the redirect that follows a form, and signing
        // out leads to the provider.
        let form_action = if self.has_form() { "" } else { " form-action 'none';" };
        format!(
            "default-src 'none'; style-src 'sha256-{}';{form_action} base-uri 'none'; frame-ancestors 'none'",
            *STYLE_HASH
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_text() {
        let evil = "<script>alert(1)</script>\"'&";
        for action in [
            Action::Link { label: evil, to: evil },
            Action::Button { label: evil, to: evil },
            Action::LinkOrSignOut { label: evil, to: evil, sign_out: evil },
        ] {
            let quote = Some(Quote { code: evil, request_id: evil });
            let html = Page { heading: evil, message: evil, action: Some(action), quote }.html();
            assert!(!html.contains("<script"), "{html}");
            assert!(!html.contains("\"'&"), "{html}");
        }
    }

    #[test]
    fn the_policy_names_the_style_as_it_is_sent() {
        let page = Page { heading: "h", message: "m", action: None, quote: None };
        let html = page.html();
        let style = html.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let hash = STANDARD.encode(freshgate_oidc::sha256(style.as_bytes()));
        assert!(page.content_security_policy().contains(&format!("style-src 'sha256-{hash}';")));
        assert!(!html.contains("style=\"") && !html.contains("<script") && !html.contains("src="));
    }

    #[test]
    fn a_page_with_a_form_lets_the_redirect_after_it_through() {
        let with =
            |action| Page { heading: "h", message: "m", action, quote: None }.content_security_policy();
        assert!(with(None).contains("form-action 'none'"));
        assert!(!with(Some(Action::Button { label: "l", to: "/" })).contains("form-action"));
        let both = Action::LinkOrSignOut { label: "l", to: "/", sign_out: "/" };
        assert!(!with(Some(both)).contains("form-action"));
    }
}
