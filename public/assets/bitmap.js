// The whole list as a picture: one cell for each entry, rows from left to right. Zoomed out, a pixel stands for several
// entries and shows the rarest status among them, so a single revoked entry in a million does not vanish.
import { colour, glyph, name } from './statuses.js';
import { count } from './words.js';

const CELL_PX_MAX = 40;
// From this size on, cells are drawn separately, and from the second size on with their glyph.
const CELL_PX_APART = 7;
const CELL_PX_GLYPH = 15;
const STEP = 2;

export class Bitmap {
  #canvas;
  #readout;
  #onChoose;
  #list;
  #chosen;
  #cursor;
  #view = { scale: 1, x: 0, y: 0 };
  #pixels = { key: '' };
  #paint;
  #frame;

  constructor(canvas, readout, onChoose) {
    this.#canvas = canvas;
    this.#readout = readout;
    this.#onChoose = onChoose;
    new ResizeObserver(() => this.#resized()).observe(canvas);
    addEventListener('themechange', () => this.#repaint());
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener('pointerdown', (event) => this.#drag(event));
    canvas.addEventListener('pointermove', (event) => this.#hover(event));
    canvas.addEventListener('pointerleave', () => this.#point(undefined));
    canvas.addEventListener('blur', () => this.#point(undefined));
    canvas.addEventListener('focus', () => canvas.matches(':focus-visible') && this.#point(this.#cursor ?? this.#chosen ?? 0));
  }

  show(list, chosen) {
    this.#chosen = chosen;
    if (list !== this.#list) {
      this.#list = list;
      this.#cursor = undefined;
      this.columns = Math.max(8, Math.ceil(Math.sqrt(list.entries) / 8) * 8);
      this.rows = Math.ceil(list.entries / this.columns);
      this.#repaint();
      this.#canvas.style.setProperty('--shape', `${this.columns} / ${Math.max(this.rows, this.columns / 3)}`);
      this.fit();
    }
    this.#readout.textContent = this.#words(chosen);
    this.#draw();
  }

  fit() {
    const [width, height] = this.#size();
    this.#view.scale = this.#fitScale(width, height);
    this.#move(0, 0);
  }

  // Zooms towards a point of the canvas, which stays in place; without one, towards the entry under the pointer or the chosen one.
  zoom(factor, at) {
    const [width, height] = this.#size();
    const { x, y, scale: before } = this.#view;
    const scale = Math.min(CELL_PX_MAX, Math.max(this.#fitScale(width, height), before * factor));
    this.#view.scale = scale;
    const idx = this.#cursor ?? this.#chosen;
    if (at === undefined && idx < this.#list.entries) {
      this.#centre(idx);
    } else {
      const [px, py] = at ?? [width / 2, height / 2];
      this.#move(x + px / before - px / scale, y + py / before - py / scale);
    }
  }

  // Chooses the next entry with another status than the most common one, and scrolls it into view.
  exception(step = 1) {
    const idx = this.#list.exception(this.#cursor ?? this.#chosen ?? (step > 0 ? -1 : this.#list.entries), step);
    if (idx === undefined) {
      this.#readout.textContent = 'Every entry has the same status.';
      return;
    }
    this.reveal(idx);
    this.#onChoose(idx);
  }

  reveal(idx) {
    if (idx === undefined || idx >= this.#list.entries) return;
    this.#cursor = idx;
    const [width, height] = this.#size();
    const { scale, x, y } = this.#view;
    const [column, row] = [idx % this.columns, Math.floor(idx / this.columns)];
    const inView = column >= x && column <= x + width / scale - 1 && row >= y && row <= y + height / scale - 1;
    if (!inView) this.#centre(idx);
    this.#point(idx);
  }

  #centre(idx) {
    const [width, height] = this.#size();
    const { scale } = this.#view;
    this.#move((idx % this.columns) + 0.5 - width / scale / 2, Math.floor(idx / this.columns) + 0.5 - height / scale / 2);
  }

  // Discards the painted image, because the list or the theme has changed.
  #repaint() {
    this.#pixels.key = '';
    this.#paint = undefined;
    this.#draw();
  }

  #size() {
    return [this.#canvas.clientWidth || 1, this.#canvas.clientHeight || 1];
  }

  #fitScale(width, height) {
    return Math.min(width / this.columns, height / this.rows, CELL_PX_MAX);
  }

  #move(x, y) {
    const [width, height] = this.#size();
    const clamp = (at, all, seen) => (all <= seen ? (all - seen) / 2 : Math.min(all - seen, Math.max(0, at)));
    this.#view.x = clamp(x, this.columns, width / this.#view.scale);
    this.#view.y = clamp(y, this.rows, height / this.#view.scale);
    this.#canvas.classList.toggle('is-zoomed', this.#view.scale > this.#fitScale(width, height) * 1.01);
    this.#draw();
  }

  #resized() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = this.#size();
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    this.#pixels.key = '';
    if (!this.#list) return;
    const wasFitted = !this.#canvas.classList.contains('is-zoomed');
    if (wasFitted) this.fit();
    else this.zoom(1, [0, 0]);
  }

  #entryAt(event) {
    const box = this.#canvas.getBoundingClientRect();
    const { scale, x, y } = this.#view;
    const column = Math.floor((event.clientX - box.left) / scale + x);
    const row = Math.floor((event.clientY - box.top) / scale + y);
    const idx = row * this.columns + column;
    return column >= 0 && column < this.columns && row >= 0 && idx < this.#list.entries ? idx : undefined;
  }

  #words(idx) {
    if (idx === undefined || !this.#list || idx >= this.#list.entries) return '';
    return `Index ${count(idx)}: ${name(this.#list.at(idx))}${idx === this.#chosen ? ' (chosen)' : ''}`;
  }

  #point(idx) {
    this.#cursor = idx;
    this.#readout.textContent = this.#words(idx ?? this.#chosen);
    this.#draw();
  }

  #hover(event) {
    if (this.#list && event.buttons === 0 && event.pointerType !== 'touch') this.#point(this.#entryAt(event));
  }

  #drag(down) {
    if (!this.#list || down.button !== 0) return;
    const { x, y, scale } = this.#view;
    let moved = false;
    const move = (event) => {
      const [dx, dy] = [event.clientX - down.clientX, event.clientY - down.clientY];
      moved ||= Math.hypot(dx, dy) > 4;
      if (moved) this.#move(x - dx / scale, y - dy / scale);
    };
    const up = (event) => {
      stop.abort();
      const idx = this.#entryAt(event);
      if (!moved && event.type === 'pointerup' && idx !== undefined) this.#onChoose(idx);
    };
    const stop = new AbortController();
    this.#canvas.setPointerCapture(down.pointerId);
    this.#canvas.addEventListener('pointermove', move, { signal: stop.signal });
    this.#canvas.addEventListener('pointerup', up, { signal: stop.signal });
    this.#canvas.addEventListener('pointercancel', up, { signal: stop.signal });
  }

  // Without focus the wheel scrolls the page, as everywhere else.
  #wheel(event) {
    if (!this.#list || (document.activeElement !== this.#canvas && !event.ctrlKey)) return;
    event.preventDefault();
    const box = this.#canvas.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY / 300), [event.clientX - box.left, event.clientY - box.top]);
  }

  #key(event) {
    if (!this.#list || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.#list.entries - 1;
    const from = this.#cursor ?? this.#chosen ?? 0;
    const to = (idx) => this.reveal(Math.min(last, Math.max(0, idx)));
    const page = this.columns * Math.max(1, Math.floor(this.rows / 10));
    const actions = {
      ArrowLeft: () => to(from - 1),
      ArrowRight: () => to(from + 1),
      ArrowUp: () => to(from - this.columns),
      ArrowDown: () => to(from + this.columns),
      PageUp: () => to(from - page),
      PageDown: () => to(from + page),
      Home: () => to(0),
      End: () => to(last),
      '+': () => this.zoom(STEP),
      '=': () => this.zoom(STEP),
      '-': () => this.zoom(1 / STEP),
      0: () => this.fit(),
      n: () => this.exception(1),
      p: () => this.exception(-1),
      Enter: () => this.#onChoose(from),
      ' ': () => this.#onChoose(from),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  }

  #draw() {
    if (!this.#list) return;
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = undefined;
      const context = this.#canvas.getContext('2d');
      this.#paint ??= this.#mix();
      const ratio = this.#canvas.width / this.#size()[0];
      context.setTransform(1, 0, 0, 1, 0, 0);
      if (this.#view.scale >= CELL_PX_APART) this.#drawCells(context, ratio);
      else this.#drawPixels(context, ratio);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      if (this.#cursor !== undefined && this.#cursor !== this.#chosen) this.#ring(context, this.#cursor, 2);
      if (this.#chosen < this.#list.entries) this.#ring(context, this.#chosen, 8);
    });
  }

  #drawPixels(context, ratio) {
    const { width, height } = this.#canvas;
    const { scale, x, y } = this.#view;
    const key = [scale, x, y, width, height].join();
    if (this.#pixels.key !== key) {
      this.#pixels = { key, image: this.#fill(context.createImageData(width, height), 1 / (scale * ratio), x, y) };
    }
    context.putImageData(this.#pixels.image, 0, 0);
  }

  // `step` entries for each pixel, in each direction.
  #fill(image, step, x, y) {
    const list = this.#list;
    const words = this.#paint.statuses.map(({ rgb }) => new Uint32Array(new Uint8Array([...rgb, 255]).buffer)[0]);
    const pixels = new Uint32Array(image.data.buffer);
    for (let py = 0; py < image.height; py += 1) {
      const top = Math.floor(y + py * step);
      const bottom = Math.min(this.rows, Math.max(top + 1, Math.floor(y + (py + 1) * step)));
      for (let px = 0; px < image.width; px += 1) {
        const left = Math.floor(x + px * step);
        const right = Math.min(this.columns, Math.max(left + 1, Math.floor(x + (px + 1) * step)));
        if (top < 0 || left < 0) continue;
        let rarest = -1;
        for (let row = top; row < bottom; row += 1) {
          for (let column = left; column < right; column += 1) {
            const idx = row * this.columns + column;
            if (idx >= list.entries) continue;
            const value = list.at(idx);
            if (rarest < 0 || list.counts[value] < list.counts[rarest]) rarest = value;
          }
        }
        if (rarest >= 0) pixels[py * image.width + px] = words[rarest];
      }
    }
    return image;
  }

  #drawCells(context, ratio) {
    const [width, height] = this.#size();
    const { scale, x, y } = this.#view;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    context.font = `600 ${Math.round(scale * 0.6)}px ui-monospace, monospace`;
    const gap = scale >= CELL_PX_GLYPH ? 2 : 1;
    for (let row = Math.max(0, Math.floor(y)); row < Math.min(this.rows, y + height / scale); row += 1) {
      for (let column = Math.max(0, Math.floor(x)); column < Math.min(this.columns, x + width / scale); column += 1) {
        const idx = row * this.columns + column;
        if (idx >= this.#list.entries) break;
        const value = this.#list.at(idx);
        const [left, top] = [(column - x) * scale, (row - y) * scale];
        const paint = this.#paint.statuses[value];
        context.fillStyle = paint.css;
        context.beginPath();
        context.roundRect(left + gap / 2, top + gap / 2, scale - gap, scale - gap, scale / 8);
        context.fill();
        if (scale >= CELL_PX_GLYPH && glyph(value) !== '') {
          context.fillStyle = paint.ink;
          context.fillText(glyph(value), left + scale / 2, top + scale / 2 + 0.5);
        }
      }
    }
  }

  // Two-coloured, so that it is visible on any status.
  #ring(context, idx, room) {
    const { scale, x, y } = this.#view;
    const [column, row] = [idx % this.columns, Math.floor(idx / this.columns)];
    const [cx, cy] = [(column + 0.5 - x) * scale, (row + 0.5 - y) * scale];
    const radius = Math.max(scale / 2 + 1, room);
    for (const [wide, style] of [[5, this.#paint.halo], [2.5, this.#paint.ring]]) {
      context.lineWidth = wide;
      context.strokeStyle = style;
      context.beginPath();
      if (scale >= CELL_PX_APART) context.roundRect(cx - radius, cy - radius, 2 * radius, 2 * radius, scale / 6);
      else context.arc(cx, cy, radius, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  // The colours of the theme, as style.css has them.
  #mix() {
    const probe = document.createElement('span');
    this.#canvas.parentElement.append(probe);
    const of = (property) => {
      probe.style.color = `var(${property})`;
      return getComputedStyle(probe).color;
    };
    const statuses = this.#list.counts.map((_, value) => {
      const css = of(colour(value));
      const rgb = css.match(/[\d.]+/g).slice(0, 3).map(Number);
      return { css, rgb, ink: luminance(rgb) > 0.3 ? '#14181b' : '#ffffff' };
    });
    const paint = { statuses, ring: of('--ring'), halo: of('--halo') };
    probe.remove();
    return paint;
  }
}

function luminance([red, green, blue]) {
  return (0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2) / 255 ** 2.2;
}
