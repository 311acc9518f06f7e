// Renders /openapi.json and sends requests. Text only ever enters the page as text nodes. Requests go
// to this server alone; keys stay in their fields.
'use strict';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];
const byId = (id) => document.getElementById(id);
let spec = {};
let serial = 0;

// el('p.soft', {id: 'x'}, 'text', node): an element with attributes and children.
function el(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split('.');
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(' ');
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ''));
  return node;
}

// The thing an object points to, itself when it is no reference.
function follow(thing) {
  if (!thing || !thing.$ref) return thing || {};
  return thing.$ref.slice(2).split('/')
    .reduce((at, part) => at[part.replaceAll('~1', '/').replaceAll('~0', '~')], spec);
}

const lastPart = (ref) => ref.slice(ref.lastIndexOf('/') + 1);
const asText = (value) => (typeof value === 'string' ? value : JSON.stringify(value, null, 2));
const routeId = (method, path) => 'route-' + method + path.replaceAll('/', '-');

// `code` and empty lines are all the markup descriptions have.
function inline(text) {
  return text.split('`').map((part, i) => (i % 2 ? el('code', null, part) : part));
}

function paragraphs(text) {
  return (text || '').split('\n\n').filter(Boolean).map((part) => el('p', null, inline(part)));
}

function table(caption, heads, rows) {
  return el('div.scroll', { tabindex: 0, role: 'region', 'aria-label': caption },
    el('table', null, el('caption', null, caption),
      el('thead', null, el('tr', null, heads.map((head) => el('th', { scope: 'col' }, head)))),
      el('tbody', null, rows.map(([first, ...rest]) =>
        el('tr', null, el('th', { scope: 'row' }, first), rest.map((cell) => el('td', null, cell)))))));
}

// ---- schemas ----

function link(ref) {
  return el('a', { href: '#schema-' + lastPart(ref) }, lastPart(ref));
}

// A schema's type in a few words.
function typeOf(schema) {
  if (schema.$ref) return [link(schema.$ref)];
  for (const word of ['anyOf', 'oneOf', 'allOf']) {
    if (schema[word]) {
      const between = word === 'allOf' ? ' and ' : ' or ';
      return schema[word].flatMap((one, i) => [i ? between : '', ...typeOf(one)]);
    }
  }
  if (schema.const !== undefined) return [el('code', null, JSON.stringify(schema.const))];
  if (schema.enum) return schema.enum.flatMap((one, i) => [i ? ', ' : '', el('code', null, String(one))]);
  const types = [schema.type || 'any'].flat().join(' or ');
  return schema.items ? [types + ' of ', ...typeOf(schema.items)] : [types];
}

function limitsOf(schema) {
  const words = { minimum: '≥ ', maximum: '≤ ', exclusiveMinimum: '> ', exclusiveMaximum: '< ',
    minLength: 'length ≥ ', maxLength: 'length ≤ ', format: '', pattern: 'matches ' };
  return Object.keys(words).filter((key) => schema[key] !== undefined)
    .map((key) => words[key] + schema[key]).join(', ');
}

function members(schema, before) {
  return Object.entries(schema.properties || {}).flatMap(([name, member]) => {
    const needed = (schema.required || []).includes(name);
    const row = [
      [el('code', null, before + name), needed ? el('span.needed', null, ' required') : ''],
      typeOf(member),
      [limitsOf(member), member.description ? paragraphs(member.description) : ''],
    ];
    return [row, ...members(member, before + name + '.')];
  });
}

function showSchema(name, schema) {
  const rows = members(schema, '');
  return el('details.route', { id: 'schema-' + name },
    el('summary', null, el('h3', null, el('span.path', null, name))),
    el('div.inside', null, paragraphs(schema.description),
      rows.length
        ? table('Members of ' + name, ['Member', 'Type', 'Meaning'], rows)
        : el('p', null, typeOf(schema), limitsOf(schema) ? ' (' + limitsOf(schema) + ')' : ''),
      schema.additionalProperties === true && rows.length ? el('p.soft', null, 'Further members are allowed.') : ''));
}

// ---- a route ----

function examplesOf(content) {
  if (content.example !== undefined) return [['example', { value: content.example }]];
  return Object.entries(content.examples || {}).map(([name, example]) => [name, follow(example)]);
}

function showExamples(content) {
  return examplesOf(content).map(([name, example]) =>
    el('details.example', null,
      el('summary', null, name === 'example' ? 'Example' : 'Example: ' + name),
      el('pre', { tabindex: 0 }, asText(example.value))));
}

function parameterRows(parameters) {
  return parameters.map((p) => [
    [el('code', null, p.name), p.required ? el('span.needed', null, ' required') : ''],
    p.in, [...typeOf(p.schema || {}), ' ', limitsOf(p.schema || {})], paragraphs(p.description),
  ]);
}

