// What the provider knows: sessions, grants, tokens. The provider's own store for development forgets all but the last
// thousand of them, and everything at a restart.
import fs from 'node:fs';

const OF_A_GRANT = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

/** Opens the store that `file` holds; without a file, one that is lost at the end. */
export const openStore = (file) => {
  const saved = file && fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : { rows: [] };
  const rows = new Map(saved.rows); // "Model:id" -> what the provider put there
  const sessions = new Map(); // uid -> id
  const ofGrant = new Map(); // grant id -> Set of keys of rows

  const index = (model, key, id, payload) => {
    if (model === 'Session') sessions.set(payload.uid, id);
    if (OF_A_GRANT.has(model)) {
      const keys = ofGrant.get(payload.grantId) ?? new Set();
      ofGrant.set(payload.grantId, keys.add(key));
    }
  };
  for (const [key, payload] of rows) {
    const colon = key.indexOf(':');
    index(key.slice(0, colon), key, key.slice(colon + 1), payload);
  }

  return {
    signingKey: saved.signingKey,
    /** What the provider wants of a store, for one model. It looks itself at what has expired. */
    adapter: (model) => ({
      async upsert(id, payload) {
        rows.set(`${model}:${id}`, payload);
        index(model, `${model}:${id}`, id, payload);
      },
      find: async (id) => rows.get(`${model}:${id}`),
      findByUid: async (uid) => rows.get(`${model}:${sessions.get(uid)}`),
      findByUserCode: async () => undefined,
      async consume(id) {
        rows.get(`${model}:${id}`).consumed = Math.floor(Date.now() / 1000);
      },
      async destroy(id) {
        rows.delete(`${model}:${id}`);
      },
      async revokeByGrantId(grantId) {
        for (const key of ofGrant.get(grantId) ?? []) rows.delete(key);
        ofGrant.delete(grantId);
      },
    }),
    /** From now on the time of every token of this user is over. */
    expire(user) {
      for (const [key, payload] of rows) {
        const model = key.slice(0, key.indexOf(':'));
        if (OF_A_GRANT.has(model) && payload.accountId === user) payload.exp = Math.floor(Date.now() / 1000) - 1;
      }
    },
    save(signingKey) {
      if (file) fs.writeFileSync(file, JSON.stringify({ signingKey, rows: [...rows] }), { mode: 0o600 });
    },
  };
};
