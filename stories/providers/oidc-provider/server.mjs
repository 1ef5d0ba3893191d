// node-oidc-provider, certified by the OpenID Foundation, set up for the stories.
//
//   node server.mjs '{"clients": […], "users": {…}, "access_token_seconds": 5}'
//
// Further settings: "client_key_file": makes a key, registers its public part for the clients and writes its private part
// there, as PEM or, where the name ends in .json, as a JWK. "require_par" (false): takes authorization requests only if they
// were pushed. "dpop_nonce" (false): wants a nonce of its own in DPoP proofs.
//
// It listens on a free loopback port, or on `port`, and prints "ready ISSUER". With "state": FILE it is the same provider
// again after a SIGTERM. Beside the provider's own routes there are some of ours:
//   GET  /_log      what reached the token, userinfo and revocation endpoints, how many at once, how many connections there were
//   DELETE /_log    forgets them, and counts anew
//   GET  /_secrets  every secret that was handed out
//   GET  /_refresh_tokens  those that were handed out, oldest first
//   POST /_script   [{"endpoint": "token:refresh", "status": 503, "retry_after": 1, "delay_ms": 300}], instead of any before;
//                   {"endpoint": "token:refresh", "cut_after_handling_for": [users]}: does it, and cuts the connection
//                   instead of answering, once for each of them
//   POST /_end      {"at": UNIX SECONDS}: access tokens issued before then end then
//   POST /_users    {"alice": {…claims}}: the new claims of some users
//   POST /_revoke   {"user": "alice"}: every refresh token of a user dies, as after an administrator's click
//   POST /_expire   {"user": "alice"}: the time of every token of a user is over, as after a long absence
//   GET  /_api      answers who the bearer of a live access token is, 401 otherwise: an API for the apps
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { exportJWK, exportPKCS8, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';
import { openStore } from './store.mjs';

const settings = JSON.parse(process.argv[2]);
const users = settings.users;
const log = { requests: [], in_flight: 0, most_in_flight: 0, connections: 0, most_connections: 0 };
const secrets = [];
const refreshTokens = [];
const grantsOf = new Map(); // user -> Set of grant ids
const store = openStore(settings.state);
let rules = [];
let tokensEndAt = 0;

const server = http.createServer();
server.on('connection', (socket) => {
  log.connections += 1;
  log.most_connections = Math.max(log.most_connections, log.connections);
  socket.once('close', () => (log.connections -= 1));
});
await new Promise((listening) => server.listen(settings.port ?? 0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const newKey = async () => {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  return { ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig', kid: 'stories' };
};
const key = store.signingKey ?? (await newKey());

if (settings.client_key_file) {
  const pair = await generateKeyPair('ES256', { extractable: true });
  const named = { kid: 'gate', use: 'sig', alg: 'ES256' };
  const privately = settings.client_key_file.endsWith('.json')
    ? JSON.stringify({ ...(await exportJWK(pair.privateKey)), ...named })
    : await exportPKCS8(pair.privateKey);
  writeFileSync(settings.client_key_file, privately, { mode: 0o600 });
  const jwks = { keys: [{ ...(await exportJWK(pair.publicKey)), ...named }] };
  for (const client of settings.clients) Object.assign(client, { jwks, token_endpoint_auth_signing_alg: 'ES256' });
}

const provider = new Provider(issuer, {
  adapter: store.adapter,
  jwks: { keys: [key] },
  clients: settings.clients,
  cookies: { keys: ['only-for-the-stories'] },
  scopes: ['openid', 'offline_access', 'profile', 'email', 'groups'],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'locale'], email: ['email', 'email_verified'], groups: ['groups'] },
  conformIdTokenClaims: false,
  findAccount: (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id, ...users[id] }) }),
  // No consent page: the client is ours, and a page more at each login would only cost time.
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const known = session.grantIdFor(client.clientId);
    const kept = known && (await provider.Grant.find(known));
    if (kept) return kept;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid offline_access profile email groups');
    await grant.save();
    return grant;
  },
  issueRefreshToken: async () => true,
  rotateRefreshToken: settings.rotate ?? true,
  expiresWithSession: async () => false,
  pkce: { required: () => true },
  clockTolerance: 0, // the default keeps access tokens alive past their end
  ttl: {
    AccessToken() {
      const left = tokensEndAt - Math.floor(Date.now() / 1000);
      return left > 0 ? left : (settings.access_token_seconds ?? 60);
    },
    AuthorizationCode: 60,
    Grant: 7200,
    IdToken: 60,
    Interaction: 600,
    RefreshToken: 3600,
    Session: 3600,
  },
  // Its own way out refuses addresses on this machine, and that is where the gate is.
  fetch: (url, { dispatcher: _refusing, ...options }) => fetch(url, options),
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: true },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 7), requireNonce: () => settings.dpop_nonce ?? false },
    pushedAuthorizationRequests: {
      enabled: true,
      requirePushedAuthorizationRequests: settings.require_par ?? false,
    },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    userinfo: { enabled: true },
  },
});

