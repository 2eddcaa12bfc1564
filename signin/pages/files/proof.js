// How somebody proves a factor, or sets up one: the steps that all pages share.
import { post } from './api.js';
import { $, clicks, doing, el, say, show, submits, taken } from './dom.js';
import { make, possible, sign } from './passkey.js';
import { drawn } from './qr.js';

const called = { totp: 'Authenticator app', email: 'Code by e-mail', sms: 'Code by text message', passkey: 'Passkey' };

// naming is what a factor is called in a list.
export const naming = (f) => f.name || called[f.kind] || 'Factor';
export const kindOf = (f) => called[f.kind] ?? f.kind;

// One proof is under way at a time: send asks the server to go on with it, done gets its last step.
let now = null;

// begin goes on with what the server said first. ask(body) goes on from there; done(step) is called in the end.
export function begin(step, ask, done) {
  now = { ask, done, attempt: '', factors: [], left: 0, factor: null, enrolment: null, kind: '', name: '' };
  return arrive(step);
}

async function send(body) {
  if (now === null) return null;
  return now.ask({ ...(now.attempt ? { attempt: now.attempt } : {}), ...body });
}

// arrive shows what is wanted next.
async function arrive(step) {
  if (step.attempt) now.attempt = step.attempt;
  if (Array.isArray(step.recovery_codes) && step.recovery_codes.length > 0) {
    await keep(step.recovery_codes);
    return;
  }
  switch (step.state) {
    case 'factor':
      now.connection = step.connection_id ?? '';
      if (step.password && !now.connection) {
        show('password-again');
        return;
      }
      now.factors = step.factors ?? [];
      now.left = step.recovery_codes_left ?? 0;
      choose();
      return;
    case 'enrol':
      enrol(step.kinds ?? (await send({ do: 'look' })).kinds);
      return;
    default:
      await finish(step);
  }
}

async function finish(step) {
  const { done } = now;
  now = null;
  await done(step);
}

function choose() {
  show('factors');
  $('factors').replaceChildren(...now.factors.filter((f) => f.kind !== 'passkey' || possible()).map((f) => el('li', {},
    el('button', { type: 'button', click: () => doing(() => ask(f)) }, el('strong', {}, naming(f)), el('span', {}, about(f))))));
  $('use-recovery').hidden = now.left < 1;
  $('use-provider').hidden = !now.connection;
  $('factors-why').textContent = now.connection ? `Your organisation's provider signed you in: it can ask you again, and brings you back here.${now.factors.length > 0 ? ' Or prove one of your factors.' : ''}`
    : 'What you have proved so far is not enough here. Choose how to go on.';
}

// away has the provider prove anew who it is, and comes back to this page, which says so.
async function away() {
  const { redirect_url: to } = await post('/api/v1/sso/prove', { connection_id: now.connection, return_to: `${location.pathname}?why=proved` });
  const url = new URL(to);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new Error('no address of a provider');
  location.assign(url.href);
}

function about(f) {
  if (f.kind === 'email' || f.kind === 'sms') return f.hint ? `Sends a code to ${f.hint}` : 'Sends you a code';
  return f.name ? called[f.kind] : f.kind === 'totp' ? 'The code that your app shows' : 'This device, your phone, or a security key';
}

// ask puts the question of a factor.
async function ask(f) {
  now.factor = f;
  const step = await send({ do: 'ask', factor: f.id });
  if (f.kind === 'passkey') {
    await passkey(step);
    return;
  }
  $('code').value = '';
  $('code-where').textContent = f.kind === 'totp' ? 'Your authenticator app shows it.' : `It was sent to ${step?.sent_to || f.hint || 'you'}. It may take a minute.`;
  $('code-again').hidden = f.kind === 'totp';
  show('code');
}

// passkey has the browser answer. A browser may want a click for it: then there is a button.
async function passkey(step) {
  show('passkey');
  now.question = step.question;
  await signed();
}

async function signed() {
  const assertion = await sign(now.question);
  await arrive(await send({ do: 'prove', ...(now.factor ? { factor: now.factor.id } : {}), assertion }));
}

function enrol(kinds) {
  for (const b of document.querySelectorAll('[data-enrol]')) {
    const kind = b.dataset.enrol;
    b.parentElement.hidden = (Array.isArray(kinds) && !kinds.includes(kind) && !(kind === 'passkey' && kinds.includes('hardware'))) || (kind === 'passkey' && !possible());
  }
  now.kinds = kinds;
  show('enrol');
}

function name(kind) {
  now.kind = kind;
  $('enrol-name').value = '';
  $('enrol-number').value = '';
  $('enrol-number-field').hidden = kind !== 'sms';
  $('enrol-number').required = kind === 'sms';
  show('enrol-name');
}

