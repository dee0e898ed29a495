/**
 * The day's chart: the library's axes, crosshair and gestures around our painter.
 *
 * The time axis is true in time although the library spaces points evenly: one invisible series has a point for every
 * second of the span (whitespace, no values), so index = second − start. A single value at the far end keeps the scale
 * alive. Prices for the vertical scale come from the bars in view.
 */

import {
  ColorType,
  createChartEx,
  CrosshairMode,
  LineSeries,
  LineStyle,
  type IChartApiBase,
  type IPriceLine,
  type ISeriesApi,
  type LogicalRange,
  type MouseEventParams,
} from 'lightweight-charts';

import { BarStore } from '../bars';
import * as format from '../format';
import type { SessionSpan } from '../protocol';
import { ClockScale } from './clockscale';
import { eachGroup, type Group } from './grouping';
import { Painter, type Scene, type Style } from './painter';
import { palette } from './palette';
import { Viewport, type Preset, type Range } from './viewport';

/** What the chart needs to know for one picture. */
export interface Picture {
  readonly bars: BarStore;
  readonly edgeS: number | null;
  readonly price: number | null;
  readonly direction: -1 | 0 | 1;
  readonly previousClose: number | null;
  readonly digits: number;
  readonly sessions: readonly SessionSpan[];
  readonly dayFromS: number | null;
  readonly live: boolean;
  readonly zone: format.Zone;
}

/** The bars under the crosshair, or the newest ones. */
export interface Legend {
  readonly group: Group | null;
  readonly stepS: number;
  readonly hovering: boolean;
  readonly atS: number | null;
}

const AHEAD_S = 5_400;
const RENEW_S = 900;
const TOUCHED_MS = 1_500;

export class DayChart {
  readonly viewport = new Viewport();
  onView: () => void = () => undefined;
  onHover: () => void = () => undefined;
  private readonly chart: IChartApiBase<number>;
  private readonly grid: ISeriesApi<'Line', number>;
  private readonly painter: Painter;
  private readonly scene: Scene;
  private readonly lastLine: IPriceLine;
  private closeLine: IPriceLine | null = null;
  private gridToS = 0;
  private shown: LogicalRange | null = null;
  private width = 0;
  private touchedMs = -Infinity;
  private pressed = false;
  private digits = -1;
  private zone = format.zone('UTC');
  private picture: Picture | null = null;

