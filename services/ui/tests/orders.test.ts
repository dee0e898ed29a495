import { describe, expect, it } from 'vitest';

import { decimal, envelope, Envelopes, isWorking, nanos, OrderList, OrdersClient, readOrder, readRefusal, Refused, SHOWN_MAX, type Order, type Wish } from '../src/orders';

const WIRE = {
  orderId: '7', clientOrderId: 'page-1', symbol: 'AAPL', side: 'SIDE_SELL', type: 'ORDER_TYPE_LIMIT', quantityNanos: '10000000000',
  limitPriceNanos: '189920000000', state: 'ORDER_STATE_PARTIALLY_FILLED', filledQuantityNanos: '3000000000', averagePriceNanos: '189925000000', update: '4',
};
const WISH: Wish = { symbol: 'AAPL', side: 'buy', type: 'market', timeInForce: 'day', quantity: 10n ** 9n, limit: 0n };

function order(id: string, update: bigint, state = 'WORKING'): Order {
  return { ...(readOrder(WIRE) as Order), id, update, state };
}

describe('amounts', () => {
  it('are read exactly, or not at all', () => {
    expect(nanos('12.5')).toBe(12_500_000_000n);
    expect(nanos(' 1,000 ')).toBe(1_000_000_000_000n);
    expect(nanos('0.000000001')).toBe(1n);
    for (const bad of ['', '0', '-1', '1e3', '.5', '1.', '1.0000000001', 'ten', '99999999999']) expect(nanos(bad), bad).toBeNull();
  });

  it('are written without needless zeros', () => {
    expect(decimal(189_920_000_000n, 2)).toBe('189.92');
    expect(decimal(10_000_000_000n)).toBe('10');
    expect(decimal(10_000_000_000n, 2)).toBe('10.00');
    expect(decimal(1n)).toBe('0.000000001');
  });
});

describe('readOrder', () => {
  it('takes the wire as it is, and nothing for what is no order', () => {
    expect(readOrder(WIRE)).toMatchObject({ id: '7', side: 'sell', type: 'limit', state: 'PARTIALLY_FILLED', filled: 3_000_000_000n, update: 4n, reason: '' });
    expect(readOrder({ ...WIRE, orderId: undefined })).toBeNull();
    expect(readOrder(null)).toBeNull();
    expect(isWorking(readOrder(WIRE) as Order)).toBe(true);
  });
});

describe('OrderList', () => {
  it('keeps the newest state, the newest order first', () => {
    const list = new OrderList();
    expect(list.apply(order('1', 1n))).toBe(true);
    expect(list.apply(order('2', 2n))).toBe(true);
    expect(list.apply(order('1', 3n, 'FILLED'))).toBe(true);
    expect(list.apply(order('1', 2n))).toBe(false);
    expect(list.all.map(({ id, state }) => [id, state])).toEqual([['2', 'WORKING'], ['1', 'FILLED']]);
  });

  it('lets go of the oldest that is done, never of one that works', () => {
    const list = new OrderList();
    list.apply(order('w', 1n));
    list.apply(order('d', 2n, 'CANCELLED'));
    for (let n = 0; n < SHOWN_MAX; n += 1) list.apply(order(`n${n}`, BigInt(3 + n)));
    expect(list.all.some(({ id }) => id === 'd')).toBe(false);
    expect(list.all.some(({ id }) => id === 'w')).toBe(true);
  });
});

describe('Envelopes', () => {
  it('come out whole, however the stream is cut', () => {
    const whole = new Uint8Array([...envelope({ a: 'é' }), ...envelope({ b: 2 })]);
    for (let cut = 0; cut <= whole.length; cut += 1) {
      const envelopes = new Envelopes();
      const found = [...envelopes.push(whole.subarray(0, cut)), ...envelopes.push(whole.subarray(cut))];
      expect(found).toEqual([{ flags: 0, message: { a: 'é' } }, { flags: 0, message: { b: 2 } }]);
    }
  });

  it('are refused beyond a bound', () => {
    expect(() => new Envelopes().push(new Uint8Array([0, 255, 0, 0, 0]))).toThrow('bytes');
  });
});