async function named() {
  const body = { do: 'enrol', kind: now.kind, name: $('enrol-name').value.trim() };
  if (now.kind === 'sms') body.to = $('enrol-number').value.trim();
  const step = await send(body);
  if (step.attempt) now.attempt = step.attempt;
  const e = step.enrolment ?? step;
  now.enrolment = e;
  if (now.kind === 'totp') {
    seed(e);
  } else if (now.kind === 'passkey') {
    show('enrol-passkey');
  } else {
    now.factor = null;
    $('code').value = '';
    $('code-where').textContent = `It was sent to ${e.sent_to || step.sent_to || 'you'}. It may take a minute.`;
    $('code-again').hidden = true;
    show('code');
  }
}

// seed shows the key of an authenticator app, as a picture and as text.
function seed(e) {
  $('totp-secret').textContent = e.secret.replace(/\s/g, '').replace(/(.{4})(?=.)/g, '$1 ');
  const uri = /^otpauth:\/\/totp\//.test(e.uri ?? '') ? e.uri : '';
  const picture = uri && drawn(uri);
  $('qr').replaceChildren(...(picture ? [picture] : []));
  $('qr').hidden = !picture;
  $('totp-link').hidden = !uri;
  if (uri) $('totp-link').href = uri;
  $('totp-code').value = '';
  show('enrol-totp');
}

// unseed takes the key out of the page again.
function unseed() {
  if (!$('totp-secret')) return;
  $('totp-secret').textContent = '';
  $('qr').replaceChildren();
  $('totp-link').removeAttribute('href');
}

async function confirm(body) {
  const factor = now.enrolment?.id ?? now.enrolment?.factor_id;
  const step = await send({ do: 'confirm', ...(factor ? { factor } : {}), ...body });
  unseed();
  await arrive(step ?? { state: 'confirmed' });
}

// code is the code of a factor that there is, or of one that is being set up.
async function code() {
  const given = taken('code').replace(/\s/g, '');
  if (now.factor === null) await confirm({ code: given });
  else await arrive(await send({ do: 'prove', factor: now.factor.id, code: given }));
}

let file = '';

// keep shows recovery codes until they were kept. What comes then has been granted already.
export function keep(codes) {
  $('recovery-codes').replaceChildren(...codes.map((c) => el('li', {}, c)));
  const text = `Recovery codes of ${location.host}. Each works once.\n\n${codes.join('\n')}\n`;
  URL.revokeObjectURL(file);
  file = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
  $('codes-save').href = file;
  $('codes-kept').checked = false;
  now.codes = codes;
  show('recovery-codes');
}

// keepOnly shows new recovery codes where nothing else is under way.
export function keepOnly(codes, done) {
  now = { done };
  keep(codes);
}

// forget drops a proof that was given up, and what it showed.
export function forget() {
  now = null;
  unseed();
  $('recovery-codes')?.replaceChildren();
  for (const id of ['code', 'recovery-code', 'again', 'totp-code']) if ($(id)) $(id).value = '';
}

submits('code-form', code);
submits('recovery-form', async () => arrive(await send({ do: 'prove', recovery_code: taken('recovery-code').trim() })));
submits('again-form', async () => arrive(await send({ do: 'prove', password: taken('again') })));
submits('enrol-form', named);
submits('totp-form', () => confirm({ code: taken('totp-code').replace(/\s/g, '') }));
submits('codes-form', async () => {
  $('recovery-codes').replaceChildren();
  URL.revokeObjectURL(file);
  $('codes-save').removeAttribute('href');
  await finish({ state: 'signed_in' });
});
clicks('codes-copy', async () => {
  await navigator.clipboard.writeText(now.codes.join('\n'));
  say('Copied. Paste them somewhere safe.', true);
});
clicks('passkey-go', signed);
clicks('passkey-make', async () => confirm({ credential: await make(now.enrolment.options) }));
clicks('code-again', () => ask(now.factor));
$('use-provider')?.querySelector('button').addEventListener('click', () => doing(away));
$('use-recovery')?.querySelector('button').addEventListener('click', () => { $('recovery-code').value = ''; show('recovery'); });
for (const b of document.querySelectorAll('[data-back]')) b.addEventListener('click', () => { if (now?.enrolment) enrol(now.kinds); else if (now) choose(); });
for (const b of document.querySelectorAll('[data-enrol-back]')) b.addEventListener('click', () => { if (now) enrol(now.kinds); });
for (const b of document.querySelectorAll('[data-enrol]')) b.addEventListener('click', () => { if (now) name(b.dataset.enrol); });
