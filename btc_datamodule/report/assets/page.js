"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const redraws = [];
  root.classList.replace("no-js", "js");

  // The theme: that of the system, until the switch says otherwise.
  const themes = { auto: "light", light: "dark", dark: "auto" };
  const button = byId("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => redraws.forEach((each) => each());
  button.hidden = false;
  button.addEventListener("click", () => {
    const theme = themes[root.dataset.theme];
    root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    redraw();
  });
  dark.addEventListener("change", redraw);
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  // Numbers of two bytes each, which stand for logarithms of prices; 65535 for none.
  const NONE = 65535;
  const STEPS = 65000;
  const unpack = (text, low, high) => {
    const bytes = atob(text);
    const values = new Array(bytes.length / 2);
    for (let i = 0; i < values.length; i++) {
      const number = bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1);
      values[i] = number === NONE ? null : low + (number / STEPS) * (high - low);
    }
    return values;
  };

  const two = (number) => String(number).padStart(2, "0");
  const writeTime = (seconds) => {
    const at = new Date(seconds * 1000);
    const day = `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
    const past = at.getUTCSeconds() ? `:${two(at.getUTCSeconds())}` : "";
    return `${day} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${past}`;
  };
  const writeLength = (seconds) => {
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      if (seconds >= 2 * size || seconds === size) return `${+(seconds / size).toPrecision(3)} ${unit}`;
    }
    return `${+seconds.toPrecision(3)} s`;
  };
  // A price to so many significant digits, by default four or, of one of 1 and more, five.
  const writePrice = (price, digits = price >= 1 ? 5 : 4) => {
    const size = Math.floor(Math.log10(price));
    if (price && (size < -4 || size >= 12)) {
      return price.toExponential(digits - 1).replace(/\.?0*e/, "e").replace("e+", "e");
    }
    const places = Math.min(20, Math.max(0, digits - 1 - size));
    return price.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: places });
  };
  // Prices beside each other, to as many digits as tell them apart.
  const writePrices = (prices) => {
    for (let digits = 2; digits < 12; digits++) {
      const texts = prices.map((each) => writePrice(each, digits));
      const same = (each, i) => Math.abs(Number(texts[i].replaceAll(",", "")) / each - 1) < 1e-6;
      if (prices.every(same)) return texts;
    }
    return prices.map((each) => writePrice(each, 12));
  };

  // Marks of the price axis, whose places are logarithms: round prices.
  const listPrices = (low, high, most) => {
    const from = Math.exp(low);
    const to = Math.exp(high);
    const found = [];
    if (to / from > 8) {
      for (const factors of [[1], [1, 3], [1, 2, 5]]) {
        found.length = 0;
        for (let p = Math.floor(Math.log10(from)); p <= Math.ceil(Math.log10(to)); p++) {
          for (const f of factors) {
            const price = f * 10 ** p;
            if (price >= from && price <= to) found.push(price);
          }
        }
        if (found.length >= most - 1) break;
      }
    } else {
      const raw = (to - from) / most;
      const power = 10 ** Math.floor(Math.log10(raw));
      const step = [1, 2, 5, 10].map((f) => f * power).find((each) => each >= raw * 0.999);
      for (let k = Math.ceil(from / step); k * step <= to; k++) found.push(k * step);
    }
    return found.map(Math.log);
  };

  const makeLevels = (level) => {
    const levels = [level];
    const pick = (better, a, b) => (a === null ? b : b === null ? a : better(a, b));
    while (levels.at(-1).low.length > 400) {
      const { first, seconds, low, high } = levels.at(-1);
      const half = { first, seconds: 2 * seconds, low: [], high: [] };
      for (let i = 0; i < low.length; i += 2) {
        half.low.push(pick(Math.min, low[i], low[i + 1] ?? null));
        half.high.push(pick(Math.max, high[i], high[i + 1] ?? null));
      }
      levels.push(half);
    }
    return levels;
  };

  const startPrices = (data) => {
    const box = byId("price-chart");
    const told = byId("price-told");
    const scale = byId("price-scale");
    const [first, last] = data.span;
    const levels = makeLevels({
      first,
      seconds: data.seconds,
      low: unpack(data.low, ...data.range),
      high: unpack(data.high, ...data.range),
    });
    const pieces = data.pieces.map((piece) => {
      const values = unpack(piece.prices, ...piece.range);
      const count = values.length / 4;
      const [open, high, low, close] = [0, 1, 2, 3].map((k) =>
        values.slice(k * count, (k + 1) * count),
      );
      const end = piece.first + count * piece.seconds;
      return { ...piece, end, open, high, low, close };
    });
    let chart = null;
    let shown = null;

    // What to draw of a view: bars where they are there, or the finest level that is not too much.
    const choose = (from, to) => {
      const piece = pieces.find((each) => each.first <= from && to <= each.end);
      if (piece && (to - from) / piece.seconds <= data.most) return piece;
      return levels.find((each) => (to - from) / each.seconds <= data.most) ?? levels.at(-1);
    };
    const cut = (source, from, to) => {
      const { seconds } = source;
      const low = Math.max(0, Math.floor((from - source.first) / seconds) - 1);
      const high = Math.min(source.low.length, Math.ceil((to - source.first) / seconds) + 1);
      const times = [];
      for (let i = low; i < high; i++) times.push(source.first + (i + 0.5) * seconds);
      const none = new Array(times.length).fill(null);
      return [
        times,
        source.low.slice(low, high),
        source.high.slice(low, high),
        source.open ? source.open.slice(low, high) : none,
        source.close ? source.close.slice(low, high) : none,
      ];
    };
    const show = (from, to) => {
      const inside = pieces.some((each) => each.first <= from && to <= each.end);
      const least = 12 * (inside ? data.bar : data.seconds);
      let length = Math.min(Math.max(to - from, least), last - first);
      length = Math.max(1, Math.round(length / data.bar)) * data.bar;
      let begin = (from + to - length) / 2;
      begin = first + Math.round((begin - first) / data.bar) * data.bar;
      begin = Math.min(Math.max(begin, first), last - length);
      shown = { from: begin, to: begin + length, source: choose(begin, begin + length) };
      chart.batch(() => {
        chart.setData(cut(shown.source, shown.from, shown.to), false);
        chart.setScale("x", { min: shown.from, max: shown.to });
      });
      const bars = Boolean(shown.source.open);
      box.dataset.from = Math.round(shown.from);
      box.dataset.to = Math.round(shown.to);
      box.dataset.kind = bars ? "bars" : "level";
      scale.textContent =
        `${writeTime(shown.from)} to ${writeTime(shown.to)} UTC, ` +
        (bars ? "bar by bar" : `each point: low and high of ${writeLength(shown.source.seconds)}`);
    };
    const zoom = (factor, at = 0.5) => {
      const length = shown.to - shown.from;
      const middle = shown.from + at * length;
      show(middle - at * length * factor, middle + (1 - at) * length * factor);
    };
    const pan = (share) => {
      const step = share * (shown.to - shown.from);
      show(shown.from + step, shown.to + step);
    };

    const hatch = (context, ink, rising) => {
      const tile = document.createElement("canvas");
      tile.width = tile.height = 8 * devicePixelRatio;
      const pen = tile.getContext("2d");
      pen.scale(devicePixelRatio, devicePixelRatio);
      pen.strokeStyle = ink;
      pen.lineWidth = 1.2;
      for (const shift of [-8, 0, 8]) {
        pen.moveTo(shift, rising ? 8 : 0);
        pen.lineTo(shift + 8, rising ? 0 : 8);
      }
      pen.stroke();
      return context.createPattern(tile, "repeat");
    };
    const drawSpans = (u) => {
      const { ctx } = u;
      const { left, top, width, height } = u.bbox;
      const strip = 7 * devicePixelRatio;
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      const place = (start, end) => {
        const a = u.valToPos(Math.max(start, shown.from), "x", true);
        const b = u.valToPos(Math.min(end, shown.to), "x", true);
        return [a, Math.max(b - a, devicePixelRatio)];
      };
      for (const [kind, stage, start, end] of data.ribbons) {
        if (end < shown.from || start > shown.to) continue;
        const [x, wide] = place(start, end);
        ctx.globalAlpha = kind === "stage" ? 0.09 : 0.8;
        ctx.fillStyle =
          kind === "stage" ? colour(stage) : hatch(ctx, colour(kind), kind === "embargo");
        ctx.fillRect(x, top, wide, height);
        if (kind !== "stage") continue;
        ctx.globalAlpha = 1;
        ctx.fillRect(x, top + height - strip, wide, strip);
      }
      ctx.globalAlpha = 1;
      ctx.fillStyle = colour("outage");
      let drawn = -1;
      for (const [start, end] of data.outages) {
        if (end < shown.from || start > shown.to) continue;
        const [x, wide] = place(start, end);
        if (x + wide < drawn) continue;
        if (wide >= 3 * devicePixelRatio) {
          ctx.globalAlpha = 0.22;
          ctx.fillRect(x, top, wide, height);
        }
        ctx.globalAlpha = 1;
        ctx.fillRect(x, top, Math.max(wide, 2 * devicePixelRatio), strip);
        drawn = x + Math.max(wide, devicePixelRatio);
      }
      ctx.restore();
    };
    const drawPrices = (u) => {
      const { ctx } = u;
      const { left, top, width, height } = u.bbox;
      const [times, low, high, open, close] = u.data;
      const wide = (shown.source.seconds / (shown.to - shown.from)) * width;
      const y = (value) => u.valToPos(value, "y", true);
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      const candles = open.some((each) => each !== null) && wide >= 3 * devicePixelRatio;
      const ink = colour("price");
      for (let i = 0; i < times.length; i++) {
        if (low[i] === null) continue;
        const x = u.valToPos(times[i], "x", true);
        if (!candles) {
          const tall = Math.max(y(low[i]) - y(high[i]), devicePixelRatio);
          const across = wide > 6 * devicePixelRatio ? 0.8 * wide : Math.max(wide, devicePixelRatio);
          ctx.fillStyle = ink;
          ctx.fillRect(x - across / 2, y(high[i]), across, tall);
          continue;
        }
        const rises = close[i] >= open[i];
        ctx.fillStyle = colour(rises ? "up" : "down");
        const thin = Math.max(1, Math.round(devicePixelRatio));
        ctx.fillRect(x - thin / 2, y(high[i]), thin, Math.max(y(low[i]) - y(high[i]), 1));
        const above = y(Math.max(open[i], close[i]));
        const tall = Math.max(y(Math.min(open[i], close[i])) - above, thin);
        ctx.fillRect(x - wide * 0.35, above, wide * 0.7, tall);
      }
      ctx.restore();
    };
    const tell = (u) => {
      const i = u.cursor.idx;
      if (i === null || i === undefined || u.data[1][i] === null) {
        told.textContent = "\u00a0";
        return;
      }
      const [times, low, high, open, close] = u.data;
      const begin = times[i] - shown.source.seconds / 2;
      const [l, h] = [low[i], high[i]].map((each) => writePrice(Math.exp(each)));
      told.textContent =
        open[i] === null
          ? `${writeTime(begin)} and ${writeLength(shown.source.seconds)} on: low ${l}, high ${h}`
          : `${writeTime(begin)}: open ${writePrice(Math.exp(open[i]))}, high ${h}, low ${l}, ` +
            `close ${writePrice(Math.exp(close[i]))}`;
    };

    const size = () => ({ width: box.clientWidth, height: box.clientWidth < 600 ? 300 : 400 });
    const axis = {
      stroke: () => colour("ink"),
      grid: { stroke: () => colour("grid"), width: 1 },
      ticks: { stroke: () => colour("grid"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    const hidden = { paths: () => null, points: { show: false } };
    const options = {
      ...size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      scales: {
        x: { time: true, auto: false },
        y: {
          range: (u, low, high) => {
            const { min, max } = u.scales.y; // of an outage alone: as it was before
            if (low === null || high === null) return min === null ? [0, 1] : [min, max];
            const more = Math.max((high - low) * 0.06, 1e-5);
            return [low - more * 1.6, high + more];
          },
        },
      },
      axes: [
        { ...axis, space: 70, values: listDates() },
        {
          ...axis,
          size: (_, texts) => Math.max(64, 24 + 7 * Math.max(...(texts ?? []).map((each) => each.length))),
          splits: (u, _, low, high) => listPrices(low, high, u.height < 350 ? 4 : 6),
          values: (_, splits) => writePrices(splits.map(Math.exp)),
        },
      ],
      series: [{}, hidden, hidden, { ...hidden, auto: false }, { ...hidden, auto: false }],
      hooks: {
        drawClear: [drawSpans],
        draw: [drawPrices],
        setCursor: [tell],
        setSelect: [
          (u) => {
            if (u.select.width < 4) return;
            const from = u.posToVal(u.select.left, "x");
            const to = u.posToVal(u.select.left + u.select.width, "x");
            u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            show(from, to);
          },
        ],
      },
    };
    shown = { from: first, to: last, source: choose(first, last) };
    chart = new uPlot(options, cut(shown.source, first, last), box);
    show(first, last);

    chart.over.addEventListener("dblclick", () => show(first, last));
    chart.over.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return; // the page scrolls
        event.preventDefault();
        const at = (event.clientX - chart.over.getBoundingClientRect().left) / chart.over.clientWidth;
        zoom((event.deltaY || event.deltaX) > 0 ? 1.3 : 1 / 1.3, at);
      },
      { passive: false },
    );
    const acts = {
      in: () => zoom(0.5),
      out: () => zoom(2),
      back: () => pan(-0.5),
      on: () => pan(0.5),
      all: () => show(first, last),
    };
    for (const each of document.querySelectorAll("[data-act]")) {
      each.addEventListener("click", acts[each.dataset.act]);
    }
    const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "back", ArrowRight: "on", Home: "all" };
    box.addEventListener("keydown", (event) => {
      const act = keys[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      acts[act]();
    });
    const jump = byId("price-jump");
    jump.addEventListener("change", () => {
      const at = data.places[Number(jump.value)];
      if (jump.value === "" || at === undefined) return show(first, last);
      const piece = pieces.find((each) => each.first <= at && at <= each.end);
      const half = Math.min(60, piece.low.length / 2) * piece.seconds;
      const middle = Math.min(Math.max(at, piece.first + half), piece.end - half);
      return show(middle - half, middle + half);
    });
    new ResizeObserver(() => {
      if (box.clientWidth && box.clientWidth !== chart.width) chart.setSize(size());
    }).observe(box);
    redraws.push(() => chart.redraw(false, true));
  };

  // Marks of the time axis: the unit that changes, and above it what it belongs to.
  function listDates() {
    const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
    return (_, splits, __, ___, step) => {
      let before = "";
      return splits.map((seconds) => {
        const at = new Date(seconds * 1000);
        const year = String(at.getUTCFullYear());
        if (step >= 360 * 86400) return year;
        const month = months[at.getUTCMonth()];
        const day = `${at.getUTCDate()} ${month}`;
        const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
        const [main, of] =
          step >= 27 * 86400 ? [month, year] : step >= 86400 ? [day, year] : [clock, `${day} ${year}`];
        const text = of === before ? main : `${main}\n${of}`;
        before = of;
        return text;
      });
    };
  }

  // Samples, one at a time.
  const startSamples = () => {
    const samples = [...document.querySelectorAll("#samples .sample")];
    if (!samples.length) return;
    const choice = byId("sample-choice");
    let at = 0;
    const show = (number) => {
      at = (number + samples.length) % samples.length;
      samples.forEach((each, i) => {
        each.open = i === at;
        each.hidden = i !== at;
      });
      choice.value = String(at);
      byId("sample-count").textContent = `${at + 1} of ${samples.length}`;
    };
    byId("sample-back").addEventListener("click", () => show(at - 1));
    byId("sample-on").addEventListener("click", () => show(at + 1));
    choice.addEventListener("change", () => show(Number(choice.value)));
    for (const each of samples) {
      each.querySelector("summary").addEventListener("click", (event) => event.preventDefault());
    }
    show(0);
  };

  startPrices(JSON.parse(byId("prices-data").textContent));
  startSamples();
})();
