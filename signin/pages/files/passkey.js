// The Web Authentication API in the server's JSON: bytes are base64url.

function bytes(text) {
  const s = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(s, (c) => c.charCodeAt(0));
}

function text(buffer) {
  let s = '';
  for (const b of new Uint8Array(buffer)) s += String.fromCharCode(b);
  return btoa(s).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

const descriptors = (all) => (all ?? []).map((c) => ({ ...c, id: bytes(c.id) }));

function answer(c, response) {
  const out = { id: c.id, rawId: text(c.rawId), type: c.type, clientExtensionResults: {}, response };
  if (c.authenticatorAttachment) out.authenticatorAttachment = c.authenticatorAttachment;
  return out;
}

// possible: the browser has passkeys, and this is an address where they work.
export const possible = () => typeof PublicKeyCredential === 'function' && isSecureContext;

// sign has a passkey answer a question.
export async function sign(options) {
  const o = options.publicKey;
  const publicKey = { ...o, challenge: bytes(o.challenge), allowCredentials: descriptors(o.allowCredentials) };
  const c = await navigator.credentials.get({ publicKey });
  const r = c.response;
  const response = { clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature) };
  if (r.userHandle) response.userHandle = text(r.userHandle);
  return answer(c, response);
}

// make makes a passkey.
export async function make(options) {
  const o = options.publicKey;
  const publicKey = { ...o, challenge: bytes(o.challenge), user: { ...o.user, id: bytes(o.user.id) }, excludeCredentials: descriptors(o.excludeCredentials) };
  const c = await navigator.credentials.create({ publicKey });
  const r = c.response;
  const response = { clientDataJSON: text(r.clientDataJSON), attestationObject: text(r.attestationObject) };
  if (r.getTransports) response.transports = r.getTransports();
  return answer(c, response);
}
