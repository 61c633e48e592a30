// The gauge of one image: its score on the histogram of the calibration images' scores, cut at the threshold.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;
const BEYOND = 0.35; // of the histogram's width, that the axis may reach past either end for a score that lies there
const MARGIN = 0.04; // of the axis

/** The axis's ends. */
function range({ value, threshold }, known) {
  const own = Number.isFinite(value) ? [value, threshold] : [threshold];
  let low = Math.min(...own);
  let high = Math.max(...own);
  if (known) {
    const [first, last] = [known.edges[0], known.edges.at(-1)];
    const reach = BEYOND * (last - first);
    low = Math.min(first, Math.max(low, first - reach));
    high = Math.max(last, Math.min(high, last + reach));
  }
  const margin = MARGIN * (high - low) || Math.abs(threshold) / 4 || 1;
  return [low - margin, high + margin];
}

/** The bars from `from` to `to` as an SVG path, on an axis of 0 to 100. */
function bars({ edges, counts }, at, from, to) {
  const most = Math.max(...counts);
  return counts
    .map((images, i) => {
      const [left, right] = [Math.max(edges[i], from), Math.min(edges[i + 1], to)].map(at);
      if (!images || left >= right) return "";
      return `M${left} ${HEIGHT}V${HEIGHT * (1 - images / most)}H${right}V${HEIGHT}Z`;
    })
    .join("");
}

/**
 * Draw it.
 *
 * gauge: the element; score: a decision's; known: {edges, counts} of the calibration images, if they are known.
 */
export function drawGauge(gauge, score, known) {
  const [low, high] = range(score, known);
  const at = (x) => Math.min(100, Math.max(0, (100 * (x - low)) / (high - low)));
  gauge.style.setProperty("--cut", `${at(score.threshold)}%`);
  gauge.style.setProperty("--at", `${at(Number.isFinite(score.value) ? score.value : score.threshold)}%`);
  const paths = [
    ["below", low, score.threshold],
    ["above", score.threshold, high],
  ].map(([name, from, to]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", known ? bars(known, at, from, to) : "");
    return path;
  });
  gauge.querySelector(".histogram").replaceChildren(...paths);
}
