// Starts Swagger UI over the description of this service, with a search through all that an operation says, and in the reader's colours.

// What is searched: method, path, names and words of an operation.
const said = (one) => [one.get('method'), one.get('path'), ...['operationId', 'summary', 'description'].map((name) => one.getIn(['operation', name], ''))]
  .join(' ').toLowerCase();

// Swagger UI itself finds only tags.
const search = ({ React }) => ({
  fn: {
    opsFilter: (tags, phrase) => tags
      .map((of, tag) => (tag.includes(phrase) ? of : of.update('operations', (all) => all.filter((one) => said(one).includes(phrase.toLowerCase())))))
      .filter((of) => of.get('operations').size > 0),
  },
  components: {
    FilterContainer: ({ layoutSelectors, layoutActions }) => {
      const phrase = layoutSelectors.currentFilter();
      return React.createElement('div', { className: 'filter wrapper', role: 'search' }, React.createElement('input', {
        type: 'search', className: 'operation-filter-input', placeholder: 'Find an operation', 'aria-label': 'Find an operation',
        value: typeof phrase === 'string' ? phrase : '', onChange: (event) => layoutActions.updateFilter(event.target.value),
      }));
    },
  },
});

// Swagger UI gives these no name, so a screen reader would say only what is in them.
const NAMES = { '#servers': 'Server', '.examples-select-element': 'Example', 'textarea.body-param__text': 'Request body' };
new MutationObserver(() => {
  for (const [selector, name] of Object.entries(NAMES)) {
    for (const control of document.querySelectorAll(`${selector}:not([aria-label])`)) control.setAttribute('aria-label', name);
  }
}).observe(document.getElementById('docs'), { childList: true, subtree: true });

const dark = matchMedia('(prefers-color-scheme: dark)');
const follow = () => document.documentElement.classList.toggle('dark-mode', dark.matches);
dark.addEventListener('change', follow);
follow();

globalThis.SwaggerUIBundle({
  dom_id: '#docs',
  url: 'openapi.json',
  deepLinking: true,
  filter: true,
  tryItOutEnabled: true,
  displayOperationId: true,
  showCommonExtensions: true,
  // It would send the description to a server on the internet.
  validatorUrl: 'none',
  plugins: [search],
});
