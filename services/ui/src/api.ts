/** The HTTP side on the page's own origin. */

import { readConfig, readSymbols, type Config, type SymbolEntry } from './protocol';

const TIMEOUT_MS = 5_000;

async function json(path: string): Promise<unknown> {
  const answer = await fetch(new URL(path, document.baseURI), {
    headers: { accept: 'application/json' },
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