function responseRows(responses) {
  return Object.entries(responses).sort(([a], [b]) => (a < b ? -1 : 1)).map(([status, given]) => {
    const response = follow(given);
    const headers = Object.keys(response.headers || {}).join(', ');
    return [el('code', null, status),
      [el('p', null, inline(response.description)), headers ? el('p.soft', null, 'Headers: ' + headers) : ''],
      Object.entries(response.content || {}).flatMap(([type, content]) => [
        el('p', null, el('code', null, type), ' ', content.schema && content.schema.$ref ? link(content.schema.$ref) : ''),
        ...(status === 'default' ? [] : showExamples(content)),
      ])];
  });
}

// ---- trying it ----

function field(name, input, hint) {
  input.id = 'field-' + ++serial;
  return el('div', null, el('label', { for: input.id }, name, hint ? el('span.soft', null, ' ' + hint) : ''), input);
}

function keysGiven() {
  return [...byId('keys').querySelectorAll('input')].filter((input) => input.value)
    .map((input) => [input.name, input.value]);
}

// What the form says, as fetch() wants it.
function readForm(method, path, inputs) {
  const query = new URLSearchParams();
  const headers = new Headers(keysGiven());
  for (const [p, input] of inputs.parameters) {
    if (p.in === 'path') path = path.replace('{' + p.name + '}', encodeURIComponent(input.value));
    else if (input.value && p.in === 'query') query.append(p.name, input.value);
    else if (input.value && p.in === 'header') headers.set(p.name, input.value);
  }
  if (inputs.accept && inputs.accept.value) headers.set('Accept', inputs.accept.value);
  if (inputs.body) headers.set('Content-Type', inputs.type.value);
  const target = path + (query.size ? '?' + query : '');
  return { target, options: { method: method.toUpperCase(), headers, body: inputs.body ? inputs.body.value : undefined } };
}

const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

function asCurl({ target, options }) {
  return ['curl -i' + (options.method === 'GET' ? '' : ' -X ' + options.method) + ' ' + quoted(location.origin + target),
    ...[...options.headers].map(([name, value]) => '-H ' + quoted(name + ': ' + value)),
    ...(options.body === undefined ? [] : ['--data-binary ' + quoted(options.body)])].join(' \\\n  ');
}

function pretty(text, type) {
  if (!/json/.test(type || '')) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function send(request, output) {
  const began = performance.now();
  const curl = el('details.example', null, el('summary', null, 'The same with curl'), el('pre', { tabindex: 0 }, asCurl(request)));
  try {
    const answer = await fetch(request.target, { ...request.options, cache: 'no-store' });
    const text = await answer.text();
    const took = Math.max(1, Math.round(performance.now() - began));
    output.replaceChildren(
      el('p', null, el('span', { class: 'status s' + String(answer.status)[0] }, answer.status + ' ' + answer.statusText),
        el('span.soft', null, ' in ' + took + ' ms')),
      text ? el('pre', { tabindex: 0, 'aria-label': 'Body of the answer' }, pretty(text, answer.headers.get('Content-Type'))) : el('p', null, 'No body.'),
      el('details.example', null, el('summary', null, 'Headers'),
        el('pre', { tabindex: 0 }, [...answer.headers].map((pair) => pair.join(': ')).join('\n'))),
      curl);
  } catch (error) {
    output.replaceChildren(el('p', null, el('span.status.s0', null, 'No answer: ' + error.message)), curl);
  }
}

function select(values) {
  return el('select', null, values.map(([value, text]) => el('option', { value }, text)));
}

// The body's type, an example to start from, and the text itself.
function bodyFields(body, inputs) {
  const content = Object.entries(body.content || {});
  const examples = content.flatMap(([type, one]) => examplesOf(one).map(([name, example]) => ({ type, name, ...example })));
  const choice = select(examples.map((example, i) => [String(i), example.summary || example.name]));
  const fill = () => {
    const example = examples[Number(choice.value)];
    inputs.type.value = example.type;
    inputs.body.value = asText(example.value);
    inputs.body.rows = Math.min(20, inputs.body.value.split('\n').length + 1);
  };
  inputs.type = select(content.map(([type]) => [type, type]));
  inputs.body = el('textarea', { spellcheck: 'false' });
  choice.addEventListener('change', fill);
  if (examples.length) fill();
  return [el('div.fields', null, examples.length > 1 ? field('Example', choice) : '', field('Content-Type', inputs.type)),
    field('Body', inputs.body)];
}

function tryForm(method, path, operation, parameters) {
  const inputs = { parameters: parameters.map((p) => [p, el('input', { type: 'text', required: p.required,
    placeholder: p.example === undefined ? undefined : String(p.example), autocomplete: 'off' })]) };
  const types = [...new Set(Object.entries(operation.responses).filter(([status]) => status < '300')
    .flatMap(([, response]) => Object.keys(follow(response).content || {})))];
  const output = el('div', { role: 'status', 'aria-live': 'polite' });
  const fields = inputs.parameters.map(([p, input]) => field(p.name, input, p.in));
  if (types.length > 1) {
    inputs.accept = select([['', '(any)'], ...types.map((type) => [type, type])]);
    fields.push(field('Accept', inputs.accept, 'header'));
  }
  const form = el('form.try', { 'aria-label': 'Try ' + method.toUpperCase() + ' ' + path },
    el('h4', null, 'Try it'), el('div.fields', null, fields),
    operation.requestBody ? bodyFields(follow(operation.requestBody), inputs) : '',
    el('button', { type: 'submit' }, 'Send'), output);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send(readForm(method, path, inputs), output);
  });
  return form;
}

