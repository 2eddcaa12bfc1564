import { call, post, Problem, takeLink } from './api.js';
import { $, clicks, doing, el, say, show, shownPassword, taken } from './dom.js';
import { begin, forget, keepOnly, kindOf, naming } from './proof.js';

// A link that was mailed to a new address wants its owner signed in. On the way there it is kept in this tab alone.
const kept = 'avouch-address-link';
const link = takeLink();
if (link) sessionStorage.setItem(kept, link);

let session = null;
let factors = [];

const away = (why) => { location.replace(`/sign-in?why=${why}&next=/account`); };

// read asks for something of the account; without a session the way is to sign in.
async function read(path) {
  try {
    return await call('GET', path);
  } catch (err) {
    if (err instanceof Problem && err.status === 401) away('ended');
    throw err;
  }
}

// act does what may want a fresh proof: then that is asked for first, and it is done again.
function act(fn) {
  return doing(async () => {
    try {
      await fn();
    } catch (err) {
      if (!(err instanceof Problem) || !err.wantsProof) {
        if (err instanceof Problem && err.status === 401) away('ended');
        throw err;
      }
      await prove(() => act(fn));
    }
  });
}

async function prove(then) {
  const ask = (body) => post('/api/v1/session/prove', body);
  const step = await ask({ do: 'begin' });
  $('dialog').showModal();
  await begin(step, ask, () => {
    shut();
    setTimeout(then); // after this is over: one thing is done at a time
  });
}

function shut() {
  forget();
  if ($('dialog').open) $('dialog').close();
}
$('dialog').addEventListener('close', () => { say(''); forget(); });

// sure asks whether it is meant.
function sure(title, text, yes, fn) {
  $('sure-title').textContent = title;
  $('sure-text').textContent = text;
  $('sure-yes').textContent = yes;
  $('sure-yes').onclick = () => { shut(); act(fn); };
  $('dialog').showModal();
  show('sure');
  $('sure-no').focus();
}
$('sure-no').addEventListener('click', shut);

const when = (t) => el('time', { datetime: t }, new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(t)));

// program is what people call what a client says that it is.
function program(agent) {
  const find = (all) => all.find(([pattern]) => pattern.test(agent))?.[1];
  const browser = find([[/Edg/, 'Edge'], [/Firefox\//, 'Firefox'], [/OPR\//, 'Opera'], [/Chrom(e|ium)\//, 'Chrome'], [/Safari\//, 'Safari']]);
  const system = find([[/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Windows/, 'Windows'], [/Mac OS X/, 'macOS'], [/CrOS/, 'ChromeOS'], [/Linux/, 'Linux']]);
  return browser ? `${browser}${system ? ` on ${system}` : ''}` : agent.slice(0, 80);
}

const button = (text, fn, attributes = {}) => el('button', { type: 'button', click: fn, ...attributes }, text);

function facts(rows) {
  return rows.filter(([, v]) => v).flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, v)]);
}

async function who() {
  session = await read('/api/v1/session');
  const me = await read('/api/v1/me');
  $('me').replaceChildren(...facts([
    ['Name', me.name], ['E-mail address', me.address], ['Organisation', el('code', {}, session.tenant_id)], ['Roles', (session.roles ?? []).join(', ')],
    ['Proved', when(session.proved_at)], ['Signed in until', when(session.expires_at)],
  ]));
  $('username').value = me.address ?? '';
}

async function listFactors() {
  const all = await read('/api/v1/factors');
  factors = all.factors ?? [];
  $('my-factors').replaceChildren(...factors.map((f) => el('li', {},
    el('div', { class: 'what' }, el('strong', {}, naming(f), f.hardware ? el('span', { class: 'tag' }, 'hardware') : ''),
      el('span', {}, f.name ? `${kindOf(f)} · ` : '', f.hint ? `codes go to ${f.hint} · ` : '', 'added ', when(f.created_at), f.used_at ? ', used ' : ', not used yet', f.used_at ? when(f.used_at) : '')),
    el('div', { class: 'row' },
      button('Rename', () => rename(f), { 'aria-label': `Rename ${naming(f)}` }),
      button('Remove', () => remove(f), { 'aria-label': `Remove ${naming(f)}` })))));
  if (factors.length === 0) $('my-factors').replaceChildren(el('li', {}, 'You have none. Add one, so that a stolen password does not suffice.'));
  const left = all.recovery_codes ?? 0;
  $('new-codes').hidden = factors.length === 0;
  $('codes-left').textContent = factors.length === 0 ? '' : left === 0 ? 'You have no recovery codes. Make some, in case you lose your factor.' : `${left} recovery ${left === 1 ? 'code is' : 'codes are'} left.`;
  session.kinds = (all.allowed ?? ['passkey', 'totp', 'email', 'sms']).filter((k) => (k !== 'sms' || all.texts !== false) && ((k !== 'passkey' && k !== 'hardware') || all.passkeys !== false));
}

