import type { Bar } from '../src/bars';
import type { Surroundings, Socket } from '../src/client';

export function bar(startS: number, close: number, more: Partial<Bar> = {}): Bar {
  return { startS, open: close, high: close, low: close, close, volume: 100, trades: 1, revision: 0, state: 'OPEN', incomplete: false, ...more };
}

export class FakeSocket implements Socket {
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  sent: Record<string, unknown>[] = [];
  closed = false;

  send(data: string): void {
    this.sent.push(JSON.parse(data) as Record<string, unknown>);
  }

  close(): void {
    this.closed = true;
  }

  says(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  ofType(type: string): Record<string, unknown>[] {
    return this.sent.filter((message) => message['type'] === type);
  }
}

/** Time that passes only when a test says so. */
export class VirtualTime {
  nowMs = 1_000_000;
  sockets: FakeSocket[] = [];
  private timers: { atMs: number; run: () => void }[] = [];

  /** What the page shows first. */
  token: string | null = null;

  readonly around: Surroundings = {
    token: () => this.token,
    open: () => {
      const socket = new FakeSocket();
      this.sockets.push(socket);
      return socket;
    },
    nowMs: () => this.nowMs,
    random: () => 0.5,
    after: (ms, run) => {
      const timer = { atMs: this.nowMs + ms, run };
      this.timers.push(timer);
      return () => {
        this.timers = this.timers.filter((t) => t !== timer);
      };
    },
  };

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  pass(ms: number): void {
    const end = this.nowMs + ms;
    for (;;) {
      const next = this.timers.filter((t) => t.atMs <= end).sort((a, b) => a.atMs - b.atMs)[0];
      if (!next) break;
      this.timers = this.timers.filter((t) => t !== next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.run();
    }
    this.nowMs = end;
  }
}
