// Shows the service's OpenAPI description: each operation with its parameters and responses, and a command to try it.
// Inserts everything as text, never as markup.

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

// Creates an element with these attributes and children.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== undefined && child !== ''));
  return element;
}

const code = (text) => make('code', {}, text);
// Text between backquotes is code.
const words = (text) => (text ?? '').split('`').map((part, n) => (n % 2 ? code(part) : part));
const paragraphs = (text) => (text ?? '').split(/\n\s*\n/).filter(Boolean).map((part) => make('p', {}, words(part)));
const idOf = (...parts) => parts.join('-').replaceAll(/[^A-Za-z0-9]+/g, '-');

class Description {
  constructor(document) {
    this.document = document;
  }

  // Resolves a `$ref`; returns anything else unchanged.
  follow(part) {
    if (!part?.$ref) return part;
    const steps = part.$ref.slice(2).split('/').map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
    return steps.reduce((at, step) => at[step], this.document);
  }

  operations() {
    return Object.entries(this.document.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })));
  }

  // A valid value: the example, the default, or the smallest one of the type.
  example(schema) {
    const { example, default: usual, examples, enum: values, oneOf, allOf, properties, items, type, ...rest } = this.follow(schema) ?? {};
    if (example !== undefined) return example;
    if (examples?.length) return examples[0];
    if (usual !== undefined) return usual;
    if (values) return values[0];
    if (oneOf ?? allOf) return this.example((oneOf ?? allOf).at(-1));
    if (properties) return Object.fromEntries(Object.entries(properties).map(([name, of]) => [name, this.example(of)]));
    switch ([type].flat()[0]) {
      case 'array': return [this.example(items)];
      case 'integer': case 'number': return rest.minimum ?? 0;
      case 'boolean': return false;
      case 'object': return {};
      default: return 'text';
    }
  }

  // Describes a type in a few words; a named one links to its description.
  form(schema) {
    if (!schema) return [];
    if (schema.$ref) {
      const name = schema.$ref.split('/').at(-1);
      return [make('a', { href: `#${idOf('schema', name)}` }, name)];
    }
    if (schema.oneOf ?? schema.anyOf) {
      return (schema.oneOf ?? schema.anyOf).flatMap((one, n) => [n ? ' or ' : '', ...this.form(one)]);
    }
    if (schema.enum) return schema.enum.flatMap((value, n) => [n ? ', ' : '', code(String(value))]);
    if ([schema.type].flat().includes('array')) return ['list of ', ...this.form(schema.items)];
    const type = [schema.type].flat().filter(Boolean).join(' or ') || 'anything';
    return [schema.format ? `${type} (${schema.format})` : type];
  }
}

