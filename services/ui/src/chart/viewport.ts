/**
 * Which stretch of time is on show. Follows the right edge until the reader moves away from it, and again when the
 * reader comes back to it. Pure: seconds in, seconds out.
 */

export interface Range {
  readonly fromS: number;
  readonly toS: number;
}

export type Preset = '5m' | '15m' | '1h' | '1D';

export const PRESET_S: Readonly<Record<Preset, number>> = { '5m': 300, '15m': 900, '1h': 3600, '1D': 86_400 };
/** A day that has only begun is shown this long, so that its first bars are not blocks. */
const DAY_LEAST_S = 120;
/** Room between the newest bar and the price axis, as a share of the span. */
const MARGIN = 0.06;
/** Nearer to the edge than this share of the span counts as being at it. */
const AT_EDGE = 0.01;

export class Viewport {
  following = true;
  preset: Preset | null = '1D';
  private spanS = PRESET_S['1D'];
  private held: Range = { fromS: 0, toS: 1 };

  /** The range to show, with the first and the newest known second of the data. */
  range(firstS: number, edgeS: number): Range {
    if (!this.following) return this.held;
    const dataS = edgeS - firstS + 1;
    const wholeDay = this.preset === '1D';
    const spanS = wholeDay ? Math.min(this.spanS, Math.max(DAY_LEAST_S, dataS)) : this.spanS;
    // Data that does not fill the span yet starts at the left and grows to the right.
    const fromS = dataS <= spanS ? firstS - 0.01 * spanS : edgeS - spanS;
    const toS = dataS <= spanS ? firstS + spanS : edgeS;
    this.held = { fromS, toS: toS + MARGIN * spanS };
    return this.held;
  }

  choose(preset: Preset): void {
    this.preset = preset;
    this.spanS = PRESET_S[preset];
    this.following = true;
  }

  /** Back to the newest bar with the present zoom. */
  live(): void {
    if (!this.following) this.spanS = Math.max(1, (this.held.toS - this.held.fromS) / (1 + MARGIN));
    this.following = true;
  }

  /** The reader has panned or zoomed to `range`; `edgeS` is the newest known second. */
  moved(range: Range, edgeS: number): void {
    const spanS = range.toS - range.fromS;
    this.preset = null;
    this.held = range;
    this.following = range.toS >= edgeS - AT_EDGE * spanS && range.fromS < edgeS;
    this.spanS = Math.max(1, this.following ? edgeS - range.fromS : spanS / (1 + MARGIN));
  }
}
