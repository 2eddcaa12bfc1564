import { post, takeLink } from './api.js';
import { $, show, shownPassword, submits } from './dom.js';
import { begin } from './proof.js';

const link = takeLink();

submits('start-form', async () => {
  await post('/api/v1/recovery', { address: $('address').value.trim() });
  show('mailed');
});

submits('renew-form', async () => {
  const step = await post('/api/v1/recovery/finish', { link, password: $('new-password').value, kind: 'browser' });
  $('new-password').value = '';
  await begin(step, (body) => post('/api/v1/sign-in/continue', body), () => { location.replace('/account'); });
});

shownPassword();
show(link === '' ? 'start' : 'renew');
