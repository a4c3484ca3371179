// <atelier-strip>: pictures of one prompt at several strengths. Moving the slider shows the nearest drawn picture at once,
// without asking the server. data-state is written by app/views/preview.py; the strength is told to Python as `strength`.
import { tell } from "/static/tell.js";

const STYLE = `
:host { display: block; color: var(--a-ink); font: inherit; }
.stage { position: relative; margin: 0 auto; width: 100%; max-width: min(100%, 56vh * var(--ratio, 1)); aspect-ratio: var(--ratio, 1);
  background: var(--a-wash); border-radius: 4px; overflow: hidden; outline: 1px solid var(--a-line); }
.stage img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; visibility: hidden; user-select: none; }
.stage img.on { visibility: visible; }
@media (max-width: 760px) { .stage.none { aspect-ratio: 2.2; } }
.empty { position: absolute; inset: 0; display: grid; place-items: center; padding: 24px; text-align: center; color: var(--a-soft); }
.wipe { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; touch-action: pan-y; }
.edge { position: absolute; top: 0; bottom: 0; width: 2px; background: #fff; box-shadow: 0 0 0 1px rgb(0 0 0 / 35%); pointer-events: none; }
.edge::after { content: ""; position: absolute; top: 50%; left: 50%; width: 26px; height: 26px; margin: -13px; border-radius: 50%;
  background: #fff; box-shadow: 0 0 0 1px rgb(0 0 0 / 35%); }
.wipe:focus-visible + .edge::after { outline: 3px solid var(--a-accent); outline-offset: 2px; }
.side { position: absolute; bottom: 10px; padding: 2px 9px; border-radius: 99px; font-size: 12px; background: rgb(0 0 0 / 62%); color: #fff; pointer-events: none; }
.side.left { left: 10px; } .side.right { right: 10px; }
.row { display: flex; align-items: center; gap: 14px; margin: 16px 0 4px; }
.row label { font-weight: 600; font-size: 14px; white-space: nowrap; }
.line { position: relative; flex: 1; min-width: 0; }
input[type=range].strength { width: 100%; height: 32px; margin: 0; accent-color: var(--a-accent); cursor: pointer; }
.marks { position: absolute; left: 8px; right: 8px; bottom: -2px; height: 5px; pointer-events: none; }
.marks i { position: absolute; width: 2px; height: 5px; margin-left: -1px; background: var(--a-edge); border-radius: 1px; }
.marks i.done { background: var(--a-accent); }
input[type=number] { width: 5.2em; padding: 7px 8px; font: inherit; color: inherit; background: var(--a-card);
  border: 1px solid var(--a-edge); border-radius: 8px; box-sizing: border-box; }
.below { display: flex; align-items: center; gap: 12px; min-height: 32px; margin: 0 0 14px; color: var(--a-soft); font-size: 13px; }
.below span { flex: 1; }
button { font: inherit; color: inherit; cursor: pointer; }
.toggle { flex: none; padding: 5px 13px; font-size: 13px; color: var(--a-ink); background: var(--a-card); border: 1px solid var(--a-edge); border-radius: 99px; }
.toggle[aria-pressed=true] { background: var(--a-accent); color: var(--a-on-accent); border-color: transparent; }
.film { display: flex; gap: 8px; overflow-x: auto; padding: 3px 3px 8px; margin: 0; list-style: none; scroll-snap-type: x proximity; }
.film li { flex: 1 1 54px; min-width: 50px; max-width: 118px; scroll-snap-align: start; }
.film button { display: block; width: 100%; padding: 0; background: none; border: 0; text-align: center; font-size: 12px; color: var(--a-soft); border-radius: 4px; }
.film .thumb { display: block; aspect-ratio: var(--ratio, 1); background: var(--a-wash); border-radius: 3px; overflow: hidden; outline: 1px solid var(--a-line); margin-bottom: 4px; }
.film img { display: block; width: 100%; height: 100%; object-fit: cover; }
.film button[aria-current=true] { color: var(--a-ink); font-weight: 600; }
.film button[aria-current=true] .thumb { outline: 2px solid var(--a-accent); outline-offset: 1px; }
.film button:disabled { cursor: default; }
:is(button, input):focus-visible { outline: 2px solid var(--a-accent); outline-offset: 2px; }
[hidden] { display: none !important; }
@media (max-width: 760px) { .film li { flex: 1 0 64px; } input[type=number] { font-size: 16px; } .toggle { padding: 9px 15px; } .row label { display: none; } }
`;

