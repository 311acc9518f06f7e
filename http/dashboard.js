// Polls /slo/status and /slo/alerts every two seconds and /ready and the log's fill beside them. Text only ever enters
// the page as text nodes, so a service's name cannot become markup. Where the server asks for an API key, a
// field appears; the key stays in this tab's session storage and goes to this server only.
'use strict';

const POLL_MS = 2000;
const ALERTS_SHOWN = 20;
const byId = (id) => document.getElementById(id);
const WORDS = { healthy: 'healthy', at_risk: 'at risk', violated: 'violated', no_data: 'no data' };

const number = (value, digits) =>
  typeof value === 'number' ? value.toLocaleString('en', { maximumFractionDigits: digits }) : 'no data';
const percent = (value, digits) =>
  typeof value === 'number' ? (value * 100).toFixed(digits) + ' %' : 'no data';

function cell(row, text, name) {
  const td = document.createElement('td');
  td.textContent = text;
  if (name) td.className = name;
  row.append(td);
}

function serviceRows(service) {
  const objectives = service.objectives && service.objectives.length ? service.objectives : [{}];
  return objectives.map((objective) => {
    const row = document.createElement('tr');
    const head = document.createElement('th');
    const burn = objective.burn_rate || {};
    const health = objective.health; // its own: one broken objective does not blame the other
    head.scope = 'row';
    head.className = 'name';
    head.textContent = service.service;
    row.append(head);
    cell(row, objective.type || '-');
    cell(row, WORDS[health] || health || '-', health);
    cell(row, percent(objective.attained, 3), 'n');
    cell(row, percent(objective.target, 3), 'n');
    cell(row, percent(objective.error_budget_remaining, 1), 'n');
    for (const window of ['5m', '1h', '6h', '3d']) cell(row, number(burn[window], 2), 'n');
    cell(row, number((service.latency_ms || {}).p99, 1), 'n');
    cell(row, number(service.total, 0), 'n');
    return row;
  });
}

function showStatus(status) {
  const services = status.services || [];
  const rows = services.flatMap(serviceRows);
  byId('health').textContent = WORDS[status.health] || status.health;
  byId('health').className = status.health;
  byId('count').textContent = number(services.length, 0);
  byId('pending').textContent = number(status.pending_events, 0);
  byId('as-of').textContent = when(status.as_of);
  if (rows.length) byId('rows').replaceChildren(...rows);
  return status.degraded ? 'Degraded: the database is away, events wait in the log' : 'Live';
}

const when = (text) => String(text).replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC');

function alertItem(alert) {
  const item = document.createElement('li');
  const severity = document.createElement('span');
  const since = document.createElement('span');
  severity.className = alert.severity;
  severity.textContent = alert.severity;
  since.className = 'when';
  since.textContent = ' (' + alert.objective + ', since ' + when(alert.since) + ')';
  item.append(severity, ' ' + alert.summary, since);
  return item;
}

// The list changes with every poll; what is read aloud only when another alert begins or ends.
function showAlerts(alerts) {
  const firing = alerts.alerts || [];
  const names = firing.map((a) => a.severity + ' ' + a.service + ' ' + a.objective).join(', ');
  const said = firing.length ? firing.length + ' firing: ' + names : 'No alert fires';
  byId('alerts').hidden = !firing.length;
  byId('alert-list').replaceChildren(...firing.slice(0, ALERTS_SHOWN).map(alertItem));
  if (firing.length > ALERTS_SHOWN) {
    const more = document.createElement('li');
    more.textContent = 'and ' + (firing.length - ALERTS_SHOWN) + ' more';
    byId('alert-list').append(more);
  }
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

async function get(path) {
  const key = path.startsWith('/slo/') && sessionStorage.getItem(KEY);
  const answer = await fetch(path, {
    cache: 'no-store',
    headers: key ? { 'X-API-Key': key } : {},
    signal: AbortSignal.timeout(POLL_MS * 2),
  });
  if (answer.status === 401 || answer.status === 403) {
    throw new KeyNeeded(key ? 'This key does not open this page' : 'This server asks for an API key');
  }
  if (!answer.ok && path !== '/ready') throw new Error(path + ' answered ' + answer.status);
  return answer;
}

async function poll() {
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
    if (error instanceof KeyNeeded) byId('access').hidden = false;
    say(error instanceof KeyNeeded ? error.message : 'No answer from the server: ' + error.message, true);
  }
  clearTimeout(timer); // of a poll that ran beside this one
  timer = setTimeout(poll, POLL_MS);
}

byId('access').addEventListener('submit', useKey);
poll();
