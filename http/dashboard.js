// Polls /slo/status and /slo/alerts every two seconds and /ready and the log's fill beside them. Text only ever enters
// the page as text nodes, so a service's name cannot become markup, and names are isolated, so a right-to-left
// one turns nothing around but itself. Where the server asks for an API key, a field appears; the key stays in
// this tab's session storage and goes to this server only. /?tenant=NAME shows another tenant, as in the API.
'use strict';

const POLL_MS = 2000;
const ALERTS_SHOWN = 20;
const COLUMNS = ['Objective', 'Health', 'Attained', 'Target', 'Budget left', 'Burn 5m', 'Burn 1h', 'Burn 6h', 'Burn 3d', 'p99 ms', 'Events'];
const byId = (id) => document.getElementById(id);
const WORDS = { healthy: 'healthy', at_risk: 'at risk', violated: 'violated', no_data: 'no data' };
const TENANT = new URLSearchParams(location.search).get('tenant');

const number = (value, digits) =>
  typeof value === 'number' ? value.toLocaleString('en', { maximumFractionDigits: digits }) : 'no data';
const percent = (value, digits) =>
  typeof value === 'number' ? (value * 100).toFixed(digits) + ' %' : 'no data';

// Digits that tell TARGET (a fraction) from its neighbours, as a percentage.
const digitsOf = (target) => Math.max(3, String(Number(((target || 0) * 100).toFixed(7))).split('.').concat('')[1].length + 1);

// Cut off, not rounded: 100 % is said of nothing that failed. The share of a unit covers binary fractions.
const attained = (value, digits) =>
  typeof value === 'number' ? (Math.floor(value * 10 ** (digits + 2) + 1e-4) / 10 ** digits).toFixed(digits) + ' %' : 'no data';

function element(kind, text, name) {
  const node = document.createElement(kind);
  node.textContent = text;
  if (name) node.className = name;
  return node;
}

function objectiveText(objective) {
  const limit = objective.threshold_ms === undefined ? '' : ' \u2264 ' + number(objective.threshold_ms, 3) + ' ms';
  return objective.type ? objective.type + limit + ', ' + objective.window : '-';
}

function objectiveRow(service, objective) {
  const row = document.createElement('tr');
  const burn = objective.burn_rate || {};
  const digits = digitsOf(objective.target);
  const total = objective.good === undefined ? service.total : objective.good + objective.bad;
  row.append(
    element('td', objectiveText(objective), 'objective'),
    element('td', WORDS[objective.health] || objective.health || '-', objective.health), // one broken objective does not blame the other
    element('td', attained(objective.attained, digits), 'n'),
    element('td', percent(objective.target, digits), 'n'),
    element('td', percent(objective.error_budget_remaining, 1), 'n'),
    ...['5m', '1h', '6h', '3d'].map((window) => element('td', number(burn[window], 2), 'n')),
    element('td', number((service.latency_ms || {}).p99, 1), 'n'),
    element('td', number(total, 0), 'n'));
  [...row.cells].forEach((cell, i) => { cell.dataset.column = COLUMNS[i]; }); // shown where the head has no room
  return row;
}

function serviceRows(service) {
  const objectives = service.objectives && service.objectives.length ? service.objectives : [{}];
  const body = document.createElement('tbody');
  const head = element('th', service.service, 'name');
  head.scope = 'rowgroup';
  head.rowSpan = objectives.length;
  body.append(...objectives.map((objective) => objectiveRow(service, objective)));
  body.rows[0].prepend(head);
  return body;
}

function noServices() {
  const body = document.createElement('tbody');
  const cell = body.insertRow().insertCell();
  cell.colSpan = COLUMNS.length + 1;
  cell.className = 'none';
  cell.textContent = 'No services yet';
  return body;
}

function showStatus(status) {
  const services = status.services || [];
  const table = byId('services');
  byId('health').textContent = WORDS[status.health] || status.health;
  byId('health').className = status.health;
  byId('count').textContent = number(services.length, 0);
  byId('pending').textContent = number(status.pending_events, 0);
  byId('as-of').textContent = when(status.as_of);
  table.replaceChildren(table.caption, table.tHead, ...(services.length ? services.map(serviceRows) : [noServices()]));
  return status.degraded ? 'Degraded: the database is away, events wait in the log' : 'Live';
}

const when = (text) => String(text).replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC');

