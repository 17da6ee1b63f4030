#include <apps/report/assets.hpp>

namespace banach::report {

const std::string_view page_js = R"js(
(() => {
  'use strict';
  const palette = JSON.parse(document.getElementById('palette').textContent);
  const darkScreen = window.matchMedia('(prefers-color-scheme: dark)');
  const themes = {
    light: {
      text: '#1b1f24',
      muted: '#59626d',
      grid: '#e6e8eb',
      axis: '#aab1b9',
      panel: '#ffffff',
      tooltip: '#22272d',
      onTooltip: '#ffffff'
    },
    dark: {
      text: '#e4e7ea',
      muted: '#9ba5b0',
      grid: '#2a3038',
      axis: '#59626d',
      panel: '#191d22',
      tooltip: '#e4e7ea',
      onTooltip: '#14171a'
    },
  };
  const digits = (v, n) => {
    if (!Number.isFinite(v)) return 'none';
    const a = Math.abs(v);
    if (Number.isInteger(v) && a < 1e6) return v.toLocaleString('en-US');
    if (a < 1e-3 || a >= 1e6) return v.toExponential(n - 1).replace(/\.?0+e/, 'e').replace('e+', 'e');
    return Number(v.toPrecision(n)).toLocaleString('en-US', {maximumSignificantDigits: n});
  };
  const translucent = (color, alpha) => Chart.helpers.color(color).alpha(alpha).rgbString();

  // Ticks. A linear axis shows as many decimals as its step needs; a log axis shows powers of ten, and what
  // lies between only where the axis spans less than two of them. Where an axis is made to end has no tick of
  // its own: it need not be round.
  const linearLabel = (value, index, ticks) => {
    const step = ticks.length > 1 ? Math.abs(ticks[1].value - ticks[0].value) : Math.abs(value);
    const largest = Math.max(...ticks.map(t => Math.abs(t.value)));
    if (Math.abs(value) < step * 1e-6) return '0';
    if (largest >= 1e6 || largest < 1e-3)
      return digits(value, Math.min(12, Math.max(2, Math.ceil(Math.log10(largest / step)) + 1)));
    let decimals = 0;
    while (decimals < 12 &&
           Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-4 * step * 10 ** decimals)
      decimals++;
    return value.toLocaleString('en-US', {minimumFractionDigits: decimals, maximumFractionDigits: decimals});
  };
  const logLabel = (value, index, ticks) => {
    const all = ticks.map(t => t.value), plain = Math.min(...all) >= 9e-4 && Math.max(...all) < 1.1e5;
    if (Math.max(...all) < 3 * Math.min(...all)) return linearLabel(value, index, ticks);
    return plain || (value > 0.05 && value < 1e3) ?
        digits(value, 3) :
        value.toExponential(2).replace(/\.?0+e/, 'e').replace('e+', 'e');
  };
  const logTicks = scale => {
    const low = Math.log10(scale.min), high = Math.log10(scale.max),
          room = scale.isHorizontal() ? scale.width / 54 : scale.height / 36;
    const values = (multiples, every) => {
      const list = [];
      for (let k = Math.floor(low); k <= Math.ceil(high); k++) {
        if (k % every === 0)
          for (const m of multiples) list.push(Number(`${m}e${k}`));
      }
      return list.filter(v => v >= scale.min * (1 - 1e-9) && v <= scale.max * (1 + 1e-9));
    };
    const decades = high - low;
    let chosen = decades >= 2 ? values([1], Math.max(1, Math.ceil(decades / Math.max(2, room)))) :
                                values([1, 2, 5], 1);
    if (chosen.length < 3) chosen = values([1, 2, 3, 4, 5, 6, 7, 8, 9], 1);
    if (chosen.length >= 2)
      scale.ticks = chosen.map(value => ({value, major: true}));
    else
      roundTicks(scale);
  };
  // A little air around the data of a log axis, whose own ends would be a whole decade away.
  const logAir = part => scale => {
    const factor = (scale.max / scale.min) ** part;
    if (!(factor > 1 && Number.isFinite(factor))) return;
    if (scale.options.min === undefined) scale.min /= factor;
    if (scale.options.max === undefined) scale.max *= factor;
  };
  // Round ticks of an axis that ends where its data end.
  const roundTicks = scale => {
    const span = scale.max - scale.min,
          most = Math.max(2, scale.isHorizontal() ? scale.width / 54 : scale.height / 36);
    if (!(span > 0 && Number.isFinite(span))) return;
    const power = 10 ** Math.floor(Math.log10(span / most)),
          fine = [1, 2, 5, 10].map(m => m * power).find(s => span / s <= most),
          step = scale.options.ticks.precision === 0 ? Math.max(1, fine) : fine;
    const first = Math.ceil(scale.min / step - 1e-9), last = Math.floor(scale.max / step + 1e-9);
    if (last > first && last - first < 100)
      scale.ticks = Array.from(
          {length: last - first + 1}, (_, k) => ({value: Number(((first + k) * step).toPrecision(12))}));
  };
  // Lines break at spaces or, in a word too long for a line, after ':' and '-'.
  const wrap = (label, width) => {
    const words = label.match(/\S+\s*/g) || [''];
    const pieces = words.flatMap(word => word.trim().length > width ? word.match(/[^:-]+[:-]*|[:-]+/g) : [word]);
    return pieces
        .reduce(
            (lines, piece) => {
              const longer = lines[lines.length - 1] + piece;
              if (longer.trim().length <= width || lines[lines.length - 1] === '')
                lines[lines.length - 1] = longer;
              else
                lines.push(piece);
              return lines;
            },
            [''])
        .map(line => line.trim());
  };

  // Of every visible series the point nearest to the pointer along x, where it lies close to the nearest of
  // all.
  Chart.Interaction.modes.everySeries = (chart, event) => {
    const found = [];
    chart.data.datasets.forEach((dataset, datasetIndex) => {
      if (dataset.band || !chart.isDatasetVisible(datasetIndex)) return;
      let best = null;
      chart.getDatasetMeta(datasetIndex).data.forEach((element, index) => {
        const distance = Math.abs(element.x - event.x);
        if (!element.skip && (!best || distance < best.distance))
          best = {element, datasetIndex, index, distance};
      });
      if (best) found.push(best);
    });
    const nearest = Math.min(...found.map(item => item.distance));
    return nearest > 60 ? [] : found.filter(item => item.distance <= nearest + 6);
  };

  // The name of each series beside its first point: on the side where it covers neither points nor names
  // that stand already; where there is none, the legend must do.
  const nameBesidePoints = (chart, theme, inked, standing) => {
    const {ctx, chartArea: area} = chart, height = 13, taken = [...standing], named = [];
    chart.data.datasets.forEach((dataset, d) => {
      if (dataset.band || dataset.showLine || !chart.isDatasetVisible(d)) return;
      const element = chart.getDatasetMeta(d).data[0];
      if (!element || element.skip) return;
      taken.push({left: element.x - 6, right: element.x + 6, top: element.y - 6, bottom: element.y + 6});
      named.push({x: element.x, y: element.y, text: dataset.label});
    });
    const free = box => box.left >= area.left && box.right <= chart.width && box.top >= area.top - 10 &&
        box.bottom <= area.bottom &&
        taken.every(
            t => box.right < t.left || box.left > t.right || box.bottom < t.top || box.top > t.bottom);
    ctx.save();
    ctx.font = `11.5px ${Chart.defaults.font.family}`;
    ctx.textAlign = 'left';
    ctx.textBaseline = 'middle';
    ctx.fillStyle = theme.text;
    for (const {x, y, text} of named) {
      const width = ctx.measureText(text).width;
      const places = [
        [x + 9, y], [x - 9 - width, y], [x - width / 2, y - 14], [x - width / 2, y + 14], [x + 7, y - 12],
        [x + 7, y + 12], [x - 7 - width, y - 12], [x - 7 - width, y + 12], [x - width / 2, y - 28],
        [x - width / 2, y + 28], [x - width / 2, y - 42], [x - width / 2, y + 42]
      ];
      for (const [left, middle] of places) {
        const box = {left, right: left + width, top: middle - height / 2, bottom: middle + height / 2};
        if (!free(box)) continue;
        taken.push(box);
        inked(text, left, middle);
        break;
      }
    }
    ctx.restore();
  };

  // What stands in a chart, as small boxes: points, bars, and curves in steps of a few pixels.
  const drawnBoxes = (chart, bars) => {
    const boxes = [];
    const dot = (x, y, r) => boxes.push({left: x - r, right: x + r, top: y - r, bottom: y + r, weight: 1});
    chart.data.datasets.forEach((dataset, d) => {
      if (dataset.band || !chart.isDatasetVisible(d)) return;
      let last = null;
      for (const element of chart.getDatasetMeta(d).data) {
        const {x, y, base, width, height, horizontal} =
            element.getProps(['x', 'y', 'base', 'width', 'height', 'horizontal'], true);
        if (bars && !element.skip) {  // and the value at its tip
          boxes.push({
            left: horizontal ? Math.min(x, base) : x - width / 2,
            right: horizontal ? Math.max(x, base) + 40 : x + width / 2,
            top: horizontal ? y - height / 2 : Math.min(y, base) - 16,
            bottom: horizontal ? y + height / 2 : Math.max(y, base),
            weight: 20,
          });
        } else if (!element.skip && Number.isFinite(x) && Number.isFinite(y)) {
          const steps = last && dataset.showLine ?
              Math.min(200, Math.ceil(Math.max(Math.abs(x - last.x), Math.abs(y - last.y)) / 4)) :
              1;
          for (let k = 1; k <= steps; ++k)
            dot(last ? last.x + (x - last.x) * k / steps : x, last ? last.y + (y - last.y) * k / steps : y,
                dataset.showLine ? 1 : 5);
          last = dataset.showLine ? {x, y} : null;
        } else {
          last = null;
        }
      }
    });
    return boxes;
  };
  const stripe = ({along, at}, area) => along === 'y' ?
      {left: area.left, right: area.right, top: at - 1, bottom: at + 1, weight: 20} :
      {left: at - 1, right: at + 1, top: area.top, bottom: area.bottom, weight: 20};
  // Where the label of a reference line may stand: on either side of it, the usual place first.
  const places = ({along, at}, width, area) => {
    const height = 14, spots = [];
    const put = (left, top) => {
      const box = {left, right: left + width, top, bottom: top + height};
      if (box.top >= area.top && box.bottom <= area.bottom) spots.push(box);
    };
    for (const t of [0, 1, .5, .25, .75]) {
      if (along === 'y') {
        const left = area.right - 5 - width - t * (area.width - 10 - width);
        put(left, at - height - 3);
        put(left, at + 4);
      } else {
        const top = area.top + 3 + t * (area.height - 6 - height);
        if (at + 8 + width < area.right) put(at + 5, top);
        if (at - 8 - width > area.left) put(at - 5 - width, top);
      }
    }
    return spots.length ? spots : [{left: at + 5, right: at + 5 + width, top: area.top, bottom: area.top + height}];
  };
  // The first of the places that hide least.
  const clearest = (spots, boxes) => {
    const hidden = spot => boxes.reduce(
        (sum, b) => spot.right < b.left - 2 || spot.left > b.right + 2 || spot.bottom < b.top || spot.top > b.bottom ?
            sum :
            sum + b.weight,
        0);
    const costs = spots.map(hidden);
    return spots[costs.indexOf(Math.min(...costs))];
  };

  // One unit as long along x as along y: the axis with room to spare shows more.
  const square = {
    id: 'square',
    afterLayout(chart) {
      if (chart.squaring) return;
      const {x, y} = chart.scales;
      const own = chart.ownRange || (chart.ownRange = {x: [x.min, x.max], y: [y.min, y.max]});
      const span = name => own[name][1] - own[name][0];
      const unit = Math.max(span('x') / x.width, span('y') / y.height);
      if (!(unit > 0 && Number.isFinite(unit))) return;
      for (const [name, pixels] of [['x', x.width], ['y', y.height]]) {
        const middle = (own[name][0] + own[name][1]) / 2, half = unit * pixels / 2;
        Object.assign(chart.options.scales[name], {min: middle - half, max: middle + half, grace: 0});
      }
      chart.squaring = true;
      chart.update('none');
      chart.squaring = false;
    },
  };

  // Reference lines, whiskers and the values of bars: drawn over the data.
  const overlay = {
    id: 'overlay',
    afterDatasetsDraw(chart, args, {spec, theme}) {
      const {ctx, chartArea: area, scales} = chart;
      const inked = (text, x, y) => {
        ctx.lineWidth = 3;
        ctx.setLineDash([]);
        ctx.strokeStyle = theme.panel;
        ctx.strokeText(text, x, y);
        ctx.fillText(text, x, y);
      };
      ctx.save();
      ctx.beginPath();
      ctx.rect(area.left - 1, area.top - 1, area.width + 2, area.height + 2);
      ctx.clip();
      const sideways = spec.horizontal, valueScale = sideways ? scales.x : scales.y;
      chart.data.datasets.forEach((dataset, d) => {
        if (!dataset.whiskers || !chart.isDatasetVisible(d)) return;
        ctx.strokeStyle = spec.kind === 'bar' ? theme.text : dataset.borderColor;
        ctx.lineWidth = 1.3;
        ctx.lineJoin = 'round';
        ctx.setLineDash([]);
        chart.getDatasetMeta(d).data.forEach((element, i) => {
          const ends = dataset.whiskers[i];
          if (!ends || ends[0] === null || element.skip) return;
          const from = valueScale.getPixelForValue(ends[0]), to = valueScale.getPixelForValue(ends[1]);
          const line = (a, b, c, e) => {
            ctx.beginPath();
            ctx.moveTo(a, b);
            ctx.lineTo(c, e);
            ctx.stroke();
          };
          if (sideways) {
            line(from, element.y, to, element.y);
            for (const p of [from, to]) line(p, element.y - 4, p, element.y + 4);
          } else {
            line(element.x, from, element.x, to);
            for (const p of [from, to]) line(element.x - 4, p, element.x + 4, p);
          }
        });
      });
      const lines = spec.references.map(reference => {
        const along = (reference.axis === 'y') === !sideways ? 'y' : 'x';
        return {along, at: scales[along].getPixelForValue(reference.value), label: reference.label};
      });
      ctx.strokeStyle = ctx.fillStyle = theme.muted;
      ctx.lineWidth = 1.2;
      ctx.setLineDash([5, 4]);
      for (const {along, at} of lines) {
        ctx.beginPath();
        if (along === 'y') {
          ctx.moveTo(area.left, at);
          ctx.lineTo(area.right, at);
        } else {
          ctx.moveTo(at, area.top);
          ctx.lineTo(at, area.bottom);
        }
        ctx.stroke();
      }
      ctx.font = `italic 12px ${Chart.defaults.font.family}`;
      ctx.textAlign = 'left';
      ctx.textBaseline = 'middle';
      const drawn = lines.some(line => line.label) ? drawnBoxes(chart, spec.kind === 'bar') : [], labels = [];
      for (const line of lines) {
        if (!line.label) continue;
        const others = lines.filter(other => other !== line).map(other => stripe(other, area));
        const box = clearest(places(line, ctx.measureText(line.label).width, area), [...drawn, ...others, ...labels]);
        labels.push({...box, weight: 100});
        inked(line.label, box.left, (box.top + box.bottom) / 2);
      }
      ctx.restore();
      if (spec.labels) nameBesidePoints(chart, theme, inked, labels);
      if (spec.kind !== 'bar') return;
      ctx.save();
      ctx.font = `11px ${Chart.defaults.font.family}`;
      ctx.fillStyle = theme.text;
      chart.data.datasets.forEach((dataset, d) => {
        if (!chart.isDatasetVisible(d)) return;
        chart.getDatasetMeta(d).data.forEach((bar, i) => {
          const value = dataset.data[i];
          const missing = value === null, text = missing ? 'none' : digits(value, 3);
          const room = sideways ?
              bar.height >= 9 :
              bar.width * (spec.series.length > 1 ? 1.1 : 1.4) >= ctx.measureText(text).width + 2;
          if (!room) return;
          const ends = dataset.whiskers && dataset.whiskers[i];
          const tip = missing                        ? valueScale.getBasePixel() :
              ends && ends[0] !== null && value >= 0 ? valueScale.getPixelForValue(ends[1]) :
              sideways                               ? bar.x :
                                                       bar.y;
          ctx.fillStyle = missing ? theme.muted : theme.text;
          const sign = value < 0 ? -1 : 1;
          if (sideways) {
            ctx.textAlign = sign > 0 ? 'left' : 'right';
            ctx.textBaseline = 'middle';
            inked(text, tip + sign * 5, bar.y + 0.5);
          } else {
            ctx.textAlign = 'center';
            ctx.textBaseline = sign > 0 ? 'bottom' : 'top';
            inked(text, bar.x, tip - sign * 3);
          }
        });
      });
      ctx.restore();
    },
  };

  // Markers on some points of a dense line, on all of a sparse one, and on any point that stands alone
  // between gaps.
  const radii = (points, place, count, size) => {
    const step = points.length <= 25 ? 1 : Math.ceil(points.length / 7);
    const offset = points.length <= 25 ? 0 : Math.floor(step * (place + 0.5) / count) % step;
    const missing = i => !points[i] || points[i].y === null;
    return points.map((p, i) => (i % step === offset || (missing(i - 1) && missing(i + 1))) ? size : 0);
  };

  const lineDatasets = (spec, theme, colorOf) => spec.series.flatMap((series, place) => {
    const shown = spec.series.reduce((sum, other) => sum + (other.mode === 'points' ? other.data.length : 0), 0);
    const color = colorOf(series), points = series.data.map(([x, y]) => ({x, y}));
    const cloud = series.mode === 'points';
    const stroked = ['cross', 'crossRot', 'star'].includes(series.marker);
    const size = {circle: 3.5, rect: 4, triangle: 4.5, rectRot: 4.2}[series.marker] || 4.8;
    const crowding = shown > 1000 ? 0.45 : points.length > 150 || shown > 400 ? 0.65 : points.length > 10 ? 1 : 1.4;
    const main = {
      series: place,
      label: series.name,
      data: points,
      showLine: !cloud,
      clip: 3,  // a curve along the edge is drawn whole
      borderColor: color,
      backgroundColor: cloud && !stroked ? translucent(color, .75) : color,
      borderWidth: 2,
      borderDash: series.dash,
      borderJoinStyle: 'round',
      pointStyle: series.marker,
      pointBorderColor: stroked ? color : theme.panel,
      pointBorderWidth: stroked ? 1.8 : shown > 1000 ? 0 : 0.75,
      pointRadius: cloud ? crowding * (size + .5) : spec.kind === 'scatter' ? 0 : radii(points, place, spec.series.length, size),
      pointHoverRadius: 6,
      pointHitRadius: 8,
      pointHoverBackgroundColor: color,
      pointHoverBorderColor: stroked ? color : theme.panel,
      whiskers: cloud ? series.band : null,
      bandValues: series.band,
      order: place,
    };
    if (!series.band || cloud) return [main];
    const edge = {
      series: place,
      band: true,
      borderWidth: 0,
      pointRadius: 0,
      pointHoverRadius: 0,
      pointHitRadius: 0,
      borderColor: 'transparent',
      backgroundColor: translucent(color, .16),
      order: 100 + place,
    };
    const side = which => points.map((p, i) => ({x: p.x, y: p.y === null ? null : series.band[i][which]}));
    return [{...edge, data: side(0), fill: false}, {...edge, data: side(1), fill: '-1'}, main];
  });

  const barDatasets = (spec, theme, colorOf, hue) =>
      spec.series.map((series, place) => ({
                        series: place,
                        label: series.name,
                        data: series.data,
                        whiskers: series.band,
                        bandValues: series.band,
                        maxBarThickness: 44,
                        backgroundColor: series.hues ? series.hues.map(hue) : colorOf(series),
                        borderWidth: 0,
                        categoryPercentage: .78,
                        barPercentage: .9,
                      }));

  const axisOptions = (axis, theme, extra) => ({
    type: axis.log ? 'logarithmic' : 'linear',
    min: axis.min,
    max: axis.max,
    title: {display: axis.label !== '', text: axis.label, color: theme.text, font: {size: 13}},
    grid: {color: theme.grid, borderColor: theme.axis, tickColor: theme.axis, tickLength: 5},
    ticks: {
      color: theme.muted,
      font: {size: 12},
      maxRotation: 0,
      autoSkipPadding: 14,
      includeBounds: false,
      ...(axis.whole ? {precision: 0} : {}),
      callback: axis.log ? logLabel : linearLabel
    },
    afterBuildTicks: axis.log ? logTicks : undefined,
    ...(axis.log ? {bounds: 'data', afterDataLimits: logAir(.05)} : {}),
    ...extra,
  });

  function configuration(spec, themeName, onPaper) {
    const theme = themes[themeName], bars = spec.kind === 'bar', sideways = bars && spec.horizontal;
    const hue = k => palette[k][themeName], colorOf = series => series.color || hue(series.hue);
    const datasets = bars ? barDatasets(spec, theme, colorOf, hue) : lineDatasets(spec, theme, colorOf);
    const reach = axis => {
      const known =
          spec.references.filter(r => r.axis === axis && (!spec[axis].log || r.value > 0)).map(r => r.value);
      // The chart library does not know of whiskers.
      if (axis === 'y' && spec.kind !== 'line') {
        known.push(...spec.series.flatMap(s => (s.band || []).flat())
                       .filter(v => v !== null && (!spec.y.log || v > 0)));
      }
      return known.length ? {suggestedMin: Math.min(...known), suggestedMax: Math.max(...known)} : {};
    };
    const air = spec.kind === 'scatter' ? {grace: '6%'} : {};
    const values = axisOptions(spec.y, theme, {...reach('y'), ...air});
    // Room for a label on the outer side of its line, too.
    if (spec.y.log && spec.references.some(r => r.axis === 'y' && r.label)) values.afterDataLimits = logAir(.12);
    // Time and steps start at 0, unless the data start far from it.
    if (spec.kind === 'line' && !spec.x.log && spec.x.min === undefined) {
      const xs = spec.series.flatMap(s => s.data.map(point => point[0])), least = Math.min(...xs);
      if (least > 0 && least < 0.2 * Math.max(...xs)) spec.x.min = 0;
    }
    let along = axisOptions(spec.x, theme, spec.kind !== 'line' ? {...reach('x'), ...air} : {
      ...reach('x'),
      bounds: 'data',
      ...(spec.x.log ? {afterDataLimits: undefined} : {afterBuildTicks: roundTicks})
    });
    if (bars) {
      const shown = spec.series.flatMap(s => [...s.data, ...(s.band || []).flat()]).filter(v => v > 0);
      // A bar needs a foot: on a log axis it stands on the power of ten below the smallest value.
      if (spec.y.log) values.afterDataLimits = undefined;
      if (spec.y.log && spec.y.min === undefined && shown.length)
        values.min = 10 ** (Math.ceil(Math.log10(Math.min(...shown)) - 1e-9) - 1);
      if (!spec.y.log) Object.assign(values, {beginAtZero: true, grace: '7%'});
      along = {
        ...axisOptions(spec.x, theme, {}),
        type: 'category',
        afterBuildTicks: undefined,
        ticks: {
          color: theme.text,
          font: {size: 12},
          maxRotation: 50,
          autoSkip: spec.categories.length > 40,
          callback(v) {
            const letters = this.chart.width / (sideways ? 3 : spec.categories.length + 1) / 6.4;
            return wrap(this.getLabelForValue(v), Math.max(8, letters));
          }
        },
        grid: {display: false, borderColor: theme.axis}
      };
    }
    const band = item => {
      const ends = item.dataset.bandValues && item.dataset.bandValues[item.dataIndex];
      return ends && ends[0] !== null ? ` [${digits(ends[0], 4)}, ${digits(ends[1], 4)}]` : '';
    };
    const thinned = spec.series.some(series => series.thinned);
    const title = items => !items.length ? '' :
        bars                             ? spec.categories[items[0].dataIndex] :
        spec.kind === 'scatter' ?
               items[0].dataset.label :
               `${spec.x.label || 'x'}: ${thinned ? 'near ' : ''}${digits(items[0].parsed.x, 4)}`;
    const label = item => {
      if (spec.kind === 'scatter')
        return [
          `${spec.x.label || 'x'}: ${digits(item.parsed.x, 4)}`,
          `${spec.y.label || 'y'}: ${digits(item.parsed.y, 4)}${band(item)}`
        ];
      const value = bars ? (sideways ? item.parsed.x : item.parsed.y) : item.parsed.y;
      const elsewhere = item.otherX ? ` (at ${digits(item.parsed.x, 4)})` : '';
      const name = item.dataset.label || spec.y.label || 'value';
      return `${name}: ${digits(value, 4)}${band(item)}${elsewhere}`;
    };
    return {
      type: bars ? 'bar' : 'line',
      data: {labels: bars ? spec.categories : undefined, datasets},
      plugins: spec.square ? [overlay, square] : [overlay],
      options: {
        indexAxis: sideways ? 'y' : 'x',
        animation: false,
        responsive: !onPaper,
        maintainAspectRatio: false,
        devicePixelRatio: onPaper ? 3 : Math.max(window.devicePixelRatio || 1, 1.5),
        locale: 'en-US',
        layout: {padding: {top: 14, right: sideways ? 40 : 12, left: 0, bottom: 0}},
        scales: sideways ? {x: values, y: along} : {x: along, y: values},
        interaction: bars           ? {mode: 'index', intersect: false, axis: sideways ? 'y' : 'x'} :
            spec.kind === 'scatter' ? {mode: 'nearest', intersect: true} :
                                      {mode: 'everySeries', intersect: false},
        plugins: {
          legend: {display: false},
          overlay: {spec, theme},
          filler: {drawTime: 'beforeDatasetsDraw'},
          tooltip: {
            backgroundColor: theme.tooltip,
            titleColor: theme.onTooltip,
            bodyColor: theme.onTooltip,
            usePointStyle: true,
            boxPadding: 5,
            padding: 9,
            caretPadding: 8,
            cornerRadius: 4,
            itemSort: bars ? undefined : (a, b) => b.parsed.y - a.parsed.y,
            callbacks: {
              title(items) {
                if (spec.kind === 'line' && items.length)
                  for (const item of items)
                    item.otherX = !thinned && digits(item.parsed.x, 4) !== digits(items[0].parsed.x, 4);
                return title(items);
              },
              label,
              labelColor: item => {
                const color = Array.isArray(item.dataset.backgroundColor) ?
                    item.dataset.backgroundColor[item.dataIndex] :
                    item.dataset.borderColor || item.dataset.backgroundColor;
                return {borderColor: color, backgroundColor: color, borderWidth: 1};
              },
            },
          },
        },
      },
    };
  }

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  const entries = [...document.querySelectorAll('figure.chart')].map(
      figure => ({
        figure,
        box: figure.querySelector('.plot'),
        canvas: figure.querySelector('canvas'),
        buttons: [...figure.querySelectorAll('.legend button')],
        spec: JSON.parse(figure.querySelector('script').textContent),
        hidden: new Set(),
        chart: null,
      }));
  function applyVisibility(entry) {
    entry.buttons.forEach((button, k) => button.setAttribute('aria-pressed', String(!entry.hidden.has(k))));
    if (!entry.chart) return;
    entry.chart.data.datasets.forEach(
        (dataset, d) => entry.chart.setDatasetVisibility(d, !entry.hidden.has(dataset.series)));
    entry.chart.update();
  }
  function drawOne(entry, themeName, onPaper) {
    try {
      if (entry.chart) entry.chart.destroy();
      entry.chart = null;
      entry.canvas.removeAttribute('style');
      if (onPaper) {
        entry.canvas.width = 680;
        entry.canvas.height = Math.min(Math.max(260, 0.8 * entry.box.clientHeight), 560);
      }
      entry.chart = new Chart(entry.canvas, configuration(entry.spec, themeName, onPaper));
      if (entry.hidden.size) applyVisibility(entry);
    } catch (error) {
      console.error(error);
      entry.canvas.hidden = true;
      const words = document.createElement('p');
      words.className = 'failed';
      words.textContent = 'This chart could not be drawn here; its numbers are below.';
      entry.box.replaceChildren(entry.canvas, words);
    }
  }
  const drawForScreen = () =>
      entries.forEach(entry => drawOne(entry, darkScreen.matches ? 'dark' : 'light', false));
  const notes = [...document.querySelectorAll('details.note')], opened = new Set();
  const drawForPaper = () => entries.forEach(entry => drawOne(entry, 'light', true));
  entries.forEach(entry => entry.buttons.forEach((button, k) => {
    button.addEventListener('click', () => {
      if (!entry.hidden.delete(k)) entry.hidden.add(k);
      applyVisibility(entry);
    });
    button.addEventListener('dblclick', () => {
      entry.hidden = new Set(entry.buttons.keys());
      entry.hidden.delete(k);
      applyVisibility(entry);
    });
  }));
  darkScreen.addEventListener('change', drawForScreen);
  window.addEventListener('beforeprint', () => {
    for (const note of notes)
      if (!note.open) {
        note.open = true;
        opened.add(note);
      }
    drawForPaper();
  });
  window.addEventListener('afterprint', () => {
    for (const note of opened) note.open = false;
    opened.clear();
    drawForScreen();
  });
  drawForScreen();
})();
)js";

}  // namespace banach::report
