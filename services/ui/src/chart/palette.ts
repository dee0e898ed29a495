/** The chart's colours, taken from the style sheet, where light and dark are defined once. */

export interface Palette {
  readonly ground: string;
  readonly ink: string;
  readonly inkMid: string;
  readonly inkSoft: string;
  readonly faint: string;
  readonly chip: string;
  readonly rule: string;
  readonly line: string;
  readonly fill: string;
  readonly fillEnd: string;
  readonly up: string;
  readonly down: string;
  readonly volume: string;
  readonly volumeUp: string;
  readonly volumeDown: string;
  readonly shade: string;
  readonly warn: string;
  readonly font: string;
}

export function palette(): Palette {
  // A probe resolves light-dark() and nested variables, which reading the variable itself does not.
  const probe = document.createElement('span');
  document.body.append(probe);
  const read = (name: string): string => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const colours = {
    ground: read('--panel'),
    ink: read('--ink'),
    inkMid: read('--ink-mid'),
    inkSoft: read('--ink-soft'),
    faint: read('--faint'),
    chip: read('--field'),
    rule: read('--rule'),
    line: read('--accent'),
    fill: read('--chart-fill'),
    fillEnd: read('--chart-fill-end'),
    up: read('--up'),
    down: read('--down'),
    volume: read('--volume'),
    volumeUp: read('--volume-up'),
    volumeDown: read('--volume-down'),
    shade: read('--shade'),
    warn: read('--warn'),
    font: getComputedStyle(document.body).fontFamily,
  };
  probe.remove();
  return colours;
}
