// An image → the content of the QR code in it. By the browser itself if it can, else by jsQR, which is loaded only then.

const PIXELS_MAX = 60e6;
// Sides, in pixels, at which a code is searched: photographs have more than is needed, and noise.
const SIDES = [1200, 2400, 600];
const ENLARGED_MOST = 8;

// Returns text, or bytes; throws with what to do.
export async function readQr(blob) {
  const image = await loaded(blob);
  const content = (await detected(image)) ?? (await decoded(image));
  if (content === undefined) throw new Error('No QR code was found in this image. Cut the image down to the code; it must be sharp and whole.');
  return content;
}

async function loaded(blob) {
  const image = new Image();
  const address = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = address;
    });
  } catch {
    throw new Error('This browser cannot show the image. Take a screenshot of it, or save it as PNG or JPEG.');
  } finally {
    URL.revokeObjectURL(address);
  }
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width * height > PIXELS_MAX) throw new Error(`The image is too large (${width} × ${height} pixels). Cut it down to the QR code.`);
  if (width * height === 0) throw new Error('The image has no size of its own. Save it as PNG or JPEG.');
  return image;
}

// Undefined if the browser has no such reader, finds nothing, or finds what is not text.
async function detected(image) {
  try {
    const [code] = await new globalThis.BarcodeDetector({ formats: ['qr_code'] }).detect(image);
    return code?.rawValue && !code.rawValue.includes('\ufffd') ? code.rawValue : undefined;
  } catch {
    return undefined;
  }
}

async function decoded(image) {
  try {
    await import('./vendor/jsqr-1.4.0.js');
  } catch {
    const why = navigator.onLine ? 'Reload this page and try again.' : 'You are offline: connect, reload this page and try again.';
    throw new Error(`The reader of QR codes could not be loaded. ${why}`);
  }
  for (const side of SIDES) {
    const { data, width, height } = pixels(image, side);
    const code = globalThis.jsQR(data, width, height, { inversionAttempts: 'attemptBoth' });
    if (code?.binaryData.length > 0) return Uint8Array.from(code.binaryData);
  }
  return undefined;
}

// The image on white, with the margin that a code must have and screenshots cut off.
function pixels(image, side) {
  const { naturalWidth, naturalHeight } = image;
  const scale = Math.min(ENLARGED_MOST, side / Math.max(naturalWidth, naturalHeight));
  const [width, height] = [naturalWidth, naturalHeight].map((length) => Math.max(1, Math.round(length * scale)));
  const margin = Math.ceil(Math.max(width, height) / 16);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width + 2 * margin, height + 2 * margin];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = scale < 1;
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, margin, margin, width, height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