describe('readRefusal', () => {
  it('says whether the same may be asked again', () => {
    const told = { code: 'already_exists', message: 'taken', details: [{ debug: { reason: 'CLIENT_ORDER_ID_TAKEN' } }] };
    expect(readRefusal(told, 409)).toMatchObject({ message: 'taken', reason: 'CLIENT_ORDER_ID_TAKEN', again: false });
    expect(readRefusal({ code: 'unavailable', message: 'away' }, 503).again).toBe(true);
    expect(readRefusal(null, 502)).toMatchObject({ message: 'HTTP 502', again: true });
  });
});

describe('OrdersClient', () => {
  interface Sent { url: string; body: Record<string, unknown>; headers: Record<string, string> }

  function client(answers: (() => Promise<Response>)[], taken: Order[] = []) {
    const sent: Sent[] = [];
    let ids = 0;
    const links: boolean[] = [];
    const made = new OrdersClient(
      'http://o',
      {
        fetch: (url, init) => {
          const body = typeof init.body === 'string' ? (JSON.parse(init.body) as Record<string, unknown>) : {};
          sent.push({ url, body, headers: init.headers as Record<string, string> });
          const answer = answers.shift();
          return answer ? answer() : new Promise<Response>(() => {});
        },
        token: () => 'secret',
        random: () => 0,
        pause: () => Promise.resolve(),
        newId: () => `id-${(ids += 1)}`,
      },
      { order: (one) => taken.push(one), link: (open) => links.push(open) },
    );
    return { made, sent, links };
  }

  const good = () => Promise.resolve(Response.json({ order: WIRE }));
  const away = () => Promise.reject(new TypeError('network'));
  const refused = () => Promise.resolve(Response.json({ code: 'invalid_argument', message: 'no lot' }, { status: 400 }));

  it('asks again under the same id until it is answered', async () => {
    const { made, sent } = client([away, () => Promise.resolve(new Response('', { status: 503 })), good]);
    expect((await made.submit(WISH)).id).toBe('7');
    expect(sent.map(({ body }) => body['clientOrderId'])).toEqual(['id-1', 'id-1', 'id-1']);
    expect(sent[0]).toMatchObject({ url: 'http://o/marketfeed.v1.Orders/SubmitOrder', headers: { authorization: 'Bearer secret' } });
    expect(sent[0]?.body).toMatchObject({ side: 'SIDE_BUY', type: 'ORDER_TYPE_MARKET', quantityNanos: '1000000000' });
  });

  it('keeps the id of a wish that was never answered, and takes another for another wish', async () => {
    const { made, sent } = client([...Array<typeof away>(8).fill(away), good, good]);
    await expect(made.submit(WISH)).rejects.toThrow('does not answer');
    await made.submit(WISH);
    await made.submit(WISH);
    expect(sent.map(({ body }) => body['clientOrderId'])).toEqual([...Array<string>(9).fill('id-1'), 'id-2']);
  });

  it('does not ask again what was refused', async () => {
    const { made, sent } = client([refused]);
    await expect(made.submit(WISH)).rejects.toThrow(Refused);
    expect(sent).toHaveLength(1);
  });

  it('follows changes and comes back after the newest that it knows', async () => {
    const update = { update: { order: WIRE } };
    const beat = { heartbeat: { serverTs: '1', tapeFresh: true } };
    const end = [2, 0, 0, 0, 2, 123, 125];
    const torn = new Uint8Array([...envelope({ update: { order: { ...WIRE, update: '9' }, snapshot: true } })]);
    const stream = new Uint8Array([...envelope(update), ...envelope(beat), ...end]);
    const taken: Order[] = [];
    const pieces = [torn, stream];
    const { made, sent, links } = client([...pieces.map((piece) => () => Promise.resolve(new Response(piece)))], taken);
    const list = new OrderList();
    void made.follow(list);
    while (sent.length < 3) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(taken.map(({ update: number }) => number)).toEqual([9n, 4n]);
    // What was told of the beginning alone moved nothing on: the rest of it may be lower.
    expect(list.update).toBe(4n);
    expect(links).toEqual([false, true, false]);
  });
});
