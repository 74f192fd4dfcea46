// A plain static host: files of the page and of a folder of lists by their names, no negotiation, nothing of our server.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

const TYPES = {
  '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json',
  '.jwt': 'application/statuslist+jwt', '.cwt': 'application/statuslist+cwt',
};

// `instead`: bytes by path, served in place of the file; null means that the file does not exist.
export class StaticHost {
  instead = new Map();
  cors = true;

  static async start(port, lists) {
    const host = Object.assign(new StaticHost(), { lists, origin: `http://127.0.0.1:${port}` });
    host.server = createServer((request, response) => host.#answer(new URL(request.url, host.origin).pathname, response));
    await new Promise((resolve, reject) => host.server.on('error', reject).listen(port, '127.0.0.1', resolve));
    return host;
  }

  read(path) {
    const file = normalize(path);
    return readFile(file.startsWith('/lists/') ? join(this.lists, file.slice('/lists/'.length)) : join(process.env.PUBLIC, file));
  }

  // The file of a list, by the uri.
  pathOf(uri, extension = '.jwt') {
    return new URL(uri).pathname + extension;
  }

  async #answer(path, response) {
    const file = path === '/' ? '/index.html' : path;
    const headers = this.cors ? { 'Access-Control-Allow-Origin': '*' } : {};
    try {
      const body = this.instead.has(file) ? this.instead.get(file) : await this.read(file);
      if (body === null) throw new Error('not there');
      response.writeHead(200, { ...headers, 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream' }).end(body);
    } catch {
      response.writeHead(404, { ...headers, 'Content-Type': 'text/html' }).end('<h1>Not found</h1>');
    }
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
