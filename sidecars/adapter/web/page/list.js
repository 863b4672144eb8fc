// The lines, of which only those that are seen are in the document: each is as high as every other, but for the one
// under which its fields are open.
import { detail, row } from "./row.js";

const HEIGHT = 24;
const AROUND = 12;

export class List {
  constructor(box, rows, does) {
    this.box = box;
    this.rows = rows;
    this.does = does;
    this.view = [];
    this.look = { marks: [], day: false, file: false };
    this.selected = null;
    this.opened = null;
    this.detail = null;
    this.openHeight = 0;
    this.drawn = new Map();
    this.number = 0;
    this.asked = false;
    box.addEventListener("scroll", () => { this.later(); does.scrolled(); }, { passive: true });
    new ResizeObserver(() => this.later()).observe(box);
    this.measure = new ResizeObserver(() => this.measured());
    rows.addEventListener("click", event => this.clicked(event));
  }

  clicked(event) {
    const element = event.target.closest(".row");
    // To mark text with the mouse is not to click.
    if (!element || String(getSelection())) return;
    const entry = element.entry;
    const again = entry === this.selected;
    this.select(entry, false);
    if (again || this.opened) this.open(entry === this.opened ? null : entry);
  }

  get bottom() {
    return this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - HEIGHT;
  }

  get seen() { return Math.max(1, Math.floor(this.box.clientHeight / HEIGHT) - 1); }

  // Shows other entries. `keep`: the first one that is seen stays where it is, whatever comes before it.
  show(view, keep = true) {
    const stay = this.bottom;
    const first = this.index(this.box.scrollTop);
    const anchor = this.view[first];
    const inside = this.box.scrollTop - this.top(first);
    this.view = view;
    if (this.opened && !view.includes(this.opened)) this.open(null);
    if (this.selected && !view.includes(this.selected)) this.select(null, false);
    this.size();
    if (stay || !keep) this.toBottom();
    else if (anchor) {
      const now = this.view.indexOf(anchor);
      if (now >= 0 && now !== first) this.box.scrollTop = this.top(now) + inside;
    }
    this.later();
  }

  // Entries were added at the end of the view.
  grew() {
    const stay = this.bottom;
    this.size();
    if (stay) this.toBottom();
    this.later();
  }

  // So many entries were taken from the beginning of the view.
  shrank(count) {
    const stay = this.bottom;
    if (this.opened && !this.view.includes(this.opened)) this.open(null);
    if (this.selected && !this.view.includes(this.selected)) this.select(null, false);
    this.size();
    if (stay) this.toBottom();
    else this.box.scrollTop -= count * HEIGHT;
    this.later();
  }

  restyle(look) {
    this.look = look;
    this.drawn.forEach(element => element.remove());
    this.drawn.clear();
    this.later();
  }

  size() {
    this.openAt = this.opened ? this.view.indexOf(this.opened) : -1;
    this.rows.style.height = `${this.view.length * HEIGHT + (this.openAt >= 0 ? this.openHeight : 0)}px`;
    this.box.setAttribute("aria-rowcount", this.view.length);
  }

  top(index) { return index * HEIGHT + (this.openAt >= 0 && index > this.openAt ? this.openHeight : 0); }

  index(y) {
    if (this.openAt < 0 || y < (this.openAt + 1) * HEIGHT) return Math.max(0, Math.floor(y / HEIGHT));
    return Math.max(this.openAt, Math.floor((y - this.openHeight) / HEIGHT));
  }

  toBottom() { this.box.scrollTop = this.box.scrollHeight; }
  toTop() { this.box.scrollTop = 0; this.later(); }

  later() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.draw(); });
  }

  draw() {
    const from = Math.max(0, this.index(this.box.scrollTop) - AROUND);
    const to = Math.min(this.view.length, this.index(this.box.scrollTop + this.box.clientHeight) + AROUND);
    const wanted = new Set(this.view.slice(from, to));
    for (const [entry, element] of this.drawn) {
      if (!wanted.has(entry)) { element.remove(); this.drawn.delete(entry); }
    }
    const fresh = document.createDocumentFragment();
    for (let index = from; index < to; index++) this.place(index, fresh);
    this.rows.append(fresh);
    if (this.detail) this.detail.style.transform = `translateY(${(this.openAt + 1) * HEIGHT}px)`;
    this.activate();
  }

  place(index, fresh) {
    const entry = this.view[index];
    let element = this.drawn.get(entry);
    if (!element) {
      element = row(entry, this.look);
      element.id = `row-${this.number++}`;
      element.entry = entry;
      this.drawn.set(entry, element);
      fresh.append(element);
    }
    element.style.transform = `translateY(${this.top(index)}px)`;
    element.ariaRowIndex = index + 1;
    element.ariaSelected = entry === this.selected;
    element.ariaExpanded = entry === this.opened;
  }

  activate() {
    const element = this.selected && this.drawn.get(this.selected);
    if (element) this.box.setAttribute("aria-activedescendant", element.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  select(entry, reveal = true) {
    this.selected = entry;
    if (entry && reveal) this.reveal(entry);
    this.later();
    this.does.selected(entry);
  }

  reveal(entry, middle = false) {
    const index = this.view.indexOf(entry);
    if (index < 0) return;
    const top = this.top(index), height = this.box.clientHeight;
    const low = top + HEIGHT + (entry === this.opened ? this.openHeight : 0);
    if (middle) this.box.scrollTop = top - height / 2;
    else if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (low > this.box.scrollTop + height) this.box.scrollTop = Math.min(low - height, top);
    this.later();
  }

  // Moves the selection; from nowhere it begins at what is seen.
  move(by) {
    if (!this.view.length) return;
    const now = this.selected ? this.view.indexOf(this.selected) : -1;
    const start = now >= 0 ? now + by : by > 0 ? this.index(this.box.scrollTop) : this.index(this.box.scrollTop + this.box.clientHeight - HEIGHT);
    const entry = this.view[Math.max(0, Math.min(this.view.length - 1, start))];
    if (this.opened) this.open(entry);
    this.select(entry);
  }

  open(entry) {
    this.detail?.remove();
    this.measure.disconnect();
    this.opened = entry;
    this.detail = entry ? detail(entry, { ...this.does, close: () => { this.open(null); this.box.focus(); } }) : null;
    this.openHeight = 0;
    if (this.detail) {
      this.rows.append(this.detail);
      this.openHeight = this.detail.offsetHeight;
      this.measure.observe(this.detail);
    }
    this.size();
    if (entry) this.reveal(entry);
    this.later();
  }

  measured() {
    if (!this.detail || this.detail.offsetHeight === this.openHeight) return;
    this.openHeight = this.detail.offsetHeight;
    this.size();
    this.later();
  }
}
