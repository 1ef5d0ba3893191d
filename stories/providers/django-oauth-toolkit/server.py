"""django-oauth-toolkit, set up for the stories.

    python server.py '{"listen": "127.0.0.1:0", "folder": …, "client": {…}, "users": {…}, "access_token_seconds": 60,
                       "rotates": true, "grace_seconds": 0}'

It prints "ready ISSUER". All that it keeps is in `folder`: started again with the same one, it is the same provider.
There it also writes `requests.jsonl`, a line for each request that it has answered at the token, userinfo and
revocation endpoints, and the secrets: `forms.jsonl`, those that came, and `answers.jsonl`, those that it handed out. It
heeds `delay_ms` there, if that file exists: how long it waits before it does what a refresh asks for. And it heeds
`cut`, a list of users: of its answer to the next refresh of each of them it sends the beginning. Beside the provider's
own routes there are some of ours:

    GET  /_api      answers who the bearer of a live access token is, 401 otherwise: an API for the apps
    POST /_users    {"alice": {"name": …}}: the new names and addresses of some users
    POST /_revoke   {"user": "alice"}: every token of a user dies, as after an administrator's click
    POST /_expire   {"user": "alice"}: the time of every token of a user is over, as after a long absence
"""

import io
import json
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs

import django
from django.conf import settings
from jwcrypto.jwk import JWK

TOLD = json.loads(sys.argv[1])
FOLDER = Path(TOLD["folder"])
CLIENT = TOLD["client"]
HERE = Path(__file__).parent

ENDPOINTS = {"/o/token/": "token", "/o/userinfo/": "userinfo", "/o/revoke_token/": "revoke"}
SECRETS = ("code", "code_verifier", "refresh_token", "token", "access_token", "id_token")


def listen(address):
    host, _, port = address.rpartition(":")
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, int(port)))
    return bound


def signing_key():
    path = FOLDER / "key.pem"
    if not path.exists():
        path.write_bytes(JWK.generate(kty="RSA", size=2048).export_to_pem(private_key=True, password=None))
    return path.read_text()


def configure(origin):
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": FOLDER / "provider.db",
                # Writers wait for each other from the start of a transaction, instead of failing in its middle.
                "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        # Tables as the models have them now; how they came to be is of no interest to a database made a second ago.
        MIGRATION_MODULES={"auth": None, "contenttypes": None, "sessions": None, "oauth2_provider": None},
        LOGIN_URL="/login/",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        OAUTH2_PROVIDER={
            "ACCESS_TOKEN_EXPIRE_SECONDS": TOLD["access_token_seconds"],
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
            "ID_TOKEN_EXPIRE_SECONDS": 60,
            "OAUTH2_VALIDATOR_CLASS": "claims.Validator",
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": f"{origin}/o",
            "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": signing_key(),
            "REFRESH_TOKEN_EXPIRE_SECONDS": 3600,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": TOLD["grace_seconds"],
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "ROTATE_REFRESH_TOKEN": TOLD["rotates"],
            "SCOPES": {scope: scope for scope in ("openid", "profile", "email", "groups")},
        },
        # Nothing here is worth the time that a good hash takes.
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="routes",
        SECRET_KEY="only-for-the-stories-0123456789-0123456789-0123456789",  # noqa: S106
        STATIC_URL="static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "DIRS": [HERE / "templates"],
            }
        ],
        USE_TZ=True,
    )
    django.setup()


def fill_database():
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", run_syncdb=True, verbosity=0)
    for username, claims in TOLD["users"].items():
        user = User.objects.create_user(username, claims["email"], "any", first_name=claims["name"])
        user.groups.set([Group.objects.get_or_create(name=name)[0] for name in claims["groups"]])
    Application.objects.create(
        name="stories",
        client_id=CLIENT["client_id"],
        client_secret=CLIENT["client_secret"],
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        algorithm=Application.RS256_ALGORITHM,
        redirect_uris=" ".join(CLIENT["redirect_uris"]),
        post_logout_redirect_uris=CLIENT["post_logout_redirect_uri"],
        skip_authorization=True,  # no consent page: the client is ours
    )


class Recorded:
    """The provider, with what reaches the endpoints written down."""

    def __init__(self, provider):
        self.provider = provider
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        endpoint = ENDPOINTS.get(environ["PATH_INFO"])
        if endpoint is None:
            return self.provider(environ, start_response)
        start_ms = time.time_ns() // 1_000_000
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if form.get("grant_type") == "refresh_token":
            endpoint = "token:refresh"
            delay = FOLDER / "delay_ms"
            time.sleep(int(delay.read_text()) / 1000 if delay.exists() else 0)
        statuses, heads = [], []

        def started(status, headers, error=None):
            statuses.append(int(status.split()[0]))
            heads[:] = [status, headers, error]

        answer = self.provider(environ, started)
        parts = list(answer)
        answer.close()
        end_ms = time.time_ns() // 1_000_000
        self.write("forms", {name: form[name] for name in SECRETS if name in form})
        cut = False
        if endpoint.startswith("token") and statuses == [200]:
            document = json.loads(b"".join(parts))
            cut = endpoint == "token:refresh" and self.is_to_be_cut(document["access_token"])
            self.write("answers", {name: document[name] for name in SECRETS if name in document})
        self.write(
            "requests",
            {
                "endpoint": endpoint,
                "status": statuses[0],
                "start_ms": start_ms,
                "end_ms": end_ms,
                "fate": "cut" if cut else "answered",
            },
        )
        status, headers, error = heads
        length = sum(map(len, parts))
        start_response(status, [*headers, ("Content-Length", str(length))], error)
        # Less than was promised: the server closes the connection.
        return [b"{"] if cut else parts

    def is_to_be_cut(self, access_token):
        path = FOLDER / "cut"
        if not path.exists():
            return False
        from oauth2_provider.models import AccessToken

        user = AccessToken.objects.get(token=access_token).user.username
        with self.lock:
            users = json.loads(path.read_text())
            path.write_text(json.dumps([other for other in users if other != user]))
        return user in users

    def write(self, name, entry):
        with self.lock, (FOLDER / f"{name}.jsonl").open("a") as lines:
            lines.write(json.dumps(entry) + "\n")


def main():
    import waitress
    from django.core.wsgi import get_wsgi_application

    FOLDER.mkdir(parents=True, exist_ok=True)
    bound = listen(TOLD["listen"])
    origin = "http://{}:{}".format(*bound.getsockname())
    is_new = not (FOLDER / "provider.db").exists()
    configure(origin)
    if is_new:
        fill_database()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = waitress.create_server(Recorded(get_wsgi_application()), sockets=[bound], threads=8)
    print(f"ready {origin}/o", flush=True)
    server.run()


if __name__ == "__main__":
    main()
