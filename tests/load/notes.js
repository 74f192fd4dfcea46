// Notes of a client's actions, one line each: `<client> <number> <words>`. The numbers have no gaps, so a lost line shows.
import exec from 'k6/execution';

// Each client runs in a JavaScript engine of its own, so this counts its own notes.
let notes = 0;

export function note(...words) {
  console.log(`${exec.vu.idInTest} ${notes++} ${words.join(' ')}`);
}

// Ends the whole test: something happened that no outage explains.
export function fail(why) {
  exec.test.abort(why);
}

// Whether there was no complete response: refused, reset, or too late.
export function unanswered(response) {
  return response.error_code > 0 && response.error_code < 1400;
}
