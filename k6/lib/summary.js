// The result of a run: a table for people, and everything as JSON in the file SUMMARY.
import { SUMMARY, TREND_STATS } from './settings.js';

export function handleSummary(data) {
  const results = { stdout: `${table(data)}\n` };
  if (SUMMARY) results[SUMMARY] = JSON.stringify(data, null, 1);
  return results;
}

export function table(data) {
  const metrics = Object.entries(data.metrics).sort(([a], [b]) => (a < b ? -1 : 1));
  const shown = ({ contains, type }, value) => {
    if (contains === 'time') return `${value.toFixed(2)} ms`;
    return type === 'rate' ? `${(value * 100).toFixed(3)} %` : value.toFixed(1);
  };
  const trends = metrics.filter(([name, { type }]) => type === 'trend' && !hidden(name));
  const width = Math.max(...metrics.map(([name]) => name.length)) + 2;
  const row = (name, cells) => name.padEnd(width) + cells.map((cell) => cell.padStart(14)).join('');
  const lines = ['', row('', TREND_STATS)];
  for (const [name, metric] of trends) {
    lines.push(row(name, TREND_STATS.map((stat) => (stat in metric.values ? shown(metric, metric.values[stat]) : ''))));
  }
  lines.push('');
  for (const [name, { type, values }] of metrics) {
    if (type === 'counter' && !hidden(name)) lines.push(row(name, [values.count.toFixed(0), `${values.rate.toFixed(1)}/s`]));
    if (type === 'rate' && !hidden(name)) lines.push(row(name, [`${(values.rate * 100).toFixed(3)} %`]));
  }
  lines.push('');
  for (const [name, { thresholds }] of metrics) {
    for (const [what, { ok }] of Object.entries(thresholds || {})) {
      lines.push(`${ok ? 'met   ' : 'MISSED'}  ${name}: ${what}`);
    }
  }
  return lines.join('\n');
}

// Left out: parts of a request's time that say little here, and counts of bytes.
const hidden = (name) => /^(http_req_(blocked|connecting|tls_handshaking|sending|receiving|waiting)|data_|vus|group_duration)/.test(name);
