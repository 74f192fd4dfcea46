// Lists that cannot be fetched: each cause has its own words, which say what to do. Being offline is not the server's fault.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { Explorer } from './browser.mjs';

export async function failures(browser, scene) {
  await offline(browser, scene);
  await ourServer(browser, scene);
  await otherServers(browser, scene);
}

const verdictOf = ({ title, why, verdict, picture }) => {
  assert.deepEqual([verdict, picture], ['missing', false], `${title}: ${why}`);
  return [title, why];
};

async function offline(browser, { page: address, pool, uri, valid }) {
  const explorer = await Explorer.open(browser, address);
  assert.equal((await explorer.ask(uri, valid)).title, 'VALID');
  await explorer.context.setOffline(true);
  const again = () => explorer.answered(() => explorer.page.getByRole('button', { name: 'Fetch again' }).click());
  const [title, why] = verdictOf(await again());
  assert.equal(title, 'You are offline');
  assert.match(why, /no connection.*Connect, then fetch again/);
  await explorer.accessible('offline');
  await explorer.screenshot('offline');
  await explorer.tab('Pool');
  await explorer.page.locator('#pool').fill(pool);
  await explorer.complains('pool', 'You are offline', () => explorer.page.locator('#pool').press('Enter'));
  assert.equal((await explorer.ask(uri, valid)).title, 'You are offline');
  await explorer.context.setOffline(false);
  assert.equal((await again()).title, 'VALID', 'back online');
  // A list on this computer is there without a network, and is read.
  await explorer.page.evaluate(() => Object.defineProperty(Navigator.prototype, 'onLine', { get: () => false }));
  assert.equal((await again()).title, 'VALID');
  await explorer.close();
}

async function ourServer(browser, { page: address, uri, valid }) {
  const explorer = await Explorer.open(browser, address);
  const { page } = explorer;
  for (const [answer, title, why] of [
    [(route) => route.abort('connectionrefused'), 'The server does not answer', /where this page came from\. It may be down: try again later/],
    [(route) => route.abort('connectionreset'), 'The server does not answer', /may be down/],
    [(route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: '{"message":"Starting."}' }), 'The server has a problem', /answered 503: Starting\. The `?uri`? may be right: try again/],
  ]) {
    await page.route(uri, answer);
    const shown = verdictOf(await explorer.ask(uri, valid));
    assert.equal(shown[0], title);
    assert.match(shown[1], why);
    await page.unroute(uri);
  }
  await explorer.accessible('a server that is down');
  await explorer.screenshot('server-down');
  assert.equal((await explorer.ask(uri, valid)).title, 'VALID');
  await explorer.close();
}

// Another server, which answers each path in its own way; and a port where nobody listens.
async function otherServers(browser, { page: address }) {
  const html = { 'Content-Type': 'text/html' };
  const token = { 'Content-Type': 'application/statuslist+jwt' };
  const answers = {
    gone: [404, html, 'Not found'],
    retired: [410, { 'Content-Type': 'application/problem+json' }, '{"message":"List retired."}'],
    busy: [429, html, ''],
    closed: [403, html, ''],
    broken: [500, html, 'Error'],
    away: [502, html, 'Bad Gateway'],
    page: [200, html, '<h1>Welcome</h1>'],
    picture: [200, { 'Content-Type': 'image/png' }, Buffer.from('89504e470d0a1a0a', 'hex')],
    text: [200, token, 'hello'],
    torn: [200, { ...token, 'Content-Length': '1000' }, 'eyJ'],
    private: [200, token, 'eyJ', 'no CORS'],
  };
  const server = createServer((request, response) => {
    const [status, headers, body, isPrivate] = answers[request.url.split('/').at(-1)] ?? answers.gone;
    response.writeHead(status, { ...headers, ...(!isPrivate && { 'Access-Control-Allow-Origin': '*' }) });
    if (headers['Content-Length']) response.write(body, () => setTimeout(() => response.destroy(), 50));
    else response.end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const silent = createServer();
  await new Promise((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const [there, nobody] = [server, silent].map((one) => `http://127.0.0.1:${one.address().port}`);
  await new Promise((resolve) => silent.close(resolve));

  const explorer = await Explorer.open(browser, address, { origins: [there, nobody] });
  const said = new Map();
  for (const [uri, title, why] of [
    [`${nobody}/lists/1`, 'The server does not answer', /It may be down, or the uri wrong: check that, then try again later/],
    [`${there}/lists/private`, 'Not for other pages', /answers, but does not allow other pages to read it \(CORS\)/],
    [`${there}/lists/gone`, 'Not there', /answered 404\. Check the uri/],
    [`${there}/lists/retired`, 'No longer there', /answered 410: List retired\. The list was retired/],
    [`${there}/lists/busy`, 'Asked too often', /answered 429\. Wait a minute/],
    [`${there}/lists/closed`, 'The server refused', /answered 403\. Lists are public/],
    [`${there}/lists/broken`, 'The server has a problem', /answered 500\..*try again in some minutes/],
    [`${there}/lists/away`, 'The server has a problem', /answered 502\./],
    [`${there}/lists/page`, 'Not a list', /answered a web page instead\. Check the uri/],
    [`${there}/lists/picture`, 'No Status List Token', /sent something else: .*Check the uri/],
    [`${there}/lists/text`, 'No Status List Token', /a JWT has three parts/],
    [`${there}/lists/torn`, 'Cut off', /interrupted.*Try again/],
  ]) {
    const shown = verdictOf(await explorer.ask(uri, 0));
    assert.equal(shown[0], title, `${uri}: ${shown[1]}`);
    assert.match(shown[1], why, uri);
    said.set(shown[1].replaceAll(/https?:\S+/g, ''), uri);
  }
  assert.equal(said.size, 12, 'no two causes have the same words');
  await explorer.accessible('another server');
  await explorer.close({ errorsExpected: [/blocked by CORS policy/] });
  server.closeAllConnections();
  server.close();
}
