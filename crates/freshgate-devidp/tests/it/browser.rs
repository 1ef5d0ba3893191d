//! A browser with a cookie jar that fills in our forms.

use std::collections::BTreeMap;
use std::sync::Mutex;

use url::{Url, form_urlencoded};

use crate::setting::{Answer, Setting, http};

pub(crate) struct Browser {
    issuer: String,
    http: reqwest::Client,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    pub(crate) fn new(setting: &Setting) -> Browser {
        Browser::at(setting.provider.issuer())
    }

    pub(crate) fn at(issuer: &str) -> Browser {
        Browser { issuer: issuer.to_owned(), http: http(), cookies: Mutex::default() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.issuer))).await
    }

    /// Posts a form as a page of ours does.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let origin = Url::parse(&self.issuer).unwrap().origin().ascii_serialization();
        self.post_from(&origin, path, form).await
    }

    /// Posts a form from a page of this origin.
    pub(crate) async fn post_from(&self, origin: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(format!("{}{path}", self.issuer)).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request.header("origin", origin)).await
    }

    /// Opens an authorization request and presses the button of a user.
    pub(crate) async fn sign_in(&self, authorize: &str, user: &str) -> Answer {
        let page = self.get(authorize).await;
        assert!(page.body.contains(&format!("id=\"user-{user}\"")), "{}", page.body);
        self.post("/sign-in", &[("request", &hidden_request(&page)), ("user", user)]).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let cookies: Vec<String> =
            self.cookies.lock().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = Answer::of(request.header("cookie", cookies.join("; ")).send().await.unwrap()).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            let mut cookies = self.cookies.lock().unwrap();
            match cookie.contains("Max-Age=0") {
                true => cookies.remove(name),
                false => cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }
}

/// The authorization request that a page carries along.
pub(crate) fn hidden_request(page: &Answer) -> String {
    let (_, after) =
        page.body.split_once("name=\"request\" value=\"").expect("a form with the request in it");
    after.split_once('"').unwrap().0.replace("&#38;", "&")
}
