// Calls of the API, and what they fail with.

// Problem is a refusal: what the server says is for people, and is only ever shown as text.
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    const text = (v) => (typeof v === 'string' ? v : '');
    super(text(body.detail) || text(body.title) || 'Something went wrong. Try again.');
    this.status = status;
    this.errors = Array.isArray(body.errors) ? body.errors.map((e) => ({ at: text(e?.location), says: text(e?.message) })) : [];
    this.request = text(body.request_id);
    this.retryAfter = retryAfter;
  }

  // wantsProof: the session is there, and its last proof is too old for this.
  get wantsProof() { return this.status === 403 && this.message.startsWith('Prove yourself again'); }

  // shown is all of it for a person.
  get shown() {
    const lines = [this.message, ...this.errors.map((e) => e.says)];
    if (this.retryAfter > 0) lines.push(`Try again in ${this.retryAfter < 120 ? `${this.retryAfter} seconds` : `${Math.ceil(this.retryAfter / 60)} minutes`}.`);
    if (this.status >= 500 && this.request) lines.push(`Request ${this.request}`);
    return [...new Set(lines.filter(Boolean))].join('\n');
  }
}

// call asks the server, and gives what it answers: an object, or null if there is nothing in the answer.
export async function call(method, path, body, headers = {}) {
  let res;
  try {
    res = await fetch(path, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { Accept: 'application/json', ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
      credentials: 'same-origin', cache: 'no-store', redirect: 'error', referrerPolicy: 'no-referrer',
    });
  } catch {
    throw new Problem(0, { detail: 'The server cannot be reached. Check your connection, and try again.' }, 0);
  }
  const text = await res.text().catch(() => '');
  let answer = null;
  try { answer = text === '' ? null : JSON.parse(text); } catch { answer = null; }
  if (res.ok) return answer;
  throw new Problem(res.status, answer ?? {}, Number(res.headers.get('Retry-After')) || 0);
}

export const post = (path, body) => call('POST', path, body);

// behind takes what stands behind the # out of the address, before anything else can see it: a secret there is in no request, no
// history and no referrer.
function behind() {
  const text = location.hash.slice(1);
  if (text !== '') history.replaceState(null, '', location.pathname + location.search);
  return new URLSearchParams(text);
}

const secret = (text) => (/^[A-Za-z0-9_-]{1,128}$/.test(text ?? '') ? text : '');

// takeLink is the secret of a mailed link.
export const takeLink = () => secret(behind().get('link'));

// takeAttempt is the secret of a sign-in that a provider's answer began.
export const takeAttempt = () => secret(behind().get('attempt'));

// A browser that comes back from a provider has gone there in this tab. Else whoever makes a link to here could have somebody go on with
// a sign-in that is not theirs: set up a factor for a stranger's account, and work in it.
const away = 'avouch.away';
export const leave = () => { sessionStorage.setItem(away, 'provider'); };
export function left() {
  const was = sessionStorage.getItem(away) !== null;
  sessionStorage.removeItem(away);
  return was;
}

// next is where to go after signing in: a page of this site, whoever made the link to here.
export function next() {
  const wanted = new URLSearchParams(location.search).get('next') ?? '';
  try {
    const to = new URL(wanted, location.origin);
    const path = to.pathname + to.search; // without its dots, after which two slashes may be left: those would name another site
    if (/^\/[^/\\]/.test(wanted) && /^\/(?![/\\])/.test(path) && to.origin === location.origin && to.username === '') return path;
  } catch { /* it is none */ }
  return '/account';
}
