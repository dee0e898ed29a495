/**
 * Draws the day into the chart's pane, straight from the bars' columns: session shading and gaps behind, then volume, then
 * the line or the candles. Cost per picture goes with the seconds in view, and none of it with the length of the day.
 *
 * Not drawn by the library's own series, for reasons seen in its 5.2.1: `update(bar, true)` at a second that was empty so
 * far overwrites the next bar, revisions are refused while its conflation is on, and each update rebuilds every point.
 * Axes, crosshair, panning and zooming are the library's.
 */

import type {
  IChartApiBase,
  IPrimitivePaneRenderer,
  IPrimitivePaneView,
  ISeriesApi,
  ISeriesPrimitive,
  Logical,
  PrimitivePaneViewZOrder,
  SeriesAttachedParameter,
} from 'lightweight-charts';

import type { BarStore, GapSpan } from '../bars';
import type { SessionSpan } from '../protocol';
import { eachGroup, stepFor } from './grouping';
import type { Palette } from './palette';

type Target = Parameters<IPrimitivePaneRenderer['draw']>[0];

export type Style = 'line' | 'candles';

/** What is to be drawn; the chart keeps it up to date. */
export interface Scene {
  bars: BarStore;
  sessions: readonly SessionSpan[];
  dayFromS: number | null;
  /** the price is known to have held up to this second */
  edgeS: number | null;
  /** the second under the crosshair */
  hoverS: number | null;
  style: Style;
  palette: Palette;
  /** Unix second of the grid's index 0 */
  gridFromS: number;
  /** the newest price is known to be current */
  live: boolean;
}

const VOLUME_SHARE = 0.17;
const BAR_LEAST_PX = 3;

/** Seconds and prices to device pixels, for one picture. */
interface Frame {
  readonly context: CanvasRenderingContext2D;
  readonly width: number;
  readonly height: number;
  readonly ratio: number;
  /** device pixels per second */
  readonly spacing: number;
  readonly fromS: number;
  readonly toS: number;
  x(s: number): number;
  y(price: number): number;
}

export class Painter implements ISeriesPrimitive<number> {
  private chart: IChartApiBase<number> | null = null;
  private series: ISeriesApi<'Line', number> | null = null;
  private request: (() => void) | null = null;
  private readonly views: readonly IPrimitivePaneView[];

  constructor(private readonly scene: Scene) {
    this.views = [
      view('bottom', (frame) => this.behind(frame), () => this),
      view('normal', (frame) => this.front(frame), () => this),
    ];
  }

  attached(parameter: SeriesAttachedParameter<number>): void {
    this.chart = parameter.chart;
    this.series = parameter.series as ISeriesApi<'Line', number>;
    this.request = parameter.requestUpdate;
  }

  detached(): void {
    this.chart = this.series = this.request = null;
  }

  paneViews(): readonly IPrimitivePaneView[] {
    return this.views;
  }

  repaint(): void {
    this.request?.();
  }

  /** Length of the bars that are told apart at the present zoom. */
  stepS(): number {
    return stepFor(this.spacingPx(), BAR_LEAST_PX);
  }

  private spacingPx(): number {
    const scale = this.chart?.timeScale();
    const a = scale?.logicalToCoordinate(0 as Logical) ?? 0;
    const b = scale?.logicalToCoordinate(1000 as Logical) ?? 0;
    return (b - a) / 1000;
  }

