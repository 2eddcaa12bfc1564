import { post, takeLink } from './api.js';
import { $, doing, show, shownPassword, submits } from './dom.js';
import { begin } from './proof.js';

const link = takeLink();

submits('start-form', async () => {
  const step = await post('/api/v1/join', { do: 'join', link, name: $('name').value.trim(), password: $('new-password').value, kind: 'browser' });
  $('new-password').value = '';
  await begin(step, (body) => post('/api/v1/sign-in/continue', body), () => { location.replace('/account'); });
});

shownPassword();
if (link === '') {
  show('no-link');
} else {
  doing(async () => {
    let invited;
    try {
      invited = await post('/api/v1/join', { do: 'look', link });
    } catch (err) {
      show('no-link');
      throw err;
    }
    $('organisation').textContent = invited.organisation;
    $('address').textContent = invited.address;
    $('username').value = invited.address;
    $('name').value = invited.name ?? '';
    show('start');
  });
}