async function listSessions() {
  const { sessions = [] } = await read('/api/v1/sessions');
  $('my-sessions').replaceChildren(...sessions.map((s) => el('li', {},
    el('div', { class: 'what' }, el('strong', {}, s.device || program(s.program ?? '') || 'A program', s.current ? el('span', { class: 'tag' }, 'this one') : ''),
      el('span', {}, s.kind === 'program' ? 'Program · ' : '', s.address ? `${s.address} · ` : '', 'seen ', when(s.seen_at), ', since ', when(s.created_at))),
    s.current ? '' : button('End', () => act(async () => {
      await post(`/api/v1/sessions/${encodeURIComponent(s.session_id)}/end`);
      await listSessions();
      say('The session is ended.', true);
    }), { 'aria-label': `End the session of ${s.device || program(s.program ?? '')}` }))));
  $('end-others').hidden = sessions.length < 2;
}

// fresh: a proof that lasts until a new factor is confirmed. The server decides; this only asks early enough.
const fresh = () => Date.now() - Date.parse(session.proved_at) < 2 * 60e3;

// add adds a factor, over the routes that belong to the account.
function add() {
  return doing(async () => {
    if (!fresh()) {
      await prove(async () => { await doing(who); add(); });
      return;
    }
    $('dialog').showModal();
    await begin({ state: 'enrol', kinds: session.kinds }, async ({ do: what, factor, ...body }) => {
      if (what === 'enrol') return { enrolment: await post('/api/v1/factors', body) };
      await post(`/api/v1/factors/${encodeURIComponent(factor)}/confirm`, body);
      return { state: 'confirmed' };
    }, async () => {
      shut();
      await listFactors();
      say('The factor is added.', true);
    });
  });
}

function rename(f) {
  $('rename').value = f.name ?? '';
  $('rename-form').onsubmit = (e) => {
    e.preventDefault();
    const name = $('rename').value.trim();
    shut();
    act(async () => {
      await call('PATCH', `/api/v1/factors/${encodeURIComponent(f.factor_id)}`, { name }, { 'If-Match': `"${f.version}"` });
      await listFactors();
    });
  };
  $('dialog').showModal();
  show('rename');
}

function remove(f) {
  sure(`Remove ${naming(f)}?`, factors.length === 1 ? 'It is your only factor: the recovery codes go with it.' : 'It is not asked for any more.', 'Remove', async () => {
    await call('DELETE', `/api/v1/factors/${encodeURIComponent(f.factor_id)}`);
    await listFactors();
    say('The factor is removed.', true);
  });
}

$('add-factor').addEventListener('click', add);
$('new-codes').addEventListener('click', () => sure('New recovery codes?', 'The ones before work no longer.', 'Make new ones', async () => {
  const { recovery_codes: codes } = await post('/api/v1/recovery-codes');
  $('dialog').showModal();
  keepOnly(codes, async () => {
    shut();
    await listFactors();
  });
}));
$('end-others').addEventListener('click', () => sure('End all other sessions?', 'Whoever uses them must sign in again: browsers and programs.', 'End them', async () => {
  await post('/api/v1/sessions/end-others');
  await listSessions();
  say('All other sessions are ended.', true);
}));
clicks('sign-out', async () => {
  await post('/api/v1/sign-out');
  away('out');
});
$('sign-out').hidden = false;

$('password-form').addEventListener('submit', (e) => {
  e.preventDefault();
  const old = $('old-password').value;
  const anew = $('new-password').value;
  act(async () => {
    await call('PUT', '/api/v1/password', { ...(old ? { old } : {}), new: anew });
    taken('old-password');
    taken('new-password');
    await listSessions();
    say('The password is changed. All other sessions are ended.', true);
  });
});
$('address-form').addEventListener('submit', (e) => {
  e.preventDefault();
  const address = $('new-address').value.trim();
  act(async () => {
    await post('/api/v1/address', { address });
    taken('new-address');
    say(`A link is on its way to ${address}. The address is yours when you have opened it.`, true);
  });
});

shownPassword();
doing(async () => {
  await who();
  $('account').hidden = false;
  await Promise.all([listFactors(), listSessions()]);
  if (new URLSearchParams(location.search).get('why') === 'proved') {
    history.replaceState(null, '', location.pathname);
    say('You have proved yourself again. Go on with what you wanted to do: you have five minutes.', true);
  }
  const mailed = sessionStorage.getItem(kept);
  if (!mailed) return;
  sessionStorage.removeItem(kept);
  await post('/api/v1/address/confirm', { link: mailed });
  await who();
  say('The address is yours now.', true);
});
