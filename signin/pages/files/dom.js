// What the pages share of showing and asking. Text from elsewhere goes into textContent, and nowhere else.
import { Problem } from './api.js';

export const $ = (id) => document.getElementById(id);

// el makes an element. Its children are elements and texts.
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (typeof v === 'function') e.addEventListener(k, v); else if (v !== undefined) e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c !== undefined && c !== ''));
  return e;
}

// show shows one step and hides the others, and puts the focus where reading or typing goes on.
export function show(step) {
  say('');
  for (const s of document.querySelectorAll('[data-step]')) {
    s.hidden = s.dataset.step !== step;
    if (s.hidden) continue;
    const field = s.querySelector('input:not([type=checkbox]):not([hidden])');
    const at = field && field.offsetParent !== null ? field : s.querySelector('h1');
    at?.focus();
  }
}

const notice = () => ($('dialog')?.open ? $('dialog-notice') : $('notice'));

// say shows a sentence to everybody, also to who does not see it; '' takes it away.
export function say(text, good = false) {
  for (const n of [$('notice'), $('dialog-notice')]) {
    if (n && (text === '' || n !== notice())) n.hidden = true;
  }
  if (text === '') return;
  const n = notice();
  n.className = good ? 'notice ok' : 'notice';
  n.textContent = text;
  n.hidden = false;
  n.scrollIntoView({ block: 'nearest' });
}

// fail shows what went wrong, and nothing of what a fault of ours looks like inside.
export function fail(err) {
  if (err instanceof Problem) say(err.shown);
  else if (err?.name === 'NotAllowedError' || err?.name === 'AbortError') say('It was cancelled, or took too long. Try again.');
  else if (err?.name === 'InvalidStateError') say('This passkey is one of yours already.');
  else if (err?.name === 'SecurityError') say('Passkeys cannot be used at this address.');
  else say('Something went wrong in this page. Reload it, and try again.');
}

let busy = false;

// doing runs one thing at a time, with its buttons out of reach, and shows what fails.
export async function doing(fn) {
  if (busy) return;
  busy = true;
  const at = document.activeElement;
  const off = [...document.querySelectorAll('button')].filter((b) => !b.disabled && !b.closest('.close'));
  for (const b of off) b.disabled = true;
  try {
    await fn();
  } catch (err) {
    fail(err);
  } finally {
    busy = false;
    for (const b of off) b.disabled = false;
    // A button that was out of reach for a while has lost the focus: without it, people who use the keyboard are nowhere.
    if (document.activeElement === document.body && at?.checkVisibility?.()) at.focus();
  }
}

// submits makes a form run fn: it is never sent by the browser, and so what is in it never gets into an address.
export function submits(id, fn) {
  $(id)?.addEventListener('submit', (e) => {
    e.preventDefault();
    doing(fn);
  });
}

export function clicks(id, fn) { $(id)?.addEventListener('click', () => doing(fn)); }

// taken is the value of a field, which is emptied: a secret stays in the page no longer than it must.
export function taken(id) {
  const v = $(id).value;
  $(id).value = '';
  return v;
}

// shownPassword lets people see what they type.
export function shownPassword() {
  $('show-password')?.addEventListener('change', (e) => { $('new-password').type = e.target.checked ? 'text' : 'password'; });
}
