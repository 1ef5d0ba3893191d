//! What the program is started with.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};
use freshgate_devidp::{
    DevClient, DevProviderConfig, DevUser, Dpop, DpopNonces, PushedRequests, Rotation, Scripting,
    SigningAlgorithm,
};
use freshgate_oidc::Secret;
use serde_json::Value;
use url::Url;

/// Runs an OpenID provider for development.
///
/// Anyone who reaches it can sign in as anyone, so it listens on loopback addresses only. When it is serving it prints
/// one line to standard output: "ready", a space, and the issuer.
#[derive(Debug, Parser)]
#[command(name = "freshgate-devidp", version)]
pub(crate) struct Arguments {
    /// The loopback address and port to listen on. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9400")]
    listen: SocketAddr,

    /// The issuer identifier. By default it is http:// and the address that is listened on.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,

    /// A client that may send people here, as ID:SECRET:REDIRECT_URI[,REDIRECT_URI...]. An empty SECRET makes a public
    /// client. The option can be repeated.
    #[arg(long = "client", value_name = "ID:SECRET:REDIRECT_URIS", value_parser = client)]
    clients: Vec<DevClient>,

    /// A file with the public keys of a client, as a JWK set: it proves itself with one of them (private_key_jwt). Give
    /// such a client no SECRET. The option can be repeated.
    #[arg(long, value_name = "ID=PATH", value_parser = of_client)]
    client_jwks: Vec<OfClient>,

    /// An address that a client may have people sent back to after they have signed out, as ID=URL. The option can be
    /// repeated.
    #[arg(long, value_name = "ID=URL", value_parser = of_client)]
    post_logout_redirect_uri: Vec<OfClient>,

    /// The address at which a client wants to be told of logouts, as ID=URL. The option can be repeated.
    #[arg(long, value_name = "ID=URL", value_parser = of_client)]
    backchannel_logout_uri: Vec<OfClient>,

    /// The address of a client that the page of a logout has a frame of, as ID=URL. The option can be repeated.
    #[arg(long, value_name = "ID=URL", value_parser = of_client)]
    frontchannel_logout_uri: Vec<OfClient>,

    /// A user to choose from when signing in: a name such as alice, or a JSON object of claims with a "sub". The option
    /// can be repeated. By default there are alice and bob.
    #[arg(long = "user", value_name = "NAME", value_parser = user)]
    users: Vec<DevUser>,

    /// How long access tokens live, as a number with ms, s, m, h or d.
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = duration)]
    access_token_lifetime: Duration,

    /// How long ID tokens live.
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = duration)]
    id_token_lifetime: Duration,

    /// How long refresh tokens live. Each new one starts anew.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
    refresh_token_lifetime: Duration,

    /// From how long after it was issued on a refresh token is good. It is a JWT then, and says so (nbf). By default it is good
    /// at once.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    refresh_token_not_before: Option<Duration>,

    /// Whether each refresh replaces the refresh token.
    #[arg(long, value_enum, default_value_t = OnOff::On)]
    rotation: OnOff,

    /// For how long a replaced refresh token still yields the same successor.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    grace: Duration,

    /// Takes authorization requests only if the client has left them here beforehand (RFC 9126).
    #[arg(long)]
    require_par: bool,

    /// Hands out tokens to clients alone that prove to hold a key (DPoP, RFC 9449). Without this it does so to others too.
    #[arg(long)]
    require_dpop: bool,

    /// Wants a nonce in proofs of holding a key, and hands it out.
    #[arg(long)]
    dpop_nonce: bool,

    /// What ID tokens are signed with. Keys for RS256 and ES256 are published in any case.
    #[arg(long, value_name = "ALGORITHM", default_value = "RS256", value_parser = algorithms())]
    signing_algorithm: SigningAlgorithm,

    /// A file that keeps keys, users, sessions and grants over a restart. It is made if it is not there.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,

    /// Lets anyone who reaches the port make the provider misbehave (POST /_script) and read a log of requests
    /// (GET /_log). This is for tests.
    #[arg(long)]
    scriptable: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnOff {
    On,
    Off,
}

fn algorithms() -> impl TypedValueParser<Value = SigningAlgorithm> {
    PossibleValuesParser::new(SigningAlgorithm::ALL.map(SigningAlgorithm::name)).try_map(|name| {
        let named = SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        named.ok_or("there is no such algorithm")
    })
}

/// Something that belongs to a client.
#[derive(Clone, Debug)]
struct OfClient {
    client: String,
    value: String,
}

/// Arguments that are fine one by one and do not fit together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadArgument {
    #[error("{option} names the client {client:?}, for which there is no --client")]
    NoSuchClient { option: &'static str, client: String },
    #[error("{path} holds no JWK set: {reason}")]
    NotAJwkSet { path: String, reason: String },
    #[error("{uri:?} is not an address")]
    NotAnAddress { uri: String },
}

