// Ways to hand over a credential besides typing it: an opened file, a drop anywhere on the page, a pasted image. All stay in this
// browser.
import { CREDENTIAL_BYTES_MAX } from './credential.js';
import { readQr } from './qr.js';
import { bytes } from './words.js';

// Photographs are larger than credentials.
const IMAGE_BYTES_MAX = 32 << 20;
const IMAGES = [[0x89, 0x50, 0x4e, 0x47], [0xff, 0xd8, 0xff], [0x47, 0x49, 0x46, 0x38], [0x52, 0x49, 0x46, 0x46]];

// Calls `take(name, read)` for each; `read` returns text or bytes, and throws with what to do.
export function intake({ button, field, curtain }, take) {
  const takeFiles = (files) => take(files[0].name, () => contentOf(files));

  button.addEventListener('click', () => field.click());
  field.addEventListener('change', () => {
    const files = [...field.files];
    // The same file again is a change again.
    field.value = '';
    if (files.length > 0) takeFiles(files);
  });

  // What is dragged from the page itself is no credential.
  let isFromHere = false;
  addEventListener('dragstart', () => { isFromHere = true; });
  addEventListener('dragend', () => { isFromHere = false; });
  const isOurs = (event) => !isFromHere && holdsCredential(event);

  addEventListener('dragover', (event) => {
    if (!isOurs(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
    curtain.hidden = false;
  });
  addEventListener('dragleave', ({ relatedTarget }) => {
    if (relatedTarget === null) curtain.hidden = true;
  });
  addEventListener('drop', (event) => {
    curtain.hidden = true;
    if (!isOurs(event)) return;
    event.preventDefault();
    const { files } = event.dataTransfer;
    const text = event.dataTransfer.getData('text/plain');
    if (files.length > 0) takeFiles([...files]);
    else take('the dropped text', () => text);
  });

  addEventListener('paste', (event) => {
    const files = [...event.clipboardData?.files ?? []];
    // Programs also copy an image beside text. In a field, text is meant.
    if (files.length === 0 || (isField(event.target) && event.clipboardData.types.includes('text/plain'))) return;
    event.preventDefault();
    takeFiles(files);
  });
}

// Files, and text that is not dropped into a field.
function holdsCredential({ dataTransfer, target }) {
  const types = [...dataTransfer?.types ?? []];
  return types.includes('Files') || (types.includes('text/plain') && !isField(target));
}

function isField(target) {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}

async function contentOf(files) {
  if (files.length > 1) throw new Error(`These are ${files.length} files. One at a time, please.`);
  const [file] = files;
  const start = await bytesOf(file.slice(0, 16), file);
  const isImage = file.type.startsWith('image/') || IMAGES.some((magic) => magic.every((byte, at) => start[at] === byte));
  const most = isImage ? IMAGE_BYTES_MAX : CREDENTIAL_BYTES_MAX;
  if (file.size > most) throw new Error(`\`${file.name}\` is too large: ${bytes(file.size)}. ${isImage ? 'An image' : 'A credential'} may have ${bytes(most)}.`);
  if (isImage) return readQr(file);
  if (file.size === 0) throw new Error(`\`${file.name}\` is empty.`);
  return bytesOf(file, file);
}

async function bytesOf(blob, { name }) {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch {
    throw new Error(`\`${name}\` cannot be read. Is it a folder, or was it changed in the meantime?`);
  }
}
