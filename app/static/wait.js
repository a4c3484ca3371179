// <atelier-wait>: while one is there, the page's fields take no input: they are about to be filled, and what a person typed
// before that would be lost, or would be kept in place of what is there. After LONG milliseconds without an answer the page
// says so (`.a-late`, app/server/document.py) and offers to be opened again.
const LONG = 20_000;

function hold(held) {
  for (const page of document.querySelectorAll(".a-page")) {
    page.inert = held;
    page.setAttribute("aria-busy", held);
  }
}

function late(is) {
  document.querySelector(".a-late").hidden = !is;
}

class Wait extends HTMLElement {
  connectedCallback() {
    hold(true);
    this.late = setTimeout(late, LONG, true);
  }

  disconnectedCallback() {
    clearTimeout(this.late);
    if (document.querySelector("atelier-wait")) return;
    hold(false);
    late(false);
  }
}
customElements.define("atelier-wait", Wait);
