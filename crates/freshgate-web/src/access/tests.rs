use proptest::prelude::*;
use serde_json::json;

use super::*;

fn claims(value: Value) -> Claims {
    match value {
        Value::Object(claims) => claims,
        _ => panic!("claims are an object"),
    }
}

fn origin() -> Url {
    Url::parse("https://app.example").unwrap()
}

fn group(group: &str) -> Condition {
    Condition::Claim { name: "groups".into(), one_of: vec![group.into()] }
}

fn rule(path: &str, conditions: &[Condition]) -> AccessRule {
    AccessRule { path: path.into(), conditions: conditions.to_vec() }
}

fn access_below(base_path: &str, rules: Vec<AccessRule>) -> Arc<Access> {
    Arc::new(Access::new(rules, Vec::new(), false, &origin(), base_path).unwrap())
}

#[test]
fn emails() {
    let domain = Condition::Email { addresses: vec![], domains: vec!["example.com".into()] };
    let address =
        Condition::Email { addresses: vec!["Ada@example.com".into()], domains: vec!["other.example".into()] };
    // The address, and who takes it: the domain's rule, the rule with an address and another domain.
    let table = [
        (json!("ada@example.com"), true, true),
        (json!("ADA@EXAMPLE.COM"), true, true),
        (json!("grace@example.com"), true, false),
        (json!("grace@other.example"), false, true),
        (json!("ada@sub.example.com"), false, false),
        (json!("ada@notexample.com"), false, false),
        (json!("ada@example.com.evil.example"), false, false),
        // Several @: whose it is depends on who reads it.
        (json!("evil@evil.example@example.com"), false, false),
        (json!("evil@example.com@evil.example"), false, false),
        (json!("ada@@example.com"), false, false),
        (json!("\"evil@evil.example\"@example.com"), false, false),
        (json!("@example.com"), false, false),
        (json!("example.com"), false, false),
        (json!("ada@"), false, false),
        (json!(""), false, false),
        (json!("Ada <ada@example.com>"), false, false),
        (json!("evil@evil.example,ada@example.com"), false, false),
        (json!("evil ada@example.com"), false, false),
        (json!("ada@example.com "), false, false),
        (json!("ada@example.com\n"), false, false),
        (json!("ada\u{0}@example.com"), false, false),
        (json!("ada@example.com\u{0}"), false, false),
        // Letters that look alike, and one that lowers to `k`.
        (json!("ada@ex\u{430}mple.com"), false, false),
        (json!("ada@EXAMPLE.\u{212a}OM"), false, false),
        (json!(["ada@example.com"]), false, false),
        (json!({"value": "ada@example.com"}), false, false),
        (json!(null), false, false),
    ];
    for (email, by_domain, by_address) in table {
        let claims = claims(json!({"email": email, "email_verified": true}));
        assert_eq!(domain.is_met(&claims, false), by_domain, "{email}: by domain");
        assert_eq!(address.is_met(&claims, false), by_address, "{email}: by address");
    }
    assert!(!domain.is_met(&claims(json!({"sub": "ada", "email_verified": true})), true));
}

#[test]
fn an_email_counts_once_the_provider_calls_it_verified() {
    let rule = Condition::Email {
        addresses: vec!["ada@example.com".into()],
        domains: vec!["example.com".into(), "other.example".into()],
    };
    for (verified, counts) in [
        (Some(json!(true)), true),
        (Some(json!("true")), true),
        (Some(json!(false)), false),
        (Some(json!("false")), false),
        (Some(json!("")), false),
        (Some(json!(1)), false),
        (Some(json!(null)), false),
        (Some(json!([true])), false),
        (None, false),
    ] {
        for email in ["ada@example.com", "grace@other.example"] {
            let mut claims = claims(json!({"email": email}));
            claims.extend(verified.clone().map(|verified| ("email_verified".to_owned(), verified)));
            assert_eq!(rule.is_met(&claims, false), counts, "{verified:?}");
            assert!(rule.is_met(&claims, true), "{verified:?} where that does not matter");
        }
    }
}