function table(label, heads, rows) {
  const head = make('thead', {}, make('tr', {}, heads.map((text) => make('th', { scope: 'col' }, text))));
  const body = rows.map(([first, ...rest]) => make('tr', {}, make('th', { scope: 'row' }, first), rest.map((cell) => make('td', {}, cell))));
  // It can be wider than a phone; the focus lets the keyboard scroll it.
  return make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label }, make('table', {}, head, make('tbody', {}, body)));
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function command(description, { path, method, parameters = [], requestBody, security }) {
  const all = parameters.map((parameter) => description.follow(parameter));
  const value = ({ example, schema }) => String(example ?? description.example(schema));
  let target = path;
  for (const parameter of all.filter((one) => one.in === 'path')) {
    target = target.replace(`{${parameter.name}}`, encodeURIComponent(value(parameter)));
  }
  const query = all.filter((one) => one.in === 'query' && one.required).map((one) => `${one.name}=${encodeURIComponent(value(one))}`);
  const lines = [`curl${method === 'get' ? '' : ` -X ${method.toUpperCase()}`} ${quoted(location.origin + target + (query.length ? `?${query.join('&')}` : ''))}`];
  if (security?.length) lines.push('-H "X-Api-Key: $STATUSLIST_API_KEY"');
  for (const one of all.filter((parameter) => parameter.in === 'header' && parameter.example)) lines.push(`-H ${quoted(`${one.name}: ${value(one)}`)}`);
  const json = requestBody?.content?.['application/json'];
  if (json) {
    lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(json.example ?? description.example(json.schema)))}`);
  }
  return lines.join(' \\\n  ');
}

function copyable(text, name) {
  const button = make('button', { type: 'button', 'aria-label': `Copy the command: ${name}` }, 'Copy');
  button.addEventListener('click', async () => {
    const copied = await navigator.clipboard.writeText(text).then(() => true, () => false);
    button.textContent = copied ? 'Copied' : 'Select the text and copy it';
  });
  return [make('pre', { tabindex: '0', role: 'region', 'aria-label': `Command: ${name}` }, text), button];
}

function properties(description, name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([property, of]) => [
    code(property), description.form(of), schema.required?.includes(property) ? 'yes' : 'no', words(of.description ?? description.follow(of).description),
  ]);
  return rows.length ? table(`Members of ${name}`, ['Member', 'Form', 'Required', 'Meaning'], rows) : make('p', {}, description.form(schema));
}

function responses(description, name, operation) {
  const rows = Object.entries(operation.responses).map(([status, of]) => {
    const { description: text, content = {}, headers = {} } = description.follow(of);
    const codes = Object.values(content).flatMap(({ schema }) => description.follow(schema)?.properties?.code?.enum ?? []);
    const forms = Object.entries(content).map(([type, { schema }]) => make('p', {}, code(type), ...(schema?.$ref ? [': ', ...description.form(schema)] : [])));
    const said = [make('p', {}, words(text))];
    if (codes.length) said.push(make('p', { class: 'quiet' }, 'Codes: ', codes.flatMap((one, n) => [n ? ', ' : '', code(one)])));
    if (Object.keys(headers).length) said.push(make('p', { class: 'quiet' }, 'Headers: ', Object.keys(headers).join(', ')));
    return [status, said, forms];
  });
  return table(`Answers of ${name}`, ['Status', 'Meaning', 'Body'], rows);
}

function article(description, operation) {
  const { path, method, summary, parameters = [], requestBody, security } = operation;
  const name = `${method.toUpperCase()} ${path}`;
  const parts = [
    make('h3', {}, make('span', { class: 'method' }, method.toUpperCase()), ' ', code(path)),
    make('p', {}, make('strong', {}, summary ?? '')),
    ...paragraphs(operation.description),
  ];
  if (security?.length) {
    parts.push(make('p', { class: 'quiet' }, 'Needs ', security.flatMap((one, n) => [n ? ' or ' : '', Object.keys(one).join(' and ')]), '.'));
  }
  if (parameters.length) {
    const rows = parameters.map((one) => description.follow(one)).map((one) => [
      code(one.name), one.in, description.form(one.schema), one.required ? 'yes' : 'no', words(one.description),
    ]);
    parts.push(make('h4', {}, 'Parameters'), table(`Parameters of ${name}`, ['Name', 'In', 'Form', 'Required', 'Meaning'], rows));
  }
  for (const [type, { schema }] of Object.entries(requestBody?.content ?? {})) {
    parts.push(make('h4', {}, 'Body'), make('p', {}, code(type), ': ', description.form(schema)));
  }
  parts.push(make('h4', {}, 'Answers'), responses(description, name, operation));
  parts.push(make('h4', {}, 'Try it'), ...copyable(command(description, operation), name));
  return make('article', { id: idOf(method, path), 'data-operation': name }, parts);
}

function show(description) {
  const { info, tags = [], components = {} } = description.document;
  document.title = `${info.title} API`;
  document.getElementById('title').textContent = `${info.title} API`;
  document.getElementById('version').textContent = `version ${info.version}`;
  const contents = document.getElementById('contents');
  const main = document.getElementById('content');
  main.append(...paragraphs(info.description));
  const operations = description.operations();
  for (const tag of tags) {
    const those = operations.filter((operation) => operation.tags?.[0] === tag.name);
    contents.append(make('h2', {}, tag.name), make('ul', {}, those.map(({ path, method }) =>
      make('li', {}, make('a', { href: `#${idOf(method, path)}` }, make('span', { class: 'method' }, method.toUpperCase()), ` ${path}`)))));
    main.append(make('h2', { id: idOf('tag', tag.name) }, tag.name), ...paragraphs(tag.description), ...those.map((one) => article(description, one)));
  }
  main.append(make('h2', { id: 'schemes' }, 'Who may ask'));
  for (const [name, scheme] of Object.entries(components.securitySchemes ?? {})) {
    const header = scheme.name ? `the header ${scheme.name}` : 'the header Authorization: Bearer';
    main.append(make('p', {}, make('strong', {}, name), `, in ${header}. `, words(scheme.description)));
  }
  main.append(make('h2', { id: 'schemas' }, 'Forms'));
  for (const [name, schema] of Object.entries(components.schemas ?? {})) {
    main.append(make('article', { id: idOf('schema', name) }, make('h3', {}, code(name)), ...paragraphs(schema.description), properties(description, name, schema)));
  }
}

const state = document.getElementById('state');
try {
  const answer = await fetch('openapi.json');
  if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  show(new Description(await answer.json()));
  state.remove();
  // The address may name a part that did not exist when the page was opened.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  state.textContent = `The description cannot be shown: ${error.message}`;
}
document.getElementById('content').setAttribute('aria-busy', 'false');