const plain = (value) => String(Math.round(value * 10000) / 10000);

class Strip extends HTMLElement {
  static observedAttributes = ["data-state"];

  connectedCallback() {
    if (this.shadowRoot) return;
    this.words = JSON.parse(this.dataset.words || "{}");
    const root = this.attachShadow({ mode: "open" });
    root.innerHTML = `<style>${STYLE}</style>
      <div class="stage" part="stage"><div class="empty"></div>
        <input class="wipe" type="range" min="0" max="100" value="50" hidden><div class="edge" hidden></div>
        <span class="side left" hidden></span><span class="side right" hidden></span></div>
      <div class="row"><label for="s"></label><div class="line"><input id="s" class="strength" type="range" min="-1" max="2" step="0.05">
        <div class="marks"></div></div><input class="number" type="number" min="-10" max="10" step="0.05"></div>
      <p class="below"><span role="status"></span><button class="toggle" type="button" aria-pressed="false" hidden></button></p>
      <ul class="film"></ul>`;
    const one = (name) => root.querySelector(name);
    [this.stage, this.empty, this.wipe, this.edge] = [".stage", ".empty", ".wipe", ".edge"].map(one);
    [this.left, this.right, this.range, this.number] = [".left", ".right", ".strength", ".number"].map(one);
    [this.marks, this.said, this.toggle, this.film] = [".marks", ".below span", ".toggle", ".film"].map(one);
    one("label").textContent = this.words.strength ?? "";
    this.range.setAttribute("aria-label", this.words.strength ?? "");
    this.number.setAttribute("aria-label", this.words.exact ?? "");
    this.wipe.setAttribute("aria-label", this.words.compare ?? "");
    this.film.setAttribute("aria-label", this.words.film ?? "");
    this.toggle.textContent = this.words.compare ?? "";
    this.left.textContent = this.words.base ?? "";
    this.range.addEventListener("input", () => this.choose(Number(this.range.value)));
    this.number.addEventListener("input", () => {
      if (this.number.value !== "" && Number.isFinite(Number(this.number.value))) this.choose(Number(this.number.value), true);
    });
    this.wipe.addEventListener("input", () => this.paint());
    this.toggle.addEventListener("click", () => {
      this.toggle.setAttribute("aria-pressed", String(this.toggle.getAttribute("aria-pressed") !== "true"));
      this.paint();
    });
    this.film.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button && !button.disabled) this.choose(Number(button.dataset.s));
    });
    this.pictures = new Map();
    this.read();
  }

  attributeChangedCallback() { if (this.shadowRoot) this.read(); }

  get value() { return this.strength; }

  read() {
    const state = JSON.parse(this.dataset.state || "{}");
    const fresh = state.id !== this.state?.id;
    if (fresh) {
      for (const picture of this.pictures.values()) picture.remove();
      this.pictures.clear();
      this.film.replaceChildren();
    }
    this.state = { frames: [], wanted: [], ...state };
    this.style.setProperty("--ratio", String((state.width || 1) / (state.height || 1)));
    for (const frame of this.state.frames) {
      if (this.pictures.has(frame.s)) continue;
      const picture = new Image();
      picture.src = frame.url;
      picture.alt = (this.words.picture ?? "{s}").replace("{s}", plain(frame.s));
      picture.draggable = false;
      this.pictures.set(frame.s, picture);
      this.stage.insertBefore(picture, this.wipe);
    }
    this.drawFilm();
    if (this.strength === undefined || (fresh && state.strength !== undefined)) this.choose(state.strength ?? 1);
    else this.paint();
  }

  drawFilm() {
    const all = [...new Set([...this.state.wanted, ...this.pictures.keys()])].sort((a, b) => a - b);
    this.film.hidden = all.length < 2;
    this.range.min = Math.min(-1, ...all);
    this.range.max = Math.max(2, ...all);
    if (this.strength !== undefined) this.range.value = String(this.strength);
    const known = new Map([...this.film.children].map((item) => [Number(item.firstChild.dataset.s), item]));
    all.forEach((s, place) => {
      let item = known.get(s);
      if (!item) {
        item = document.createElement("li");
        item.innerHTML = '<button type="button"><span class="thumb"></span><span class="at"></span></button>';
        item.firstChild.dataset.s = s;
        item.querySelector(".at").textContent = plain(s);
      }
      const picture = this.pictures.get(s), thumb = item.querySelector(".thumb");
      if (picture && !thumb.firstChild) thumb.append(Object.assign(new Image(), { src: picture.src, alt: "" }));
      item.firstChild.disabled = !picture;
      if (this.film.children[place] !== item) this.film.insertBefore(item, this.film.children[place] ?? null);
    });
    const low = Number(this.range.min), span = Number(this.range.max) - low;
    this.marks.replaceChildren(...all.filter((s) => s >= low && s <= low + span).map((s) => {
      const mark = document.createElement("i");
      mark.style.left = `${((s - low) / span) * 100}%`;
      mark.className = this.pictures.has(s) ? "done" : "";
      return mark;
    }));
  }

  nearest() {
    let best = null;
    for (const s of this.pictures.keys()) if (best === null || Math.abs(s - this.strength) < Math.abs(best - this.strength) - 1e-9) best = s;
    return best;
  }

  choose(strength, typed = false) {
    this.strength = Math.round(Math.min(10, Math.max(-10, strength)) * 10000) / 10000;
    this.range.value = String(this.strength);
    if (!typed) this.number.value = plain(this.strength);
    this.paint();
    clearTimeout(this.telling);
    this.telling = setTimeout(() => tell("strength", plain(this.strength)), 60);
  }

  paint() {
    const shown = this.nearest(), base = this.pictures.get(0);
    const both = this.toggle.getAttribute("aria-pressed") === "true" && base && shown !== null && shown !== 0;
    for (const [s, picture] of this.pictures) {
      picture.classList.toggle("on", s === shown || Boolean(both && s === 0));
      picture.style.clipPath = both && s === shown ? `inset(0 0 0 ${this.wipe.value}%)` : "";
      picture.style.zIndex = s === shown ? "1" : "0";
    }
    this.wipe.style.zIndex = this.edge.style.zIndex = this.left.style.zIndex = this.right.style.zIndex = "2";
    this.empty.hidden = shown !== null;
    this.stage.classList.toggle("none", shown === null);
    this.empty.textContent = this.state.empty ?? "";
    this.toggle.hidden = !base || this.pictures.size < 2;
    for (const part of [this.wipe, this.edge, this.left, this.right]) part.hidden = !both;
    this.edge.style.left = `calc(${this.wipe.value}% - 1px)`;
    this.right.textContent = shown === null ? "" : plain(shown);
    const exact = shown !== null && Math.abs(shown - this.strength) < 1e-6;
    const words = shown === null ? "" : exact ? this.words.drawn : this.words.nearest;
    this.said.textContent = (words ?? "").replace("{s}", plain(shown ?? 0)).replace("{wanted}", plain(this.strength));
    this.dataset.shown = shown === null ? "" : plain(shown);
    for (const item of this.film.children) {
      item.firstChild.setAttribute("aria-current", String(Number(item.firstChild.dataset.s) === shown));
    }
  }
}

customElements.define("atelier-strip", Strip);