#[test]
fn claims_are_values_or_arrays_of_them() {
    let rule = |name: &str, one_of: &[Value]| Condition::Claim { name: name.into(), one_of: one_of.to_vec() };
    let of_groups = rule("groups", &[json!("admins"), json!("staff")]);
    for (groups, met) in [
        (json!(["users", "admins"]), true),
        (json!(["staff"]), true),
        (json!("admins"), true),
        (json!([]), false),
        (json!(["Admins"]), false),
        (json!("Admins"), false),
        (json!(["admins "]), false),
        // One group with an odd name, and not two.
        (json!("users,admins"), false),
        (json!("users admins"), false),
        (json!(["users,admins"]), false),
        (json!([["admins"]]), false),
        (json!([{"name": "admins"}]), false),
        (json!({"admins": true}), false),
        (json!(null), false),
        (json!(true), false),
    ] {
        assert_eq!(of_groups.is_met(&claims(json!({"groups": groups})), false), met, "{groups}");
    }
    assert!(!of_groups.is_met(&Claims::new(), false));

    let theirs = claims(json!({
        "employee": true,
        "level": 3,
        "https://example.com/roles": ["editor"],
        "realm_access": {"roles": ["viewer"], "a/b": {"c~d": "x"}},
        "realm_access/roles": "flat",
        "list": [{"name": "first"}],
        "": "nameless",
    }));
    let table = [
        ("employee", json!(true), true),
        ("employee", json!("true"), false),
        ("level", json!(3), true),
        ("level", json!("3"), false),
        ("level", json!(4), false),
        ("https://example.com/roles", json!("editor"), true),
        ("/realm_access/roles", json!("viewer"), true),
        ("/realm_access/roles/0", json!("viewer"), true),
        ("/realm_access/a~1b/c~0d", json!("x"), true),
        ("/realm_access", json!("viewer"), false),
        ("/realm_access/nothing/here", json!("viewer"), false),
        ("realm_access.roles", json!("viewer"), false),
        ("realm_access/roles", json!("flat"), true),
        ("/list/0/name", json!("first"), true),
        ("/", json!("nameless"), true),
    ];
    for (name, value, met) in table {
        assert_eq!(rule(name, std::slice::from_ref(&value)).is_met(&theirs, false), met, "{name} = {value}");
    }
    assert!(!rule("employee", &[]).is_met(&theirs, false), "of no values none is right");
}

/// Of a rule's conditions all count, of a path's rules one.
#[test]
fn conditions_narrow_and_rules_widen() {
    let staff = Condition::Email { addresses: vec![], domains: vec!["example.com".into()] };
    let access = access_below(
        "",
        vec![rule("/", &[staff, group("analysts")]), rule("/", &[group("admins")]), rule("/everyone", &[])],
    );
    let enters = |path: &str, user: Value| access.permit(path).unwrap().is_met_by(&claims(user));
    let of_staff = json!({"email": "ada@example.com", "email_verified": true});
    let analyst = json!({"email": "ada@example.com", "email_verified": true, "groups": "analysts"});
    let stranger = json!({"email": "eve@other.example", "email_verified": true, "groups": "analysts"});
    assert!(!enters("/", of_staff.clone()));
    assert!(enters("/", analyst));
    assert!(!enters("/", stranger));
    assert!(enters("/", json!({"groups": ["admins"]})));
    assert!(enters("/everyone", of_staff), "the longest path decides alone");
}

#[test]
fn where_no_rule_is_nobody_is_asked_for_anything() {
    let access = access_below("", vec![rule("/admin", &[group("admins")])]);
    for path in ["/", "/administrator", "/a", "/other/admin"] {
        let permit = access.permit(path).unwrap();
        assert!(!permit.is_for_users() && permit.is_met_by(&Claims::new()), "{path}");
    }
    assert!(!access_below("", vec![]).permit("/../..;/%2e%2e").unwrap().is_for_users());
}

/// In a group for each path that lets it in. The strict path is above a lax one, and that above another strict one.
fn nested() -> Arc<Access> {
    access_below(
        "",
        vec![
            rule("/", &[group("root")]),
            rule("/lax", &[]),
            rule("/lax/strict", &[group("strict")]),
            rule("/admin", &[group("admin")]),
        ],
    )
}

/// Whose groups a path takes to enter; `None`: it is not read.
fn asked(access: &Arc<Access>, path: &str) -> Option<Vec<&'static str>> {
    let permit = access.permit(path).ok()?;
    let all = ["root", "strict", "admin"];
    assert!(permit.is_met_by(&claims(json!({ "groups": all }))));
    let needed = all.into_iter().filter(|needed| {
        let groups: Vec<_> = all.into_iter().filter(|group| group != needed).collect();
        !permit.is_met_by(&claims(json!({ "groups": groups })))
    });
    Some(needed.collect())
}