  draw(target: Target, paint: (frame: Frame) => void): void {
    const { chart, series, scene } = this;
    const origin = chart?.timeScale().logicalToCoordinate(0 as Logical) ?? null;
    if (!chart || !series || origin === null) return;
    const y0 = series.priceToCoordinate(0);
    const y1 = series.priceToCoordinate(1000);
    if (y0 === null || y1 === null) return;
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio, verticalPixelRatio }) => {
      const spacing = this.spacingPx() * horizontalPixelRatio;
      const left = origin * horizontalPixelRatio;
      const slope = ((y1 - y0) / 1000) * verticalPixelRatio;
      paint({
        context,
        width: bitmapSize.width,
        height: bitmapSize.height,
        ratio: horizontalPixelRatio,
        spacing,
        fromS: scene.gridFromS + (0 - left) / spacing - 1,
        toS: scene.gridFromS + (bitmapSize.width - left) / spacing + 1,
        x: (s) => left + (s - scene.gridFromS) * spacing,
        y: (price) => y0 * verticalPixelRatio + price * slope,
      });
    });
  }

  private behind(frame: Frame): void {
    this.paintSessions(frame);
    this.paintGaps(frame);
  }

  private front(frame: Frame): void {
    if (this.scene.bars.count === 0) return;
    this.paintVolume(frame);
    if (this.scene.style === 'candles') this.paintCandles(frame);
    else this.paintLine(frame);
  }

  private paintSessions(frame: Frame): void {
    const { context, height, ratio } = frame;
    const { palette, sessions, dayFromS } = this.scene;
    context.font = `${11 * ratio}px ${palette.font}`;
    context.textBaseline = 'top';
    for (const { session, fromS, toS } of sessions) {
      if (session === 'regular' || toS <= frame.fromS || fromS >= frame.toS) continue;
      const from = Math.round(Math.max(0, frame.x(fromS - 0.5)));
      const to = Math.round(Math.min(frame.width, frame.x(toS - 0.5)));
      context.fillStyle = palette.shade;
      context.fillRect(from, 0, to - from, height);
      const name = session === 'pre' ? 'Pre-market' : session === 'post' ? 'After hours' : 'Closed';
      if (to - from > 90 * ratio) {
        context.fillStyle = palette.inkSoft;
        context.fillText(name, from + 10 * ratio, 10 * ratio);
      }
    }
    if (sessions.length <= 1 && dayFromS !== null && dayFromS > frame.fromS && dayFromS < frame.toS) {
      context.fillStyle = palette.rule;
      context.fillRect(Math.round(frame.x(dayFromS - 0.5)), 0, Math.max(1, Math.floor(ratio)), height);
    }
  }

  /** Known gaps of the feed: hatched, with a bar at the foot, never thinner than can be seen. */
  private paintGaps(frame: Frame): void {
    for (const { fromS, toS } of spansOfDoubt(this.scene.bars, frame)) {
      const from = Math.round(frame.x(fromS - 0.5));
      const width = Math.max(Math.round(3 * frame.ratio), Math.round(frame.x(toS + 0.5)) - from);
      hatch(frame, from, width, this.scene.palette.warn);
    }
  }

  private paintVolume(frame: Frame): void {
    const { context, height, ratio } = frame;
    const { bars, palette, style } = this.scene;
    const stepS = this.stepS();
    let most = 0;
    eachGroup(bars, frame.fromS, frame.toS, stepS, (g) => {
      if (g.volume > most) most = g.volume;
    });
    if (most === 0) return;
    const full = height * VOLUME_SHARE;
    const pitch = stepS * frame.spacing;
    const width = Math.max(1, Math.round(Math.min(pitch * 0.7, 14 * ratio)));
    eachGroup(bars, frame.fromS, frame.toS, stepS, (g) => {
      if (g.volume === 0) return;
      const tall = Math.max(ratio, Math.round((g.volume / most) * full));
      const middle = frame.x(g.startS + (stepS - 1) / 2);
      context.fillStyle =
        style === 'line' ? palette.volume : g.close >= g.open ? palette.volumeUp : palette.volumeDown;
      context.fillRect(Math.round(middle - width / 2), height - tall, width, tall);
    });
  }

  private paintCandles(frame: Frame): void {
    const { context, ratio } = frame;
    const { bars, palette } = this.scene;
    const stepS = this.stepS();
    const body = Math.max(1, Math.round(Math.min(stepS * frame.spacing * 0.7, 14 * ratio)));
    const wick = Math.max(1, Math.min(Math.floor(ratio), body));
    eachGroup(bars, frame.fromS, frame.toS, stepS, (g) => {
      const middle = Math.round(frame.x(g.startS + (stepS - 1) / 2));
      const top = Math.round(frame.y(Math.max(g.open, g.close)));
      const foot = Math.round(frame.y(Math.min(g.open, g.close)));
      const high = Math.round(frame.y(g.high));
      const low = Math.round(frame.y(g.low));
      context.fillStyle = g.close >= g.open ? palette.up : palette.down;
      context.fillRect(middle - Math.floor(wick / 2), high, wick, Math.max(1, low - high));
      context.fillRect(middle - Math.floor(body / 2), top, body, Math.max(Math.max(1, Math.floor(ratio)), foot - top));
    });
  }

  /** The last price as a step line: it holds until the next trade, and breaks where the feed was away. */
  private paintLine(frame: Frame): void {
    const { context, ratio, height } = frame;
    const { palette, edgeS, bars } = this.scene;
    const pieces = linePieces(bars, frame);
    context.lineJoin = 'round';
    context.lineWidth = 1.5 * ratio;
    const fill = context.createLinearGradient(0, 0, 0, height);
    fill.addColorStop(0, palette.fill);
    fill.addColorStop(1, palette.fillEnd);
    for (const piece of pieces) {
      context.beginPath();
      trace(context, piece);
      context.lineTo(piece.at(-2)!, height);
      context.lineTo(piece[0]!, height);
      context.fillStyle = fill;
      context.fill();
      context.beginPath();
      trace(context, piece);
      context.strokeStyle = palette.line;
      context.stroke();
    }
    this.paintBridges(frame, pieces);
    const last = bars.last();
    if (last === null) return;
    const y = frame.y(last.close);
    const edge = Math.max(last.startS, edgeS ?? last.startS);
    dashed(frame, [frame.x(last.startS), y, frame.x(edge), y], palette.line, edge - last.startS > 3 ? 0.45 : 1);
    this.paintDot(frame, frame.x(edge), y);
    this.paintHover(frame);
  }

  /** What lies between two pieces is not known; a faint dashed line says so. */
  private paintBridges(frame: Frame, pieces: readonly number[][]): void {
    pieces.slice(1).forEach((piece, k) => {
      const before = pieces[k]!;
      dashed(frame, [before.at(-2)!, before.at(-1)!, piece[0]!, piece[1]!], this.scene.palette.warn, 0.7, true);
    });
  }

  private paintDot(frame: Frame, x: number, y: number): void {
    const { context, ratio } = frame;
    const { palette, live } = this.scene;
    context.fillStyle = live ? palette.line : palette.inkSoft;
    for (const [radius, alpha] of [[7, 0.18], [3, 1]] as const) {
      context.globalAlpha = alpha;
      context.beginPath();
      context.arc(x, y, radius * ratio, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  private paintHover(frame: Frame): void {
    const { bars, hoverS } = this.scene;
    const bar = hoverS === null ? null : bars.before(hoverS);
    if (bar && hoverS !== null && hoverS <= (this.scene.edgeS ?? 0)) {
      this.paintDot(frame, frame.x(hoverS), frame.y(bar.close));
    }
  }
}

function view(order: PrimitivePaneViewZOrder, paint: (frame: Frame) => void, painter: () => Painter): IPrimitivePaneView {
  const renderer: IPrimitivePaneRenderer = { draw: (target) => painter().draw(target, paint) };
  return { zOrder: () => order, renderer: () => renderer };
}

/**
 * The line's corners as x, y, x, y …, one list per unbroken piece. Where several seconds share a device pixel, its
 * column is drawn from the lowest to the highest close, so that no spike is lost.
 */
export function linePieces(bars: BarStore, frame: Pick<Frame, 'fromS' | 'toS' | 'x' | 'y'>): number[][] {
  if (bars.firstS === null || bars.lastS === null) return [];
  const start = bars.before(Math.floor(frame.fromS))?.startS ?? bars.firstS;
  const end = Math.min(bars.lastS, Math.ceil(frame.toS));
  const pieces: number[][] = [];
  let piece: number[] = [];
  let previous = NaN;
  let column = NaN;
  let [low, high, lastY] = [0, 0, 0];
  const flush = (): void => {
    if (column === column && high - low > 0.01) piece.push(column, low, column, high, column, lastY);
    column = NaN;
  };
  for (let s = start; s <= end; s += 1) {
    const close = bars.close[s - bars.originS]!;
    if (close !== close) continue;
    const x = Math.round(frame.x(s));
    const y = frame.y(close);
    if (previous === previous && broken(bars, previous, s)) {
      flush();
      piece = [];
    }
    if (piece.length === 0) {
      pieces.push(piece);
      piece.push(x, y);
    }
    if (x !== column) {
      flush();
      piece.push(x, piece.at(-1)!, x, y);
      column = x;
      low = high = y;
    }
    low = Math.min(low, y);
    high = Math.max(high, y);
    lastY = y;
    previous = s;
  }
  flush();
  return pieces;
}

/** Where trades may be missing: known gaps and runs of incomplete bars, joined where they meet. */
export function spansOfDoubt(bars: BarStore, frame: Pick<Frame, 'fromS' | 'toS'>): GapSpan[] {
  const spans: { fromS: number; toS: number }[] = bars.gaps
    .filter((gap) => gap.toS >= frame.fromS && gap.fromS <= frame.toS)
    .map((gap) => ({ ...gap }));
  let open: { fromS: number; toS: number } | null = null;
  const to = Math.min(bars.lastS ?? -Infinity, Math.ceil(frame.toS));
  for (let s = Math.max(bars.firstS ?? Infinity, Math.floor(frame.fromS)); s <= to; s += 1) {
    const i = s - bars.originS;
    if (bars.flags[i]! & 1) {
      if (open) open.toS = s;
      else spans.push((open = { fromS: s, toS: s }));
    } else if (bars.close[i] === bars.close[i]) open = null; // a whole bar ends the doubt, a hole does not
  }
  spans.sort((a, b) => a.fromS - b.fromS);
  return spans.reduce<{ fromS: number; toS: number }[]>((joined, span) => {
    const last = joined.at(-1);
    if (last && span.fromS <= last.toS + 1) last.toS = Math.max(last.toS, span.toS);
    else joined.push(span);
    return joined;
  }, []);
}

/** Whether the seconds between two neighbouring bars belong to a known gap. */
function broken(bars: BarStore, a: number, b: number): boolean {
  if (b - a <= 1) return false;
  if (bars.isIncomplete(a) && bars.isIncomplete(b)) return true;
  return bars.gaps.some((gap) => gap.fromS < b && gap.toS > a);
}

function trace(context: CanvasRenderingContext2D, corners: readonly number[]): void {
  context.moveTo(corners[0]!, corners[1]!);
  for (let i = 2; i < corners.length; i += 2) context.lineTo(corners[i]!, corners[i + 1]!);
}

function dashed(frame: Frame, line: readonly number[], color: string, alpha: number, dash = false): void {
  const { context, ratio } = frame;
  context.save();
  context.globalAlpha = alpha;
  context.lineWidth = 1.5 * ratio;
  context.strokeStyle = color;
  if (dash) context.setLineDash([3 * ratio, 4 * ratio]);
  context.beginPath();
  trace(context, line);
  context.stroke();
  context.restore();
}

function hatch(frame: Frame, from: number, width: number, color: string): void {
  const { context, height, ratio } = frame;
  context.save();
  context.beginPath();
  context.rect(from, 0, width, height);
  context.clip();
  context.globalAlpha = 0.1;
  context.fillStyle = color;
  context.fillRect(from, 0, width, height);
  context.globalAlpha = 0.28;
  context.strokeStyle = color;
  context.lineWidth = Math.max(1, ratio);
  context.beginPath();
  const pitch = 7 * ratio;
  for (let x = Math.floor((from - height) / pitch) * pitch; x < from + width; x += pitch) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.stroke();
  context.globalAlpha = 1;
  context.fillStyle = color;
  context.fillRect(from, height - 2 * ratio, width, 2 * ratio);
  context.restore();
}