function showRoute(method, path, operation, shared) {
  const parameters = [...(shared || []), ...(operation.parameters || [])].map(follow);
  const body = follow(operation.requestBody);
  const name = method.toUpperCase() + ' ' + path;
  return el('details.route', { id: routeId(method, path) },
    el('summary', null, el('h3', null, el('span.method.' + method, null, method.toUpperCase()),
      el('span.path', null, path), el('span', null, operation.summary))),
    el('div.inside', null, paragraphs(operation.description),
      tryForm(method, path, operation, parameters),
      parameters.length ? table('Parameters of ' + name, ['Name', 'In', 'Type', 'Meaning'], parameterRows(parameters)) : '',
      body.content ? [el('h4', null, 'Body'), Object.entries(body.content).map(([type, content]) =>
        [el('p', null, el('code', null, type), ' ', ...typeOf(content.schema || {})), ...showExamples(content)])].flat(2) : '',
      el('h4', null, 'Answers'),
      table('Answers of ' + name, ['Status', 'Meaning', 'Content'], responseRows(operation.responses))));
}

// ---- the page ----

function operations() {
  return Object.entries(spec.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method], shared: item.parameters })));
}

function problemTable() {
  const content = ((((spec.components || {}).responses || {}).Problem || {}).content || {})['application/problem+json'] || {};
  const rows = examplesOf(content).map(([code, example]) =>
    [el('code', null, code), String(example.value.status), example.value.detail]);
  return rows.length
    ? el('section', { 'aria-labelledby': 'problems' }, el('h2', { id: 'problems' }, 'Problem codes'),
      table('Every refusal has one of these codes', ['Code', 'Status', 'Usual text'], rows))
    : '';
}

function showKeys() {
  const schemes = Object.entries((spec.components || {}).securitySchemes || {})
    .filter(([, scheme]) => scheme.type === 'apiKey' && scheme.in === 'header');
  const names = [...new Set(schemes.map(([, scheme]) => scheme.name))];
  byId('keys').hidden = names.length === 0;
  byId('keys').replaceChildren(el('h2', null, 'Keys'), el('div.fields', null, names.map((name) =>
    field(name, el('input', { type: 'password', name, autocomplete: 'off' }), 'sent with every request below'))));
  byId('keys').addEventListener('submit', (event) => event.preventDefault());
}

function showContents(groups) {
  byId('contents').replaceChildren(...groups.flatMap(([tag, list]) => [el('p', null, tag),
    el('ul', null, list.map(({ method, path }) => el('li', null,
      el('a', { href: '#' + routeId(method, path) }, el('span.method.' + method, null, method.toUpperCase()), el('span', null, path)))))]),
  el('ul', null, ['problems', 'schemas'].map((id) => el('li', null, el('a', { href: '#' + id }, id === 'schemas' ? 'Schemas' : 'Problem codes')))));
}

// Opens what the address points to.
function openTarget() {
  const target = location.hash ? byId(decodeURIComponent(location.hash.slice(1))) : null;
  if (!target) return;
  if (target.tagName === 'DETAILS') target.open = true;
  target.scrollIntoView();
}

function show() {
  const all = operations();
  // The contents name a route under each of its tags; it is shown once, under the first.
  const groups = (spec.tags || []).map(({ name }) => [name, all.filter(({ operation }) => (operation.tags || []).includes(name))]);
  byId('version').textContent = spec.info.version;
  byId('about').replaceChildren(el('p', null, spec.info.summary), ...paragraphs(spec.info.description));
  showKeys();
  byId('routes').replaceChildren(...(spec.tags || []).map(({ name, description }, i) => el('section', { 'aria-labelledby': 'tag-' + name },
    el('h2', { id: 'tag-' + name }, name), el('p.soft', null, description || ''),
    groups[i][1].filter(({ operation }) => operation.tags[0] === name).map(({ method, path, operation, shared }) => showRoute(method, path, operation, shared)))), problemTable());
  byId('schemas').append(...Object.entries(spec.components.schemas).map(([name, schema]) => showSchema(name, schema)));
  byId('schemas').hidden = false;
  showContents(groups);
  openTarget();
}

async function load() {
  try {
    const answer = await fetch('/openapi.json', { cache: 'no-store' });
    if (!answer.ok) throw new Error('/openapi.json answered ' + answer.status);
    spec = await answer.json();
    show();
  } catch (error) {
    byId('state') ? byId('state').textContent = 'No description: ' + error.message : byId('about').append(error.message);
  }
}

window.addEventListener('hashchange', openTarget);
load();