#[test]
fn no_spelling_of_a_path_skips_a_rule() {
    let access = nested();
    let table: &[(&str, Option<&[&str]>)] = &[
        ("/", Some(&["root"])),
        ("", Some(&["root"])),
        ("*", Some(&["root"])),
        ("/anything", Some(&["root"])),
        ("/admin", Some(&["admin"])),
        ("/admin/", Some(&["admin"])),
        ("/admin/x/y", Some(&["admin"])),
        ("/administrator", Some(&["root"])),
        ("/lax", Some(&[])),
        ("/lax/x", Some(&[])),
        ("/lax/strict", Some(&["strict"])),
        ("/lax/strict/x", Some(&["strict"])),
        ("/laxstrict", Some(&["root"])),
        // Spelt otherwise: whoever reads it as the rule's path, and whoever does not, finds the rule obeyed.
        ("/admin//x", Some(&["admin"])),
        ("/admin//x//", Some(&["admin"])),
        ("/%61dmin", Some(&["root", "admin"])),
        ("/%2561dmin", Some(&["root", "admin"])),
        ("/%25252561dmin", Some(&["root", "admin"])),
        ("/x%2fadmin", Some(&["root"])),
        ("/admin%2fx", Some(&["root", "admin"])),
        ("/admin;x=y", Some(&["root", "admin"])),
        ("/admin;/x", Some(&["root", "admin"])),
        ("/admin%3bx", Some(&["root", "admin"])),
        ("/admin%3fx", Some(&["root", "admin"])),
        ("/admin%23", Some(&["root", "admin"])),
        ("/ADMIN", Some(&["root", "admin"])),
        ("/Admin/x", Some(&["root", "admin"])),
        ("/admin.", Some(&["root", "admin"])),
        ("/admin%20", Some(&["root", "admin"])),
        ("/admin%20./x", Some(&["root", "admin"])),
        // What a lax path opens stays as narrow as it is, and what is strict below it stays strict.
        ("/LAX", Some(&["root"])),
        ("/lax;x", Some(&["root"])),
        ("/lax;x/strict", Some(&["root", "strict"])),
        ("/lax//strict", Some(&["strict"])),
        ("/lax/%73trict", Some(&["strict"])),
        ("/lax/strict;x", Some(&["strict"])),
        ("/lax/STRICT/x", Some(&["strict"])),
        ("/lax%2fstrict", Some(&["root", "strict"])),
        // What stands where the host of an address stands, for who takes the path for one.
        ("//x/admin", None),
        ("//admin", None),
        ("//", None),
        ("//lax", None),
        ("/%2fx/admin", None),
        ("/%252fx/admin", None),
        ("/;x/admin", None),
        ("/;/x/admin", None),
        ("/%20/x/admin", None),
        // Segments that lead upwards, control characters, what is no encoding of ours, and what is encoded without end.
        ("/lax/../admin", None),
        ("/%c1%a1dmin", None),
        ("/%25c1%25a1dmin", None),
        ("/%e0%81%a1dmin", None),
        ("/%f0%80%81%a1dmin", None),
        ("/%u0061dmin", None),
        ("/lax/..", None),
        ("/lax/./x", None),
        ("/lax/%2e%2e/admin", None),
        ("/lax/.%2E/admin", None),
        ("/lax/%252e%252e/admin", None),
        ("/lax%2f..%2fadmin", None),
        ("/lax/..;/admin", None),
        ("/lax/..%20/admin", None),
        ("/lax/%20../admin", None),
        ("/lax/.%20./admin", None),
        ("/x%3F/../admin", None),
        ("/x%3f/%2e%2e/admin", None),
        ("/x%23/%252e%252e/admin", None),
        ("/x%3f\\..\\admin", None),
        ("/x%3f%00", None),
        ("/lax/..;x=y/admin", None),
        ("/lax/%2e%2e%3b/admin", None),
        ("/lax/..%2fadmin", None),
        ("/lax\\..\\admin", None),
        ("/lax/..%5cadmin", None),
        ("/%5cadmin", None),
        ("/lax/%00", None),
        ("/lax/%0d%0a", None),
        ("/%2525252525252561dmin", None),
        // What a `;` makes forget: one segment or several.
        ("/;%2fstrict/admin", None),
        ("/%3b%2fstrict/admin", None),
        ("/;%252fstrict/admin", None),
        ("/lax;/strict", Some(&["root", "strict"])),
        // Near misses are names like others.
        ("/lax/...", None),
        ("/lax/..x/x..", Some(&[])),
        ("/lax/100%/x%zz", Some(&[])),
    ];
    for (path, expected) in table {
        assert_eq!(asked(&access, path).as_deref(), *expected, "{path}");
    }
}