impl Arguments {
    pub(crate) fn into_config(self) -> Result<DevProviderConfig, BadArgument> {
        let mut config = DevProviderConfig::new(self.listen);
        config.issuer = self.issuer;
        config.clients = self.clients;
        for OfClient { client, value: path } in self.client_jwks {
            let jwks = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
                .map_err(|reason| BadArgument::NotAJwkSet { path, reason })?;
            client_named(&mut config, "--client-jwks", client)?.jwks = Some(jwks);
        }
        for OfClient { client, value: uri } in self.post_logout_redirect_uri {
            client_named(&mut config, "--post-logout-redirect-uri", client)?
                .post_logout_redirect_uris
                .push(uri);
        }
        for OfClient { client, value: uri } in self.backchannel_logout_uri {
            let parsed = Url::parse(&uri).map_err(|_| BadArgument::NotAnAddress { uri })?;
            client_named(&mut config, "--backchannel-logout-uri", client)?.backchannel_logout_uri =
                Some(parsed);
        }
        for OfClient { client, value: uri } in self.frontchannel_logout_uri {
            let parsed = Url::parse(&uri).map_err(|_| BadArgument::NotAnAddress { uri })?;
            client_named(&mut config, "--frontchannel-logout-uri", client)?.frontchannel_logout_uri =
                Some(parsed);
        }
        config.users = match self.users {
            none if none.is_empty() => vec![DevUser::named("alice"), DevUser::named("bob")],
            users => users,
        };
        config.access_token_lifetime = self.access_token_lifetime;
        config.id_token_lifetime = self.id_token_lifetime;
        config.refresh_token_lifetime = self.refresh_token_lifetime;
        config.refresh_token_not_before = self.refresh_token_not_before;
        config.rotation = match self.rotation {
            OnOff::On => Rotation::On { grace: self.grace },
            OnOff::Off => Rotation::Off,
        };
        config.pushed_requests =
            if self.require_par { PushedRequests::Required } else { PushedRequests::Taken };
        config.dpop = if self.require_dpop { Dpop::Required } else { Dpop::Taken };
        config.dpop_nonces = if self.dpop_nonce { DpopNonces::Wanted } else { DpopNonces::NotWanted };
        config.signing_algorithm = self.signing_algorithm;
        config.state_file = self.state;
        config.scripting = if self.scriptable { Scripting::On } else { Scripting::Off };
        Ok(config)
    }
}

fn client_named<'c>(
    config: &'c mut DevProviderConfig,
    option: &'static str,
    client: String,
) -> Result<&'c mut DevClient, BadArgument> {
    let found = config.clients.iter_mut().find(|known| known.id == client);
    found.ok_or(BadArgument::NoSuchClient { option, client })
}

fn client(text: &str) -> Result<DevClient, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(id), Some(secret), Some(uris)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("write ID:SECRET:REDIRECT_URI".to_owned());
    };
    let mut client = DevClient::public(id, "");
    client.redirect_uris = uris.split(',').map(str::to_owned).collect();
    client.secret = (!secret.is_empty()).then(|| Secret::new(secret));
    Ok(client)
}

fn of_client(text: &str) -> Result<OfClient, String> {
    let (client, value) = text.split_once('=').ok_or("write ID=VALUE")?;
    Ok(OfClient { client: client.to_owned(), value: value.to_owned() })
}

fn user(text: &str) -> Result<DevUser, String> {
    if !text.trim_start().starts_with('{') {
        return match text.trim() {
            "" => Err("the name is empty".to_owned()),
            name => Ok(DevUser::named(name)),
        };
    }
    let value: Value = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    let Value::Object(claims) = value else { return Err("write one JSON object".to_owned()) };
    DevUser::from_claims(claims).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "write a number with ms, s, m, h or d".to_owned())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs).ok_or("too long".to_owned());
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(24 * 3600),
        _ => Err(format!("{unit:?} is none of ms, s, m, h and d")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{CommandFactory, Parser};
    use freshgate_devidp::{Rotation, Scripting};

    use super::{Arguments, client, duration};

    #[test]
    fn the_command_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_become_a_config() {
        let line = "freshgate-devidp --listen 127.0.0.1:0 --client app:s3cret:http://a/cb,http://b/cb \
                    --post-logout-redirect-uri app=http://a/?x=1 --backchannel-logout-uri app=http://a/out \
                    --frontchannel-logout-uri app=http://a/frame \
                    --user alice --user {\"sub\":\"carol\"} --access-token-lifetime 5m --grace 1500ms \
                    --refresh-token-not-before 4m --scriptable";
        let config = Arguments::parse_from(line.split_whitespace()).into_config().unwrap();
        let app = &config.clients[0];
        assert_eq!(app.redirect_uris, ["http://a/cb", "http://b/cb"]);
        assert_eq!(app.post_logout_redirect_uris, ["http://a/?x=1"]);
        assert_eq!(app.backchannel_logout_uri.as_ref().unwrap().as_str(), "http://a/out");
        assert_eq!(app.frontchannel_logout_uri.as_ref().unwrap().as_str(), "http://a/frame");
        assert_eq!(config.users.iter().map(|user| user.sub.as_str()).collect::<Vec<_>>(), ["alice", "carol"]);
        assert_eq!(config.access_token_lifetime, Duration::from_secs(300));
        assert_eq!(config.refresh_token_not_before, Some(Duration::from_secs(240)));
        assert_eq!(config.rotation, Rotation::On { grace: Duration::from_millis(1500) });
        assert_eq!(config.scripting, Scripting::On);
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn an_address_of_an_unknown_client_is_refused() {
        let line = ["freshgate-devidp", "--backchannel-logout-uri", "app=http://a/out"];
        assert!(Arguments::parse_from(line).into_config().is_err());
    }

    #[test]
    fn clients() {
        assert!(client("app::http://localhost:1/cb").unwrap().secret.is_none());
        assert!(client("app:secret").is_err());
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("300s", Some(Duration::from_secs(300))),
            ("7", Some(Duration::from_secs(7))),
            ("250ms", Some(Duration::from_millis(250))),
            ("2h", Some(Duration::from_secs(7200))),
            ("30d", Some(Duration::from_secs(2_592_000))),
            ("", None),
            ("s", None),
            ("5w", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }
}
