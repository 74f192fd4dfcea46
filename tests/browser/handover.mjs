// Credentials of every kind, by every way to hand one over: paste, file, drop, and an image of a QR code. Nothing of them leaves the
// browser.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Explorer } from './browser.mjs';
import { Tag, cbor, cwt, mdoc, response } from './cbor.mjs';

const require = createRequire(join(process.env.TEST_TOOLS, 'package.json'));
const qrcode = require('qrcode-generator');

const MDL = 'mdoc (org.iso.18013.5.1.mDL)';
const READER = '/assets/vendor/jsqr-1.4.0.js';

export async function handover(browser, scene) {
  const credentials = await credentialsOf(scene);
  const camera = await (await browser.newContext()).newPage();
  await pasteFileAndDrop(browser, scene, credentials);
  await images(browser, scene, credentials, camera);
  await ofTheBrowserItself(browser, scene, credentials, camera);
  await several(browser, scene);
  await whatHoldsNone(browser, scene, camera);
  await camera.context().close();
}

// One of each kind, with another status each: `{ name, content, texts, what, verdict }`.
async function credentialsOf({ uri, valid, revoked, suspended }) {
  const { digest, generateSalt, ES256 } = require('@sd-jwt/crypto-nodejs');
  const { SDJwtVcInstance } = require('@sd-jwt/sd-jwt-vc');
  const { privateKey } = await ES256.generateKeyPair();
  const issuer = new SDJwtVcInstance({ signer: await ES256.getSigner(privateKey), signAlg: 'ES256', hasher: digest, hashAlg: 'sha-256', saltGenerator: generateSalt });
  const status = (idx) => ({ status_list: { idx, uri } });
  const claims = { iss: 'https://issuer.example', iat: 1700000000, vct: 'https://issuer.example/id', given_name: 'Erika-of-the-test', status: status(revoked) };
  const sdJwt = await issuer.issue(claims, { _sd: ['given_name'] });
  const cwtBytes = cbor(cwt(new Map([[1, 'https://issuer.example'], [65535, status(suspended)]])));
  const { issuerSigned, document } = mdoc(status(valid));
  const binary = (name, bytes, what, verdict) => ({ name, content: bytes, texts: [bytes.toString('base64url'), bytes.toString('hex')], what, verdict });
  const text = (name, words, what, verdict) => ({ name, content: Buffer.from(words), texts: [words], what, verdict });
  return [
    text('id.sd-jwt', sdJwt, 'SD-JWT VC (https://issuer.example/id)', 'invalid'),
    text('licence.jwt', `${sdJwt.split('~')[0]}\n`, 'SD-JWT VC (https://issuer.example/id)', 'invalid'),
    binary('ticket.cwt', cwtBytes, 'CWT', 'suspended'),
    binary('licence.mdoc', cbor(issuerSigned), MDL, 'valid'),
    binary('presented.cbor', cbor(response(document)), MDL, 'valid'),
  ];
}

const read = (explorer) => explorer.page.locator('#credential-read').textContent();

async function pasteFileAndDrop(browser, { page: address }, credentials) {
  const explorer = await Explorer.open(browser, address);
  for (const { name, content, texts, what, verdict } of credentials) {
    const file = { name, mimeType: '', buffer: content };
    for (const text of texts) {
      assert.equal((await explorer.paste(text)).verdict, verdict, `${name} is pasted`);
      assert.equal(await read(explorer), `Read: ${what}.`);
    }
    const [text] = texts;
    for (const [way, act, from] of [
      ['chosen', () => explorer.choose(file), name],
      ['dropped', () => explorer.drop({ files: [file] }), name],
      ['dropped as text', () => explorer.drop({ text }), 'the dropped text'],
      ['pasted as a file', () => explorer.pasteFiles(file), name],
      ['chosen again', () => explorer.choose({ ...file, mimeType: 'application/octet-stream' }), name],
      ['chosen as text', () => explorer.choose({ ...file, buffer: Buffer.from(text) }), name],
    ]) {
      await explorer.tab('Pool');
      assert.equal((await explorer.answered(act)).verdict, verdict, `${name} is ${way}`);
      assert.equal(await read(explorer), `Read: ${what}, from ${from}.`);
      assert.equal(await explorer.page.locator('#credential').inputValue(), '', 'no other credential stands there');
    }
  }
  await explorer.accessible('after a file');
  await explorer.screenshot('file');
  // What is dropped into a field belongs there, and text that comes from the page is no credential.
  const text = await explorer.page.evaluateHandle(() => {
    const transfer = new DataTransfer();
    transfer.setData('text/plain', 'x');
    return transfer;
  });
  const taken = (onto) => explorer.page.locator(onto).evaluate((element, dataTransfer) => !element.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true })), text);
  assert.equal(await taken('#credential'), false);
  await explorer.page.dispatchEvent('footer', 'dragstart');
  assert.equal(await taken('footer'), false);
  await explorer.page.dispatchEvent('footer', 'dragend');
  assert.equal(await taken('footer'), true);
  assert(!explorer.requests.some((request) => request.url().includes('/vendor/')), 'the reader of QR codes is loaded although no image was given');
  nothingLeft(explorer, credentials);
  await explorer.close();
}