#[test]
fn rules_are_below_the_base_path_and_the_root_is_everything() {
    let access = access_below("/app", vec![rule("/", &[group("root")]), rule("/admin", &[group("admin")])]);
    for (path, expected) in [
        ("/app/", "root"),
        ("/app", "root"),
        ("/other", "root"),
        ("/admin", "root"),
        ("/app/admin", "admin"),
        ("/app/admin/x", "admin"),
    ] {
        assert_eq!(asked(&access, path).unwrap(), [expected], "{path}");
    }
}

#[test]
fn a_rules_path_is_written_as_people_write_it() {
    let access = access_below("", vec![rule("/Über uns/", &[group("admin")]), rule("/lax", &[])]);
    for path in ["/%C3%9Cber%20uns", "/%c3%9cber%20uns/x", "/%C3%BCBER%20un%C5%BF"] {
        assert_eq!(asked(&access, path).unwrap(), ["admin"], "{path}");
    }
    for path in [
        "", "admin", "//", "//admin", "/a//b", "/a;b", "/a?b", "/a#b", "/a\\b", "/..", "/a/./b", "/a/../b",
        "/a*", "/*", "/%61", "/a%2fb", "/a.", "/a /b", "/a\u{0}",
    ] {
        let error = Access::new(vec![rule(path, &[])], Vec::new(), false, &origin(), "").unwrap_err();
        assert_eq!(error, GateConfigError::NotARulePath(path.to_owned()), "{path}");
    }
}

#[test]
fn a_rule_that_nobody_could_meet_is_refused() {
    let of = |addresses: &[&str], domains: &[&str]| {
        let list = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let condition = Condition::Email { addresses: list(addresses), domains: list(domains) };
        Access::new(vec![rule("/", &[condition])], Vec::new(), false, &origin(), "").map(drop)
    };
    assert_eq!(of(&["ada@example.com"], &["example.com", "localhost"]), Ok(()));
    assert_eq!(of(&[], &[]), Err(GateConfigError::NothingToMeet("email".to_owned())));
    let no_value = Condition::Claim { name: "groups".to_owned(), one_of: Vec::new() };
    let error = Access::new(vec![rule("/", &[no_value])], Vec::new(), false, &origin(), "").unwrap_err();
    assert_eq!(error, GateConfigError::NothingToMeet("groups".to_owned()));
    for bad in
        ["", "ada", "ada@", "@example.com", "ada@b@example.com", "a da@example.com", "ada@*.example.com"]
    {
        assert_eq!(of(&[bad], &[]), Err(GateConfigError::NotAnEmailAddress(bad.to_owned())));
    }
    for bad in ["", "@example.com", "ada@example.com", "*.example.com", ".example.com", "example.com.", "a b"]
    {
        assert_eq!(of(&[], &[bad]), Err(GateConfigError::NotAnEmailDomain(bad.to_owned())));
    }
}

/// The ways in which programs read a path: each of them finds the rule of its reading obeyed.
mod readers {
    use super::*;

    /// What one program does with a path before it looks for what is there.
    #[derive(Clone, Copy, Debug)]
    struct Reader {
        decodes: usize,
        /// Before or after it takes the path apart.
        decodes_first: bool,
        merges_slashes: bool,
        forgets_parameters: bool,
        minds_case: bool,
        trims: bool,
        /// Takes what follows two slashes for a host.
        takes_it_for_an_address: bool,
        resolves_dots: bool,
        /// Whether an encoded `?` or `#` ends the path.
        ends_at_query: bool,
    }

