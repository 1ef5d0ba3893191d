//! Who may enter: `[access]`, and `[[access.rule]]` for single paths.

use freshgate_web::{AccessRule, Condition, ForwardAuth, ToldBy};

use super::{
    hosts,
    item::{Item, Table, Value},
    report::{Problem, Report},
    setting::{
        ACCESS_CLAIMS, ACCESS_EMAIL_DOMAINS, ACCESS_EMAILS, ACCESS_GROUPS, ACCESS_RULE, FORWARD_AUTH_PROXY,
        FORWARD_AUTH_TOKENS, Given, REQUIRE_LOGIN, Setting, Sources, TRUSTED_PROXIES, UNVERIFIED_EMAIL,
    },
    suggest,
};

/// Who may enter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Whether only signed-in users reach the app.
    pub require_login: bool,
    /// Which of them reach which paths.
    pub rules: Vec<AccessRule>,
    /// The same for a path at one host alone, whose name goes with it.
    pub rules_of_hosts: Vec<(String, AccessRule)>,
    /// Which paths everybody reaches all the same.
    pub open_paths: Vec<String>,
    /// Whether an e-mail address counts that the provider does not call verified.
    pub unverified_email: bool,
    /// How proxies ask whether a request may pass, if they do.
    pub forward_auth: Option<ForwardAuth>,
}

impl Access {
    /// Whether only signed-in users get to the app's start.
    pub fn start_needs_login(&self) -> bool {
        self.require_login || self.rules.iter().any(|rule| rule.path == "/")
    }
}

/// The claim that `groups` is about.
const GROUPS: &str = "groups";

/// What a rule may say besides its path.
const CONDITIONS: [&str; 4] = ["emails", "email_domains", "groups", "claims"];

/// Who may enter, and where it says so of single hosts.
#[derive(Clone)]
pub(super) struct AccessRead {
    pub(super) access: Access,
    pub(super) hosts: Vec<(String, Given)>,
}

pub(super) fn read(sources: &Sources<'_>, report: &mut Report) -> AccessRead {
    let mut find = |setting: Setting| sources.find(setting, report);
    let given = Conditions {
        emails: find(ACCESS_EMAILS),
        email_domains: find(ACCESS_EMAIL_DOMAINS),
        groups: find(ACCESS_GROUPS),
        claims: find(ACCESS_CLAIMS),
    };
    let (login, unverified, rules) = (find(REQUIRE_LOGIN), find(UNVERIFIED_EMAIL), find(ACCESS_RULE));
    let asks_for_something = given.first().cloned();
    let mut access = Access {
        require_login: asks_for_something.is_some(),
        rules: Vec::new(),
        rules_of_hosts: Vec::new(),
        open_paths: Vec::new(),
        unverified_email: unverified.and_then(|given| given.yes_or_no(report)).unwrap_or(false),
        forward_auth: forward_auth(sources, report),
    };
    if let Some(login) = login
        && let Some(required) = login.yes_or_no(report)
    {
        if let (false, Some(condition)) = (required, &asks_for_something) {
            report.add(
                Problem::error(format!("`{}` and `{}` contradict each other", login.name, condition.name))
                    .at(&login.item.place, "lets everybody in")
                    .beside(&condition.item.place, "lets some in, and they must be signed in for that")
                    .help("remove one of them"),
            );
        }
        access.require_login = required;
    }
    if asks_for_something.is_some() {
        access.rules.push(AccessRule { path: "/".to_owned(), conditions: given.read(report) });
    }
    let mut hosts = Vec::new();
    for (host, rule) in rules.map(|rules| read_rules(&rules, report)).unwrap_or_default() {
        match host {
            Some((name, given)) => {
                hosts.push((name.clone(), given));
                access.rules_of_hosts.push((name, rule));
            }
            None => access.rules.push(rule),
        }
    }
    AccessRead { access, hosts }
}

fn forward_auth(sources: &Sources<'_>, report: &mut Report) -> Option<ForwardAuth> {
    let (proxy, tokens) =
        (sources.find(FORWARD_AUTH_PROXY, report), sources.find(FORWARD_AUTH_TOKENS, report));
    let Some(proxy) = proxy else {
        if let Some(tokens) = tokens {
            report.add(
                Problem::warning(format!("`{}` has no effect", tokens.name))
                    .at(&tokens.item.place, "no proxy asks")
                    .help("say which one does with `proxy` in [forward_auth]"),
            );
        }
        return None;
    };
    let kinds = [("nginx", ToldBy::Original), ("caddy", ToldBy::Forwarded), ("traefik", ToldBy::Forwarded)];
    let told_by = proxy.one_of(&kinds, report)?;
    if sources.find(TRUSTED_PROXIES, report).is_none() {
        report.add(
            Problem::error(format!("`{}` has no effect", proxy.name))
                .at(&proxy.item.place, "no proxy is believed")
                .help("name the proxy that asks in `trusted_proxies`, such as [\"127.0.0.1\"]"),
        );
    }
    let tokens = tokens.and_then(|given| given.yes_or_no(report)).unwrap_or(false);
    Some(ForwardAuth { told_by, tokens })
}

/// The conditions of one rule, as they were given.
struct Conditions {
    emails: Option<Given>,
    email_domains: Option<Given>,
    groups: Option<Given>,
    claims: Option<Given>,
}

impl Conditions {
    fn first(&self) -> Option<&Given> {
        [&self.emails, &self.email_domains, &self.groups, &self.claims].into_iter().flatten().next()
    }