// Each request is for the page, or for public files.
function nothingLeft(explorer, credentials) {
  const secrets = ['Erika', 'idx', ...credentials.flatMap(({ texts }) => texts.map((text) => text.trim().slice(-60, -20)))];
  for (const request of explorer.requests) {
    assert.equal(request.postData(), null);
    const told = `${request.url()} ${JSON.stringify(request.headers())}`;
    for (const secret of secrets) assert(!told.includes(secret), `${secret} was told: ${told}`);
  }
}

// A QR code as an image. `content`: text, or bytes.
async function photograph(camera, content, { type = 'png', style = '', dark = '#000', light = '#fff', cell = 4, quiet = 16 } = {}) {
  const code = qrcode(0, 'L');
  code.addData(Buffer.from(content).toString('latin1'), 'Byte');
  code.make();
  const svg = code.createSvgTag({ cellSize: cell, margin: quiet }).replaceAll('fill="black"', `fill="${dark}"`).replaceAll('fill="white"', `fill="${light}"`);
  await camera.setViewportSize({ width: 1500, height: 1300 });
  await camera.setContent(`<body style="margin:0;background:linear-gradient(120deg,#9a9184,#d8d2c4)"><div id="code" style="display:inline-block;line-height:0;${style}">${svg}</div>`);
  const isScene = style !== '';
  const buffer = isScene ? await camera.screenshot({ type, ...(type === 'jpeg' && { quality: 70 }) }) : await camera.locator('#code').screenshot({ type });
  return { name: `code.${type}`, mimeType: `image/${type}`, buffer };
}

async function images(browser, { page: address, uri, revoked }, credentials, camera) {
  const explorer = await Explorer.open(browser, address);
  const link = `${address}#${new URLSearchParams({ uri, idx: revoked })}`;
  const [sdJwt, , , licence] = credentials;
  for (const [what, content, verdict, options] of [
    ['a link of the page', link, 'invalid'],
    ['an SD-JWT VC', sdJwt.texts[0], 'invalid'],
    ['an mdoc as text', licence.texts[0], 'valid'],
    ['an mdoc as bytes', licence.content, 'valid'],
    ['without its margin', link, 'invalid', { quiet: 0 }],
    ['very small', link, 'invalid', { cell: 1, quiet: 0 }],
    ['light on dark', link, 'invalid', { dark: '#fff', light: '#000' }],
    ['in colours', link, 'invalid', { dark: '#13315c', light: '#fdf3d8' }],
    ['a photograph, askew', link, 'invalid', { type: 'jpeg', cell: 9, quiet: 30, style: 'margin:150px 0 0 260px;transform:rotate(9deg) skewX(4deg);filter:blur(1px)' }],
    ['a photograph of a large code', sdJwt.texts[0], 'invalid', { type: 'jpeg', cell: 7, quiet: 30, style: 'margin:60px 0 0 160px;transform:rotate(-4deg)' }],
  ]) {
    const image = await photograph(camera, content, options);
    assert.equal((await explorer.answered(() => explorer.drop({ files: [image] }))).verdict, verdict, `${what}, dropped`);
    assert((await read(explorer)).endsWith(`, from ${image.name}.`));
  }
  const image = await photograph(camera, link);
  assert.equal((await explorer.answered(() => explorer.choose(image))).verdict, 'invalid', 'chosen');
  assert.equal((await explorer.answered(() => explorer.choose({ ...image, mimeType: '' }))).verdict, 'invalid', 'chosen, where the system does not know the type');
  assert.equal((await explorer.answered(() => explorer.pasteFiles(image))).verdict, 'invalid', 'pasted');
  // Really from the clipboard, by the keyboard, with the focus in a field.
  await explorer.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await explorer.page.evaluate(async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': new Blob([bytes], { type: 'image/png' }) })]);
  }, image.buffer.toString('base64'));
  await explorer.page.locator('#credential').focus();
  assert.equal((await explorer.answered(() => explorer.page.keyboard.press('Control+V'))).verdict, 'invalid', 'pasted by the keyboard');
  assert.equal(explorer.requests.filter((request) => new URL(request.url()).pathname === READER).length, 1, 'the reader is loaded once');
  nothingLeft(explorer, credentials);
  await explorer.screenshot('qr');
  await explorer.close();
}

