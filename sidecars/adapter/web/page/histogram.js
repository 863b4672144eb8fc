// How many lines there were when, and how many of them were warnings and errors.
import { severity } from "./filter.js";
import { clock } from "./row.js";

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800].map(s => s * 1000);
const BAR = 7;

export class Histogram {
  constructor(figure, jump) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.tip = figure.querySelector("#tip");
    this.jump = jump;
    this.view = [];
    this.buckets = [];
    this.step = 1000;
    this.start = 0;
    this.hovered = -1;
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.canvas.addEventListener("mousemove", event => this.hover(event));
    this.canvas.addEventListener("mouseleave", () => { this.leave(); this.paint(); });
    this.canvas.addEventListener("click", () => {
      if (this.buckets[this.hovered]?.first) this.jump(this.buckets[this.hovered].first);
    });
  }

  show(view) {
    this.view = view;
    this.draw();
  }

  draw() {
    const before = `${this.start} ${this.step}`;
    this.count();
    if (before !== `${this.start} ${this.step}`) this.leave();
    this.paint();
  }

  leave() {
    this.hovered = -1;
    this.tip.hidden = true;
  }

  count() {
    let low = Infinity, high = -Infinity;
    for (const { time } of this.view) {
      if (time < low) low = time;
      if (time > high) high = time;
    }
    this.buckets = [];
    if (low > high) return;
    const most = Math.max(10, Math.floor(this.canvas.clientWidth / BAR));
    this.step = STEPS.find(step => (high - low) / step < most - 1) ?? Math.ceil((high - low) / (most - 2));
    this.start = Math.floor(low / this.step) * this.step;
    this.seconds = Math.max(1, (high - low) / 1000);
    // A few lines do not fill the width.
    const count = Math.max(10, Math.floor((high - this.start) / this.step) + 1);
    this.buckets = Array.from({ length: count }, () => ({ all: 0, warnings: 0, errors: 0, first: null }));
    for (const entry of this.view) {
      const bucket = this.buckets[Math.floor((entry.time - this.start) / this.step)];
      const rank = severity(entry);
      bucket.all++;
      if (rank >= 5) bucket.errors++;
      else if (rank === 4) bucket.warnings++;
      bucket.first ??= entry;
    }
  }

  paint() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this.figure);
    const [calm, wait, bad, strong] = ["--bar", "--wait-bar", "--bad-bar", "--line"].map(name => style.getPropertyValue(name));
    const top = Math.max(1, ...this.buckets.map(bucket => bucket.all));
    const each = width / Math.max(1, this.buckets.length);
    this.each = each;
    this.buckets.forEach((bucket, place) => {
      if (place === this.hovered) {
        pen.fillStyle = strong;
        pen.fillRect(place * each, 0, each, height);
      }
      let y = height;
      for (const [amount, colour] of [[bucket.errors, bad], [bucket.warnings, wait], [bucket.all - bucket.errors - bucket.warnings, calm]]) {
        if (!amount) continue;
        // What is there is seen, however little of it.
        const high = Math.max(2, (amount / top) * (height - 4));
        y -= high;
        pen.fillStyle = colour;
        pen.fillRect(place * each + 0.5, y, Math.max(1, each - 1.5), high);
      }
    });
  }

  hover(event) {
    const place = Math.floor(event.offsetX / this.each);
    const bucket = this.buckets[place];
    if (place !== this.hovered) { this.hovered = place; this.paint(); }
    this.tip.hidden = !bucket;
    if (!bucket) return;
    const time = this.start + place * this.step;
    const words = [`${clock(time, { fraction: false })}`, `${bucket.all.toLocaleString("en")} lines`];
    if (bucket.errors) words.push(`${bucket.errors.toLocaleString("en")} errors`);
    if (bucket.warnings) words.push(`${bucket.warnings.toLocaleString("en")} warnings`);
    this.tip.textContent = words.join(" · ");
    const room = this.figure.clientWidth - this.tip.offsetWidth - 8;
    this.tip.style.left = `${Math.max(8, Math.min(room, event.offsetX - this.tip.offsetWidth / 2))}px`;
  }

  get summary() {
    if (!this.buckets.length) return { from: "", to: "", rate: "" };
    const all = this.buckets.reduce((sum, bucket) => sum + bucket.all, 0);
    const errors = this.buckets.reduce((sum, bucket) => sum + bucket.errors, 0);
    const end = this.start + this.buckets.length * this.step;
    const day = new Date(this.start).toDateString() !== new Date(end).toDateString();
    const rate = all / this.seconds;
    const words = `${rate >= 10 ? Math.round(rate).toLocaleString("en") : rate.toPrecision(2)} lines/s`;
    return {
      from: clock(this.start, { day, fraction: false }), to: clock(end, { day, fraction: false }),
      rate: errors ? `${words}, ${errors.toLocaleString("en")} errors` : `${words}, no errors`,
    };
  }
}
