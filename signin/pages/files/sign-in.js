import { leave, left, next, post, takeAttempt } from './api.js';
import { $, clicks, doing, say, show, submits, taken } from './dom.js';
import { possible, sign } from './passkey.js';
import { begin } from './proof.js';

const brought = takeAttempt();
const attempt = left() ? brought : '';
const done = () => { location.replace(next()); };
const goOn = (body) => post('/api/v1/sign-in/continue', body);

submits('start-form', async () => {
  const body = { address: $('address').value.trim(), password: $('password').value, kind: 'browser' };
  const organisation = $('organisation').value.trim();
  if (organisation) body.organisation = organisation;
  const step = await post('/api/v1/sign-in', body);
  taken('password');
  await begin(step, goOn, done);
});

clicks('with-passkey', async () => {
  const step = await post('/api/v1/sign-in', { passkey: true, kind: 'browser' });
  const assertion = await sign(step.question);
  await begin(await goOn({ attempt: step.attempt, do: 'prove', assertion }), goOn, done);
});

clicks('with-provider', async () => {
  const address = $('address').value.trim();
  if (!address) {
    say('Enter your e-mail address first: it says which organisation is yours.');
    $('address').focus();
    return;
  }
  const { redirect_url: to } = await post('/api/v1/sso/start', { address, return_to: next() });
  if (!to) {
    say('No organisation has set up a provider for this address. Sign in with your password, or with a passkey.');
    return;
  }
  const url = new URL(to);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new Error('no address of a provider');
  leave();
  location.assign(url.href);
});

$('with-passkey').hidden = !possible();
show('start');
const why = new URLSearchParams(location.search).get('why');
if (brought && !attempt) say('This sign-in was not begun here. Begin again.');
if (why === 'ended') say('You are not signed in any more. Sign in again.');
if (why === 'out') say('You are signed out.', true);
// A provider has proved who it is, and more is wanted.
if (attempt) doing(async () => begin({ attempt, ...await goOn({ attempt, do: 'look' }) }, goOn, done));