// Where the browser reads QR codes, it is asked first, and jsQR is loaded only for what it does not find.
async function ofTheBrowserItself(browser, { page: address, uri, revoked, valid }, credentials, camera) {
  const explorer = await Explorer.open(browser, address);
  const link = (idx) => `${address}#${new URLSearchParams({ uri, idx })}`;
  const stand = (answer) => explorer.page.evaluate((codes) => {
    globalThis.BarcodeDetector = class {
      constructor({ formats }) { this.formats = formats; }
      async detect(image) { return image.naturalWidth > 0 && this.formats[0] === 'qr_code' ? codes : undefined; }
    };
  }, answer);
  const isLoaded = () => explorer.requests.some((request) => new URL(request.url()).pathname === READER);
  const image = await photograph(camera, link(revoked));
  await stand([{ rawValue: link(valid) }]);
  assert.equal((await explorer.answered(() => explorer.drop({ files: [image] }))).verdict, 'valid', 'what the browser says it read');
  assert.equal(isLoaded(), false);
  for (const answer of [[], [{ rawValue: '' }], [{ rawValue: '\ufffd\ufffd' }]]) {
    await stand(answer);
    assert.equal((await explorer.answered(() => explorer.drop({ files: [image] }))).verdict, 'invalid', JSON.stringify(answer));
  }
  assert.equal(isLoaded(), true);
  await explorer.close();
}

// A presentation can hold several credentials: the reader chooses.
async function several(browser, { page: address, uri, valid, revoked }) {
  const status = (idx) => ({ status_list: { idx, uri } });
  const both = response(mdoc(status(valid)).document, mdoc(status(revoked), 'eu.europa.ec.eudi.pid.1').document);
  const explorer = await Explorer.open(browser, address);
  const { page } = explorer;
  await explorer.drop({ files: [{ name: 'both.cbor', mimeType: '', buffer: cbor(both) }] });
  await page.locator('#choices').waitFor();
  assert.equal(await page.locator('#choices-title').textContent(), 'It has 2 references. Which one?');
  assert.equal(await page.locator('#answer').isVisible(), false);
  assert.equal(await page.locator('#result').getAttribute('aria-busy'), 'false');
  await explorer.accessible('a choice');
  await explorer.screenshot('choice');
  // The focus is on the first.
  assert.equal((await explorer.answered(() => page.keyboard.press('Enter'))).verdict, 'valid');
  assert.equal((await explorer.answered(() => page.locator('#choices').getByRole('button', { name: `eu.europa.ec.eudi.pid.1), idx ${revoked}` }).click())).verdict, 'invalid');
  await page.locator('#credential').fill('x');
  assert.equal(await page.locator('#choices').isVisible(), false, 'they belong to another credential');
  await explorer.close();
}

async function whatHoldsNone(browser, { page: address, uri, valid }, camera) {
  const explorer = await Explorer.open(browser, address);
  const file = (name, buffer, mimeType = '') => ({ name, mimeType, buffer: Buffer.from(buffer) });
  const image = (content) => photograph(camera, content);
  await camera.setContent('<p>A page of text, and no code.');
  const blank = file('blank.png', await camera.screenshot(), 'image/png');
  const engagement = cbor(new Map([[0, '1.0'], [1, [1, new Tag(24, cbor(new Map()))]]])).toString('base64url');
  for (const [given, message] of [
    [file('empty.txt', ''), 'empty.txt is empty'],
    [{ name: 'large.bin', mimeType: '', size: (1 << 20) + 1 }, 'large.bin is too large: 1.0 MiB'],
    [{ name: 'large.png', mimeType: 'image/png', size: (32 << 20) + 1 }, 'large.png is too large: 32.0 MiB'],
    [file('note.txt', 'hello'), 'not a JWT, SD-JWT, mdoc'],
    [file('torn.mdoc', cbor(mdoc({ status_list: { idx: valid, uri } }).issuerSigned).subarray(0, -30)), 'truncated'],
    [file('bare.mdoc', cbor(mdoc(undefined).issuerSigned)), 'mdoc (org.iso.18013.5.1.mDL) has no status.status_list'],
    [file('other.mdoc', cbor(mdoc({ identifier_list: { id: Buffer.alloc(4), uri } }).issuerSigned)), 'identifier list'],
    [file('torn.png', Buffer.from('89504e470d0a1a0a00000000', 'hex'), 'image/png'), 'cannot show the image'],
    [blank, 'No QR code was found'],
    [await image(`mdoc:${engagement}`), 'device engagement'],
    [await image('openid4vp://?client_id=x'), 'asks a wallet'],
    [await image('https://status.example/lists/1'), 'address, not a credential'],
    [await image(`${address}#${new URLSearchParams({ uri: 'ftp://status.example/', idx: 1 })}`), 'Only https and http'],
  ]) {
    // A verdict was there before.
    assert.equal((await explorer.ask(uri, valid)).verdict, 'valid');
    await explorer.complains('credential', message, () => explorer.drop({ files: [given] }));
    assert.equal(await read(explorer), '');
  }
  await explorer.accessible('a file that cannot be read');
  await explorer.screenshot('file-error');
  await explorer.complains('credential', '2 files', () => explorer.drop({ files: [blank, blank] }));
  await explorer.complains('credential', 'Paste a credential', () => explorer.drop({ text: ' ' }));

  // Loaded only now, and that fails.
  const offline = await Explorer.open(browser, address);
  await offline.context.setOffline(true);
  await offline.complains('credential', 'You are offline', () => offline.drop({ files: [blank] }));
  await offline.close();
  await explorer.close();
}
