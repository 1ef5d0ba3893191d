"""LemonLDAP::NG from Debian's packages, set up for the stories; nothing of the system's own configuration is used.

    python server.py '{"listen": "127.0.0.1:0", "folder": …, "client": {…}, "users": {…}, "access_token_seconds": 60}'

It prints "ready ISSUER". All that it keeps is in `folder`, where `sessions` has a file for each session, code and
token. `app.psgi` beside it, which it becomes, writes there what it took and answered (see
../django-oauth-toolkit/server.py).
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

TOLD = json.loads(sys.argv[1])
FOLDER = Path(TOLD["folder"])
CLIENT = TOLD["client"]
HERE = Path(__file__).parent


def port_to_listen_on() -> int:
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", int(TOLD["listen"].rpartition(":")[2])))
        return int(bound.getsockname()[1])


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S607


def signing_key() -> tuple[str, str]:
    path = FOLDER / "key.pem"
    if not path.exists():
        openssl("genrsa", "-out", str(path), "2048")
    return path.read_text(), openssl("rsa", "-in", str(path), "-pubout")


def storage(name: str) -> dict[str, str]:
    return {"Directory": str(FOLDER / name), "LockDirectory": str(FOLDER / name / "lock")}


def group_rules() -> dict[str, str]:
    members: dict[str, list[str]] = {}
    for user, claims in TOLD["users"].items():
        for group in claims["groups"]:
            members.setdefault(group, []).append(f"$uid eq '{user}'")
    return {group: " or ".join(rules) for group, rules in members.items()}


def configuration(portal: str) -> dict[str, object]:
    private_key, public_key = signing_key()
    client = {
        "oidcRPMetaDataOptionsAccessTokenExpiration": TOLD["access_token_seconds"],
        "oidcRPMetaDataOptionsBypassConsent": 1,
        "oidcRPMetaDataOptionsClientID": CLIENT["client_id"],
        "oidcRPMetaDataOptionsClientSecret": CLIENT["client_secret"],
        "oidcRPMetaDataOptionsIDTokenExpiration": 60,
        "oidcRPMetaDataOptionsIDTokenSignAlg": "RS256",
        "oidcRPMetaDataOptionsPostLogoutRedirectUris": CLIENT["post_logout_redirect_uri"],
        "oidcRPMetaDataOptionsRedirectUris": " ".join(CLIENT["redirect_uris"]),
        "oidcRPMetaDataOptionsRefreshToken": 1,
        "oidcRPMetaDataOptionsRequirePKCE": 1,
    }
    if CLIENT["frontchannel_logout_uri"]:
        client |= {
            "oidcRPMetaDataOptionsLogoutSessionRequired": 1,
            "oidcRPMetaDataOptionsLogoutType": "front",
            "oidcRPMetaDataOptionsLogoutUrl": CLIENT["frontchannel_logout_uri"],
        }
    return {
        "cfgNum": 1,
        "cfgDate": 1,
        "cfgVersion": "2.16.1",
        "portal": f"{portal}/",
        "domain": "localhost",
        "cookieName": "lemonldap",
        "securedCookie": 0,
        # Accounts of the demonstration, which app.psgi replaces by ours; the password is the user's name.
        "authentication": "Demo",
        "userDB": "Same",
        "registerDB": "Null",
        "demoExportedVars": {"cn": "cn", "mail": "mail", "uid": "uid"},
        "macros": {"_whatToTrace": "$uid"},
        "groups": group_rules(),
        "whatToTrace": "_whatToTrace",
        "globalStorage": "Apache::Session::File",
        "globalStorageOptions": storage("sessions"),
        "persistentStorage": "Apache::Session::File",
        "persistentStorageOptions": storage("persistent"),
        "localSessionStorage": "",  # no cache: what is deleted is gone at once
        "locationRules": {},
        "exportedHeaders": {},
        "applicationList": {},
        "cspFormAction": "*",
        "issuerDBOpenIDConnectActivation": 1,
        "oidcServiceAllowAuthorizationCodeFlow": 1,
        "oidcServiceKeyIdSig": "stories",
        "oidcServiceMetaDataIssuer": portal,
        "oidcServicePrivateKeySig": private_key,
        "oidcServicePublicKeySig": public_key,
        "oidcRPMetaDataOptions": {"stories": client},
        "oidcRPMetaDataExportedVars": {
            "stories": {
                "name": "cn",
                "email": "mail",
                "preferred_username": "uid",
                "groups": "groups;string;always",
            }
        },
        "oidcRPMetaDataOptionsExtraClaims": {"stories": {"groups": "groups"}},
    }


def main() -> None:
    for name in ("configuration", "cache", "sessions/lock", "persistent/lock"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    port = port_to_listen_on()
    # By this name it is of the gate's site, as a provider in the same organisation is.
    portal = f"http://localhost:{port}"
    (FOLDER / "configuration" / "lmConf-1.json").write_text(json.dumps(configuration(portal)))
    (FOLDER / "lemonldap-ng.ini").write_text(
        f"""[all]
logLevel = notice
[configuration]
type = File
dirName = {FOLDER}/configuration
localStorage = Cache::FileCache
localStorageOptions = {{ 'namespace' => 'stories', 'cache_root' => '{FOLDER}/cache' }}
[portal]
staticPrefix = /static
templateDir = /usr/share/lemonldap-ng/portal/templates
languages = en
"""
    )
    os.environ["LLNG_DEFAULTCONFFILE"] = str(FOLDER / "lemonldap-ng.ini")
    os.environ["STORIES"] = json.dumps({"folder": str(FOLDER), "issuer": portal, "users": TOLD["users"]})
    listen = f"127.0.0.1:{port}"
    os.execvp("starman", ["starman", "--listen", listen, "--workers", "4", str(HERE / "app.psgi")])  # noqa: S606, S607


if __name__ == "__main__":
    main()
