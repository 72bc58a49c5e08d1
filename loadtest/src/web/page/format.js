'use strict';

/** Figures as the reports write them, and elements. What was not measured is a dash. */
const UNKNOWN = '–';

const formatCount = value => value == null ? UNKNOWN : Math.round(value).toLocaleString('en-US');

/** Three significant digits, and no more digits after the point than that. */
function formatScaled(value, units, step) {
  if (value == null) return UNKNOWN;
  let unit = 0;
  while (value >= step && unit < units.length - 1) [value, unit] = [value / step, unit + 1];
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(value)));
  return `${value.toFixed(Math.min(digits, 2))} ${units[unit]}`;
}

const formatBytes = bytes => formatScaled(bytes, ['B', 'kB', 'MB', 'GB', 'TB'], 1000);
const formatMicros = micros => formatScaled(micros, ['µs', 'ms', 's'], 1000);

/** An element with attributes and children; a string becomes text, never markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value != null && value !== false) made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children);
  return made;
}

const byId = id => document.getElementById(id);
