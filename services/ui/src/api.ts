/** The HTTP side on the page's own origin. */

import { readConfig, readSymbols, type Config, type SymbolEntry } from './protocol';

const TIMEOUT_MS = 5_000;
const TOKEN_KEY = 'marketfeed.token';

/**
 * The token of `#token=…`, kept for this tab and taken out of the address. A fragment is never sent to a server, and
 * without it the token would be in the history and in what people copy.
 */
export function takeToken(): void {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given === null) return;
  sessionStorage.setItem(TOKEN_KEY, given);
  const url = new URL(location.href);
  url.hash = '';
  history.replaceState(history.state, '', url);
}

/** null where nobody gave one: an open server asks for none. */
export function token(): string | null {
  return sessionStorage.getItem(TOKEN_KEY);
}

async function json(path: string): Promise<unknown> {
  const shown = token();
  const answer = await fetch(new URL(path, document.baseURI), {
    headers: { accept: 'application/json', ...(shown === null ? {} : { authorization: `Bearer ${shown}` }) },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!answer.ok) throw new Error(`${path}: HTTP ${answer.status}`);
  return answer.json();
}

/** null when the server does not answer now; the caller asks again. */
export async function symbols(): Promise<SymbolEntry[] | null> {
  return json('v1/symbols').then(readSymbols, () => null);
}

export async function config(): Promise<Config | null> {
  return json('v1/config').then(readConfig, () => null);
}

export function streamAddress(): string {
  const url = new URL('v1/stream', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