provider.on('grant.success', (ctx) => {
  const { Account, AccessToken } = ctx.oidc.entities;
  const grants = grantsOf.get(Account.accountId) ?? new Set();
  grantsOf.set(Account.accountId, grants.add(AccessToken.grantId));
});
provider.on('backchannel.error', (_ctx, error) => console.log('backchannel.error', error.message));
provider.on('server_error', (_ctx, error) => console.error('server_error', error));
provider.on('grant.error', (_ctx, error) => console.log('grant.error', error.message, error.error_detail ?? ''));

// The provider would read the body itself, but a rule needs to know the grant before.
const formOf = async (request) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return new URLSearchParams(text);
};
const endpoints = { '/me': 'userinfo', '/token': 'token', '/token/revocation': 'revoke' };

provider.use(async (context, next) => {
  let endpoint = endpoints[context.path];
  if (!endpoint) return next();
  if (context.method === 'POST') {
    const form = await formOf(context.req);
    context.req.body = Object.fromEntries(form); // the provider takes a parsed body where there is one
    if (form.get('grant_type') === 'refresh_token') endpoint = 'token:refresh';
    for (const name of ['code', 'code_verifier', 'refresh_token', 'token']) if (form.has(name)) secrets.push(form.get(name));
  }
  const entry = { endpoint, start_ms: Date.now(), fate: 'in_flight' };
  log.requests.push(entry);
  const closed = () => {
    entry.end_ms = Date.now();
    if (entry.fate === 'in_flight') entry.fate = context.res.writableFinished ? 'answered' : 'client_left';
  };
  // A client that is gone before its request is read closes nothing any more.
  if (context.req.socket.destroyed) closed();
  else context.res.once('close', closed);
  if (context.path === '/token') {
    log.in_flight += 1;
    log.most_in_flight = Math.max(log.most_in_flight, log.in_flight);
  }
  try {
    const delay = rules.find((one) => one.endpoint === endpoint && one.delay_ms);
    if (delay) await new Promise((later) => setTimeout(later, delay.delay_ms));
    const instead = rules.find((one) => one.endpoint === endpoint && one.status);
    if (instead) {
      context.status = instead.status;
      if (instead.retry_after) context.set('Retry-After', String(instead.retry_after));
      context.body = { error: 'temporarily_unavailable' };
    } else {
      await next();
    }
    for (const name of ['access_token', 'refresh_token', 'id_token']) if (context.body?.[name]) secrets.push(context.body[name]);
    if (context.body?.refresh_token) refreshTokens.push(context.body.refresh_token);
    entry.sub = context.oidc?.entities.Account?.accountId;
    const cut = rules.find((one) => one.endpoint === endpoint && one.cut_after_handling_for?.includes(entry.sub));
    if (cut) {
      cut.cut_after_handling_for = cut.cut_after_handling_for.filter((user) => user !== entry.sub);
      entry.fate = 'cut';
      context.respond = false;
      context.req.socket.destroy();
    }
  } finally {
    entry.status = context.status;
    // What is printed outlives the process.
    console.log(endpoint, context.status);
    if (context.path === '/token') log.in_flight -= 1;
  }
});

const answer = (response, status, body) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};
const readJson = async (request) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return JSON.parse(text || '{}');
};

const ours = {
  'GET /_log': async (_request, response) => answer(response, 200, log),
  'DELETE /_log': async (_request, response) => {
    log.requests = [];
    log.most_in_flight = log.in_flight;
    log.most_connections = log.connections;
    answer(response, 200, {});
  },
  'GET /_secrets': async (_request, response) => answer(response, 200, secrets),
  'GET /_refresh_tokens': async (_request, response) => answer(response, 200, refreshTokens),
  'POST /_script': async (request, response) => {
    rules = await readJson(request);
    answer(response, 200, {});
  },
  'POST /_end': async (request, response) => {
    tokensEndAt = (await readJson(request)).at;
    answer(response, 200, {});
  },
  'POST /_users': async (request, response) => {
    for (const [name, claims] of Object.entries(await readJson(request))) users[name] = { ...users[name], ...claims };
    answer(response, 200, {});
  },
  'POST /_revoke': async (request, response) => {
    const { user } = await readJson(request);
    for (const grant of grantsOf.get(user) ?? []) {
      await provider.RefreshToken.revokeByGrantId(grant);
      await (await provider.Grant.find(grant))?.destroy();
    }
    answer(response, 200, {});
  },
  'POST /_expire': async (request, response) => {
    store.expire((await readJson(request)).user);
    answer(response, 200, {});
  },
  'GET /_api': async (request, response) => {
    const token = await provider.AccessToken.find((request.headers.authorization ?? '').replace(/^Bearer /, ''));
    if (!token || token.isExpired) answer(response, 401, { error: 'invalid_token' });
    else answer(response, 200, { sub: token.accountId, seconds_left: token.remainingTTL });
  },
};

const callback = provider.callback();
server.on('request', (request, response) => {
  const own = ours[`${request.method} ${request.url.split('?')[0]}`];
  if (own) own(request, response).catch((error) => answer(response, 500, { error: String(error) }));
  else callback(request, response);
});
process.on('SIGTERM', () => {
  server.close(() => {
    store.save(key);
    process.exit(0);
  });
  // A connection that is busy now is idle, and kept alive, as soon as it has its answer.
  setInterval(() => server.closeIdleConnections(), 10);
});
console.log(`ready ${issuer}`);