    fn read(self, report: &mut Report) -> Vec<Condition> {
        let mut conditions = Vec::new();
        if self.emails.is_some() || self.email_domains.is_some() {
            // Each by itself first, so that what is wrong shows where it is.
            let addresses = one_by_one(self.emails.as_ref(), report, |address| Condition::Email {
                addresses: vec![address],
                domains: Vec::new(),
            });
            let domains = one_by_one(self.email_domains.as_ref(), report, |domain| Condition::Email {
                addresses: Vec::new(),
                domains: vec![domain],
            });
            conditions.push(Condition::Email { addresses, domains });
        }
        if let Some(groups) = self.groups {
            let one_of = texts(&groups, report).into_iter().map(Into::into).collect();
            conditions.push(Condition::Claim { name: GROUPS.to_owned(), one_of });
        }
        if let Some(claims) = self.claims {
            conditions.extend(read_claims(&claims, report));
        }
        conditions
    }
}

/// Texts that each make a condition; those that make none go into the report.
fn one_by_one(
    given: Option<&Given>,
    report: &mut Report,
    condition: impl Fn(String) -> Condition,
) -> Vec<String> {
    let Some(given) = given else { return Vec::new() };
    let texts = texts(given, report);
    for text in &texts {
        let rule = AccessRule { path: "/".to_owned(), conditions: vec![condition(text.clone())] };
        if let Err(error) = rule.check() {
            given.refuse::<()>(&error.to_string(), "write `ada@example.com`, or `example.com`", report);
        }
    }
    texts
}

/// At least one text: a rule that nobody can meet is a slip of the pen.
fn texts(given: &Given, report: &mut Report) -> Vec<String> {
    match given.texts(report) {
        Some(texts) if texts.is_empty() => {
            given.refuse("lets nobody in", "name at least one, or remove it", report).unwrap_or_default()
        }
        texts => texts.unwrap_or_default(),
    }
}

fn read_claims(given: &Given, report: &mut Report) -> Vec<Condition> {
    let Some(table) = given.item.as_table() else {
        return given.expected("a table of claims", report).unwrap_or_default();
    };
    if table.entries.is_empty() {
        return given
            .refuse(
                "asks for nothing, and lets everybody in",
                "name at least one claim, or remove it",
                report,
            )
            .unwrap_or_default();
    }
    let mut conditions = Vec::new();
    for entry in &table.entries {
        let given = Given {
            name: format!("{}.{}", given.name, entry.key),
            item: entry.item.clone(),
            ..given.clone()
        };
        let values = match &given.item.value {
            Value::List(items) => items.iter().map(claim_value).collect(),
            _ => claim_value(&given.item).map(|value| vec![value]),
        };
        match values {
            Some(one_of) if one_of.is_empty() => {
                given.refuse("lets nobody in", "name at least one value, or remove it", report)
            }
            Some(one_of) => {
                conditions.push(Condition::Claim { name: entry.key.clone(), one_of });
                Some(())
            }
            None => given.expected("texts, whole numbers, true or false", report),
        };
    }
    conditions
}

fn claim_value(item: &Item) -> Option<serde_json::Value> {
    match &item.value {
        Value::Text(text) => Some(text.as_str().into()),
        Value::Integer(number) => Some((*number).into()),
        Value::Boolean(value) => Some((*value).into()),
        _ => None,
    }
}

/// Each with the host that it is about, if it is about one alone.
fn read_rules(given: &Given, report: &mut Report) -> Vec<(Option<(String, Given)>, AccessRule)> {
    let Value::List(items) = &given.item.value else {
        return given.expected("rules, each below its own [[access.rule]]", report).unwrap_or_default();
    };
    let mut rules = Vec::new();
    for item in items {
        let Some(table) = item.as_table() else {
            let one = Given { item: item.clone(), ..given.clone() };
            one.expected::<()>("a rule: a table with a `path`", report);
            continue;
        };
        let of_rule = |key: &str| {
            let name = format!("{}.{key}", given.name);
            Some(Given { name, item: table.get(key)?.clone(), ..given.clone() })
        };
        check_keys(table, report);
        let conditions = Conditions {
            emails: of_rule("emails"),
            email_domains: of_rule("email_domains"),
            groups: of_rule("groups"),
            claims: of_rule("claims"),
        }
        .read(report);
        let Some(path) = of_rule("path") else {
            report.add(
                Problem::error("an access rule has no `path`")
                    .at(&item.place, "is about no path")
                    .help("say what it is about, such as `path = \"/reports\"`"),
            );
            continue;
        };
        let Some(text) = path.text(report).map(str::to_owned) else { continue };
        let rule = AccessRule { path: text, conditions };
        if (AccessRule { conditions: Vec::new(), ..rule.clone() }).check().is_err() {
            let help = "write it as it is below the base path, such as `/reports`; it holds for all that follows after a `/`";
            path.refuse::<()>("not a path that a rule can be about", help, report);
        }
        let host = match of_rule("host") {
            Some(given) => {
                let Some(name) = hosts::name(&given, report) else { continue };
                Some((name, given))
            }
            None => None,
        };
        rules.push((host, rule));
    }
    rules
}

fn check_keys(table: &Table, report: &mut Report) {
    let known = || ["path", "host"].into_iter().chain(CONDITIONS);
    for entry in table.entries.iter().filter(|entry| !known().any(|key| key == entry.key)) {
        let keys: Vec<&str> = known().collect();
        report.add(
            Problem::error(format!("there is no setting `access.rule.{}`", entry.key))
                .at(&entry.key_place, "unknown")
                .help(suggest::choice(&entry.key, &keys)),
        );
    }
}
