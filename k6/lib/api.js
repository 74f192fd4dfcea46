// The requests of issuers and wallets: one function for each, which returns k6's response or its content.
import http from 'k6/http';
import { check, fail } from 'k6';
import { API, API_KEY, POOL, SITE } from './settings.js';

const json = { 'X-Api-Key': API_KEY, 'Content-Type': 'application/json' };

// Requests references; the name groups the metrics of all pools and amounts.
export function newReferences(amount, tags) {
  const parameters = { headers: { 'X-Api-Key': API_KEY }, tags: { name: 'new-references', ...tags } };
  return http.post(`${API}/pools/${POOL}/new-references?amount=${amount}`, null, parameters);
}

export function update({ uri, index }, value, tags) {
  const body = JSON.stringify({ uri, index, value });
  return http.patch(`${API}/status-lists/update`, body, { headers: json, tags: { name: 'update', ...tags } });
}

export function batchUpdate(references, value, tags) {
  const targets = references.map(({ uri, index }) => ({ uri, index }));
  const body = JSON.stringify({ statusListReferences: targets, value });
  return http.patch(`${API}/status-lists/batch-update`, body, { headers: json, tags: { name: 'batch-update', ...tags } });
}

// Fetches a list as wallets do. The `uri` in credentials names the public host, which may not be this one.
export function fetchList(uri, tags) {
  const headers = { Accept: 'application/statuslist+jwt', 'Accept-Encoding': 'gzip' };
  return http.get(`${SITE}/${uri.split('/').pop()}`, { headers, tags: { name: 'fetch', ...tags } });
}

// Returns references, from as many requests as they need.
export function someReferences(amount) {
  const references = [];
  while (references.length < amount) {
    const response = newReferences(Math.min(amount - references.length, 1000), { name: 'setup' });
    if (response.status !== 200) {
      fail(`no references from ${API}, pool ${POOL}: ${response.status} ${response.error || response.body}`);
    }
    references.push(...response.json('references'));
  }
  return references;
}

export const pick = (all) => all[Math.floor(Math.random() * all.length)];

export const isOk = (response, tags) => check(response, { 'status is 200': ({ status }) => status === 200 }, tags);
export const isDone = (response, tags) => check(response, { 'status is 204': ({ status }) => status === 204 }, tags);
