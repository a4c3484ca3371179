// Says that a run has ended or needs somebody: in the tab's title, and as a notification where the person switched that on.
// Every page asks app/server/news.py. <atelier-bell data-words="{…}">: the switch, on the Runs page (app/pages/runs/page.py).
const EVERY = 5000, SEEN = "lora-atelier.news", BELL = "lora-atelier.bell";
const page = document.documentElement;

const may = () => "Notification" in window && Notification.permission === "granted";
const rings = () => may() && localStorage.getItem(BELL) === "on";

// The first look only learns what is old already; a reload or another page goes on from there.
async function look() {
  let told;
  try {
    const answer = await fetch(`/news/${page.lang}`);
    if (!answer.ok) return;
    told = await answer.json();
  } catch { return; }  // the studio is closed or opening again
  const before = sessionStorage.getItem(SEEN);
  sessionStorage.setItem(SEEN, JSON.stringify(told.map((one) => one.mark)));
  if (before === null) return;
  const old = new Set(JSON.parse(before));
  for (const one of told.filter((one) => !old.has(one.mark)).reverse()) tell(one);
}

function tell(one) {
  page.dataset.news = one.title;  // before.js writes it into the title
  if (!rings()) return;
  const note = new Notification(one.title, { body: one.body, tag: one.mark, icon: "/static/icon.svg" });  // one tag: two tabs, one note
  note.onclick = () => { window.focus(); location.assign(one.url); note.close(); };
}

const seen = () => { if (!document.hidden) delete page.dataset.news; };
for (const event of ["visibilitychange", "focus", "pointerdown", "keydown"]) addEventListener(event, seen, true);
setInterval(look, EVERY);
look();

class Bell extends HTMLElement {
  connectedCallback() {
    if (this.firstElementChild || !("Notification" in window)) return;
    this.words = JSON.parse(this.dataset.words);
    const label = document.createElement("label"), said = document.createElement("span");
    label.className = "r-bell";
    this.box = document.createElement("input");
    this.box.type = "checkbox";
    said.textContent = this.words.bell;
    label.append(this.box, said);
    this.note = document.createElement("p");
    this.note.className = "a-note";
    this.note.setAttribute("role", "status");
    this.append(label, this.note);
    this.box.addEventListener("change", () => this.ask());
    this.show();
  }

  async ask() {
    if (this.box.checked && Notification.permission === "default") await Notification.requestPermission();
    localStorage.setItem(BELL, this.box.checked && may() ? "on" : "off");
    this.show(this.box.checked);
  }

  show(asked = false) {
    this.box.checked = rings();
    this.note.textContent = asked && !may() ? this.words.bell_refused : this.box.checked ? this.words.bell_on : "";
  }
}
customElements.define("atelier-bell", Bell);