  constructor(private readonly host: HTMLElement) {
    this.chart = createChartEx<number, ClockScale>(host, new ClockScale(() => this.zone), {
      autoSize: true,
      layout: { attributionLogo: false, fontSize: 11 },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.1, bottom: 0.24 }, minimumWidth: 64, entireTextOnly: true },
      timeScale: {
        borderVisible: false,
        allowBoldLabels: false,
        uniformDistribution: true,
        tickMarkMaxCharacterLength: 6,
        minBarSpacing: 0.002,
        maxBarSpacing: 40,
        shiftVisibleRangeOnNewBar: false,
      },
      crosshair: { mode: CrosshairMode.Normal },
      kineticScroll: { touch: true, mouse: false },
    });
    this.scene = {
      bars: new BarStore(),
      sessions: [],
      dayFromS: null,
      edgeS: null,
      hoverS: null,
      style: 'line',
      palette: palette(),
      gridFromS: 0,
      live: false,
    };
    this.grid = this.chart.addSeries(LineSeries, {
      lineVisible: false,
      crosshairMarkerVisible: false,
      lastValueVisible: false,
      priceLineVisible: false,
      autoscaleInfoProvider: () => this.autoscale(),
    });
    this.painter = new Painter(this.scene);
    this.grid.attachPrimitive(this.painter);
    this.lastLine = this.grid.createPriceLine({ price: 0, lineStyle: LineStyle.Dotted, lineWidth: 1, lineVisible: false });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => this.rangeChanged(range));
    this.chart.subscribeCrosshairMove((event) => this.hover(event));
    this.watchHands();
    this.recolour();
  }

  get style(): Style {
    return this.scene.style;
  }

  set style(style: Style) {
    this.scene.style = style;
    this.redraw();
  }

  choose(preset: Preset): void {
    this.viewport.choose(preset);
    this.show(true);
    this.onView();
  }

  goLive(): void {
    this.viewport.live();
    this.show(true);
    this.onView();
  }

  /** Moves by a share of what is on show (pan) or multiplies its span (zoom); for the keyboard. */
  nudge(pan: number, zoom: number): void {
    const edgeS = this.picture?.edgeS;
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (!range || edgeS == null) return;
    const span = (range.to - range.from) * zoom;
    const to = range.to + pan * span;
    this.viewport.moved(this.seconds({ from: to - span, to }), edgeS);
    this.show(true);
    this.onView();
  }

  /** Several seconds share a pixel. */
  isWide(): boolean {
    return this.painter.stepS() > 5;
  }

  draw(picture: Picture): void {
    const { bars, edgeS } = picture;
    this.picture = picture;
    if (picture.zone !== this.zone) this.gridToS = 0; // its ticks are laid out in the zone
    this.zone = picture.zone;
    Object.assign(this.scene, {
      bars,
      edgeS,
      sessions: picture.sessions,
      dayFromS: picture.dayFromS,
      live: picture.live,
    });
    this.host.classList.toggle('empty', bars.count === 0);
    if (picture.digits !== this.digits) this.setDigits(picture.digits);
    this.setLines(picture);
    if (bars.firstS === null || edgeS === null) {
      this.painter.repaint();
      return;
    }
    this.renewGrid(bars.firstS, edgeS);
    this.show(false);
    this.redraw();
  }

  /** What the legend says: the group under the crosshair, else the newest. */
  legend(): Legend {
    const { bars, hoverS, edgeS } = this.scene;
    const stepS = this.painter.stepS();
    const atS = hoverS ?? bars.lastS;
    let found: Group | null = null;
    if (atS !== null) {
      const start = Math.floor(atS / stepS) * stepS;
      eachGroup(bars, start, start + stepS - 1, stepS, (group) => {
        if (group.startS === start) found = { ...group };
      });
    }
    const inside = hoverS === null || (bars.firstS !== null && hoverS >= bars.firstS && hoverS <= (edgeS ?? 0));
    return { group: found, stepS, hovering: hoverS !== null && inside, atS: inside ? atS : null };
  }

  recolour(): void {
    const p = palette();
    this.scene.palette = p;
    this.chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: p.ground }, textColor: p.inkSoft, fontFamily: p.font },
      grid: { vertLines: { visible: false }, horzLines: { color: p.rule } },
      crosshair: {
        vertLine: { color: p.inkSoft, labelBackgroundColor: p.ink, width: 1, style: LineStyle.Dotted },
        horzLine: { color: p.inkSoft, labelBackgroundColor: p.ink, width: 1, style: LineStyle.Dotted },
      },
    });
    if (this.picture) this.setLines(this.picture);
    this.redraw();
  }

  private redraw(): void {
    if (this.gridToS > 0 && this.picture?.price != null) {
      // The value itself is off screen; setting it makes the library work out the price scale anew.
      this.grid.update({ time: this.gridToS, value: this.picture.price });
    }
    this.painter.repaint();
  }

  private setDigits(digits: number): void {
    this.digits = digits;
    this.grid.applyOptions({
      priceFormat: { type: 'custom', minMove: 10 ** -digits, formatter: (value: number) => format.price(value, digits) },
    });
  }

  private setLines({ price, direction, previousClose, live }: Picture): void {
    const { palette: p } = this.scene;
    const color = !live ? p.inkSoft : direction > 0 ? p.up : direction < 0 ? p.down : p.line;
    const visible = price !== null;
    this.lastLine.applyOptions({ price: price ?? 0, color, axisLabelVisible: visible, lineVisible: visible, axisLabelTextColor: p.ground });
    if (previousClose === null) {
      if (this.closeLine) this.grid.removePriceLine(this.closeLine);
      this.closeLine = null;
      return;
    }
    const options = { price: previousClose, color: p.faint, lineWidth: 1, lineStyle: LineStyle.LargeDashed, axisLabelVisible: true, axisLabelColor: p.chip, axisLabelTextColor: p.inkMid } as const;
    if (this.closeLine) this.closeLine.applyOptions(options);
    else this.closeLine = this.grid.createPriceLine(options);
  }

  /** Lays out the seconds from the first bar to well past the newest one, and again before they run out. */
  private renewGrid(firstS: number, edgeS: number): void {
    const fits = firstS >= this.scene.gridFromS && edgeS + RENEW_S < this.gridToS;
    const wasteful = firstS - this.scene.gridFromS > 86_400;
    if (this.gridToS > 0 && fits && !wasteful) return;
    const fromS = firstS - 60;
    const toS = edgeS + AHEAD_S;
    const points: { time: number; value?: number }[] = [];
    for (let s = fromS; s < toS; s += 1) points.push({ time: s });
    points.push({ time: toS, value: this.picture?.price ?? 0 });
    this.scene.gridFromS = fromS;
    this.gridToS = toS;
    this.grid.setData(points);
    this.shown = null;
  }

  /** Puts the viewport's range on the time scale, unless the reader has hold of it. */
  private show(now: boolean): void {
    const { firstS } = this.scene.bars;
    const edgeS = this.scene.edgeS;
    if (firstS === null || edgeS === null || (this.pressed && !now)) return;
    const range = this.viewport.range(firstS, edgeS);
    const logical = { from: range.fromS - this.scene.gridFromS, to: range.toS - this.scene.gridFromS } as LogicalRange;
    if (this.shown && near(this.shown, logical)) return;
    this.shown = logical;
    this.width = this.chart.timeScale().width();
    this.host.style.setProperty('--axis-width', `${this.chart.priceScale('right').width()}px`);
    this.chart.timeScale().setVisibleLogicalRange(logical);
  }

  private rangeChanged(range: LogicalRange | null): void {
    if (range === null || this.picture?.edgeS == null) return;
    const width = this.chart.timeScale().width();
    if (width !== this.width) {
      // The page or the price axis changed its width: same stretch of time as before.
      this.shown = null;
      requestAnimationFrame(() => this.show(true));
      return;
    }
    const byHand = this.pressed || performance.now() - this.touchedMs < TOUCHED_MS;
    if (!byHand || (this.shown && near(this.shown, range))) return;
    this.shown = range;
    this.viewport.moved(this.seconds(range), this.picture.edgeS);
    this.onView();
  }

  private seconds(range: { from: number; to: number }): Range {
    return { fromS: range.from + this.scene.gridFromS, toS: range.to + this.scene.gridFromS };
  }

  private hover(event: MouseEventParams<number>): void {
    const inside = event.point !== undefined && event.logical !== undefined;
    this.scene.hoverS = inside ? Math.round(event.logical!) + this.scene.gridFromS : null;
    this.painter.repaint();
    this.onHover();
  }

  private watchHands(): void {
    const touched = (): void => {
      this.touchedMs = performance.now();
    };
    this.host.addEventListener('wheel', touched, { passive: true, capture: true });
    this.host.addEventListener('pointerdown', () => {
      this.pressed = true;
      touched();
    }, true);
    this.host.addEventListener('pointermove', () => {
      if (this.pressed) touched();
    }, true);
    for (const end of ['pointerup', 'pointercancel'] as const) {
      window.addEventListener(end, () => {
        if (this.pressed) touched();
        this.pressed = false;
      }, true);
    }
  }

  private autoscale(): { priceRange: { minValue: number; maxValue: number } } | null {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const { bars } = this.scene;
    if (!range) return null;
    const { fromS, toS } = this.seconds(range);
    // The price that holds at the left border belongs to the picture, too.
    const held = bars.before(Math.floor(fromS));
    const extent = bars.extent(fromS, toS);
    const min = Math.min(extent?.min ?? Infinity, held?.close ?? Infinity);
    const max = Math.max(extent?.max ?? -Infinity, held?.close ?? -Infinity);
    if (min > max) return null;
    const least = 4 * 10 ** -Math.max(0, this.digits);
    const pad = Math.max(0, least - (max - min)) / 2;
    return { priceRange: { minValue: min - pad, maxValue: max + pad } };
  }
}

function near(a: LogicalRange, b: LogicalRange): boolean {
  const tolerance = Math.max(0.02, (a.to - a.from) * 1e-4);
  return Math.abs(a.from - b.from) < tolerance && Math.abs(a.to - b.to) < tolerance;
}