    impl Reader {
        fn segments(self, path: &str) -> Vec<Vec<u8>> {
            let decoded = |bytes: &[u8]| {
                (0..self.decodes).fold(bytes.to_vec(), |bytes, _| percent_decode(&bytes).collect())
            };
            let mut first =
                if self.decodes_first { decoded(path.as_bytes()) } else { path.as_bytes().to_vec() };
            if self.ends_at_query {
                first.truncate(
                    first.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(first.len()),
                );
            }
            if self.takes_it_for_an_address && first.starts_with(b"//") {
                let host = first[2..].iter().position(|&byte| byte == b'/').unwrap_or(first.len() - 2);
                first.drain(..2 + host);
            }
            let mut segments: Vec<Vec<u8>> = Vec::new();
            for segment in first.split(|&byte| byte == b'/').skip(1) {
                let mut segment = if self.decodes_first { segment.to_vec() } else { decoded(segment) };
                if self.forgets_parameters {
                    segment.truncate(segment.iter().position(|&byte| byte == b';').unwrap_or(segment.len()));
                }
                if self.trims {
                    if self.resolves_dots {
                        segment = segment.trim_ascii().to_vec();
                    } else {
                        while matches!(segment.last(), Some(b'.' | b' ')) {
                            segment.pop();
                        }
                    }
                }
                if self.resolves_dots && matches!(&*segment, b"." | b"..") {
                    if *segment == *b".." {
                        segments.pop();
                    }
                    continue;
                }
                if !self.minds_case {
                    segment.make_ascii_lowercase();
                }
                if !(self.merges_slashes && segment.is_empty()) {
                    segments.push(segment);
                }
            }
            segments
        }

        /// The rule that this program would expect to be asked: that of the longest path.
        fn asks(self, path: &str) -> &'static [&'static str] {
            let segments = self.segments(path);
            let at = |rule: &[&str]| {
                segments.len() >= rule.len() && rule.iter().zip(&segments).all(|(a, b)| a.as_bytes() == b)
            };
            match () {
                () if at(&["lax", "strict"]) => &["strict"],
                () if at(&["lax"]) => &[],
                () if at(&["admin"]) => &["admin"],
                () => &["root"],
            }
        }
    }

    fn reader() -> impl Strategy<Value = Reader> {
        (0_usize..4, any::<[bool; 5]>(), any::<[bool; 3]>()).prop_map(|(decodes, flags, more)| {
            let [decodes_first, merges_slashes, forgets_parameters, minds_case, trims] = flags;
            let [takes_it_for_an_address, resolves_dots, ends_at_query] = more;
            Reader {
                decodes,
                decodes_first,
                merges_slashes,
                forgets_parameters,
                minds_case,
                trims,
                takes_it_for_an_address,
                resolves_dots,
                ends_at_query,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn every_reader_finds_its_rule_obeyed(
            reader in reader(),
            path in "(/|//|%2f|%252f|/%2e|;|;x|\\.|%20|/lax|/LAX|/l%61x|/strict|/%73trict|strict|%2573trict|/admin|admin|%61dmin|x|%3b|%25|%3f|%253f|%23|\\.\\.|/\\.\\.){0,7}",
        ) {
            let path = format!("/{path}");
            if let Some(asked) = asked(&nested(), &path) {
                for group in reader.asks(&path) {
                    prop_assert!(asked.contains(group), "{path}: {asked:?} as read by {reader:?}");
                }
            }
        }

        #[test]
        fn no_path_upsets_us(path in "\\PC{0,40}") {
            let _ = nested().permit(&path);
        }
    }
}

/// `/` is for users, `/reports` for everybody, `/reports/board` for the board.
#[test]
fn open_paths_open_no_more_than_they_say() {
    let rules = vec![rule("/", &[]), rule("/reports/board", &[group("board")]), rule("/Team", &[])];
    let open = ["/reports", "/team"].map(str::to_owned).to_vec();
    let access = Arc::new(Access::new(rules, open, false, &origin(), "").unwrap());
    for (path, is_for_users) in [
        ("/", true),
        ("/reports", false),
        ("/reports/2026", false),
        ("/reports/board", true),
        ("/reports/board/1", true),
        ("/reportsx", true),
        // A rule for the same path counts, however it is spelt.
        ("/team", true),
        // Programs may read these as open or not: they are not, if they are read at all.
        ("/Reports", true),
        ("/%72eports", true),
        ("//reports", true),
        ("/reports/%62oard", true),
    ] {
        let guarded = access.permit(path).is_ok_and(|permit| permit.is_for_users());
        let refused = access.permit(path).is_err();
        assert_eq!(guarded || refused, is_for_users, "{path}");
    }
    assert!(access.permit("/reports/2026").unwrap().is_met_by(&claims(json!({"sub": "ada"}))));
    assert!(access.permit("/reports/..;/x").is_err(), "where rules are, ambiguous paths are not read");
    // Without a rule there is nothing to open.
    let access = Access::new(vec![], vec!["/reports".into()], false, &origin(), "").unwrap();
    assert!(!Arc::new(access).permit("/reports/../x").unwrap().is_for_users());
}