function alertItem(alert) {
  const item = document.createElement('li');
  const named = alert.summary.startsWith(alert.service + ':');
  item.append(element('span', alert.severity, alert.severity), ' ',
    element('bdi', named ? alert.service : ''), named ? alert.summary.slice(alert.service.length) : alert.summary,
    element('span', ' (' + alert.objective + ', since ' + when(alert.since) + (alert.no_data ? '; no events now' : '') + ')', 'when'));
  return item;
}

// The list changes with every poll; what is read aloud only when another alert begins or ends.
function showAlerts(alerts) {
  const firing = alerts.alerts || [];
  const names = firing.map((a) => a.severity + ' ' + a.service + ' ' + a.objective).join(', ');
  const said = firing.length ? firing.length + ' firing: ' + names : 'No alert fires';
  byId('firing').textContent = number(firing.length, 0);
  byId('firing').className = firing.length ? 'violated' : '';
  byId('alerts').hidden = !firing.length;
  byId('alert-list').replaceChildren(...firing.slice(0, ALERTS_SHOWN).map(alertItem));
  if (firing.length > ALERTS_SHOWN) byId('alert-list').append(element('li', 'and ' + (firing.length - ALERTS_SHOWN) + ' more'));
  if (byId('alerts-said').textContent !== said) byId('alerts-said').textContent = said;
}

function sample(text, name) {
  const line = text.split('\n').find((l) => l.startsWith(name + ' '));
  return line ? Number(line.slice(name.length + 1)) : NaN;
}

function showLog(text) {
  const fill = sample(text, 'sluice_wal_bytes') / sample(text, 'sluice_wal_bytes_limit');
  byId('fill').textContent = Number.isFinite(fill) ? percent(fill, 1) : 'no data';
  byId('meter').value = Number.isFinite(fill) ? fill : 0;
}

function say(text, bad) {
  const state = byId('state');
  if (state.textContent !== text) state.textContent = text;
  state.classList.toggle('bad', bad);
}

class KeyNeeded extends Error {}

const KEY = 'sluice.key';
let timer = 0;

function useKey(event) {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId('key').value.trim());
  byId('key').value = '';
  clearTimeout(timer);
  poll();
}

async function refusal(answer, key) {
  const problem = await answer.json().catch(() => ({}));
  return new KeyNeeded((key ? 'This key does not open this page' : 'This server asks for an API key') +
    (key && problem.detail ? ': ' + problem.detail : ''));
}

async function get(path) {
  const own = path.startsWith('/slo/'); // of one tenant, so it may need a key
  const key = own && sessionStorage.getItem(KEY);
  const target = own && TENANT ? path + (path.includes('?') ? '&' : '?') + 'tenant=' + encodeURIComponent(TENANT) : path;
  const answer = await fetch(target, {
    cache: 'no-store',
    headers: key ? { 'X-API-Key': key } : {},
    signal: AbortSignal.timeout(POLL_MS * 2),
  });
  if (answer.status === 401 || answer.status === 403) throw await refusal(answer, key);
  if (!answer.ok && path !== '/ready') throw new Error(path + ' answered ' + answer.status);
  return answer;
}

async function poll() {
  let again = true;
  try {
    const text = showStatus(await (await get('/slo/status')).json());
    showAlerts(await (await get('/slo/alerts?state=firing')).json());
    const ready = await (await get('/ready')).json();
    const notReady = ready.status !== 'ready';
    byId('database').textContent = (ready.checks || {}).database || '-';
    showLog(await (await get('/metrics')).text());
    byId('access').hidden = !sessionStorage.getItem(KEY);
    say(notReady ? 'Not ready: ' + (ready.reasons || []).join(', ') : text,
      notReady || text.startsWith('Degraded'));
  } catch (error) {
    again = !(error instanceof KeyNeeded); // the same key will not do better
    if (!again) byId('access').hidden = false;
    say(error instanceof KeyNeeded ? error.message : 'No answer from the server: ' + error.message, true);
  }
  clearTimeout(timer); // of a poll that ran beside this one
  if (again) timer = setTimeout(poll, POLL_MS);
}

if (TENANT) {
  document.title = byId('title').textContent = 'Sluice: ' + TENANT;
  for (const link of document.querySelectorAll('footer a[href^="/slo/"]')) link.search = new URLSearchParams({ tenant: TENANT });
}
byId('access').addEventListener('submit', useKey);
poll();
