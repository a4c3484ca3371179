// <atelier-drop>: where pictures are dropped. Sends each file on its own, shows how far, then tells Python ("dropped").
// Words and the set to add to come as data attributes from app/views/sets.py.
import { tell } from "./tell.js";

const ACCEPTED = ".png,.jpg,.jpeg,.webp,.gif,.bmp,.avif,.heic,.heif,.txt,.caption,.captions,.cap,.tags,.tag,.booru,.prompt,.json,.jsonl,.csv,.tsv,.zip";

// What was dropped, folders opened, as [path, File].
async function walk(entry, above = "") {
  if (entry.isFile) {
    const file = await new Promise((good, bad) => entry.file(good, bad));
    return [[above + entry.name, file]];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((good, bad) => reader.readEntries(good, bad));
    if (!some.length) return found;
    for (const inner of some) found.push(...(await walk(inner, `${above}${entry.name}/`)));
  }
}

class Drop extends HTMLElement {
  connectedCallback() {
    if (this.ready) return;
    this.ready = true;
    const say = this.dataset;
    this.innerHTML = `
      <div class="d-zone">
        <strong class="d-title"></strong><span class="d-hint"></span>
        <span class="d-buttons">
          <label class="d-button"><input type="file" class="d-files" multiple accept="${ACCEPTED}"><span></span></label>
          <label class="d-button d-plain"><input type="file" class="d-folder" webkitdirectory multiple><span></span></label>
        </span>
        <label class="d-names" hidden><input type="checkbox"><span></span></label>
        <div class="d-going" role="status" hidden><progress max="1" value="0"></progress><span></span></div>
        <div class="d-said" role="alert"></div>
      </div>`;
    this.querySelector(".d-title").textContent = say.title;
    this.querySelector(".d-hint").textContent = say.hint;
    const [files, folder] = this.querySelectorAll("label span");
    files.textContent = say.files;
    folder.textContent = say.folder;
    if (say.names) {
      this.querySelector(".d-names").hidden = false;
      this.querySelector(".d-names span").textContent = say.names;
    }
    for (const input of this.querySelectorAll("input[type=file]")) {
      input.addEventListener("change", () => {
        const chosen = [...input.files].map((file) => [file.webkitRelativePath || file.name, file]);
        input.value = "";
        this.send(chosen);
      });
    }
    const zone = this.firstElementChild;
    let depth = 0;
    const mark = (change) => { depth = Math.max(0, depth + change); zone.classList.toggle("d-over", depth > 0); };
    this.addEventListener("dragenter", (event) => { event.preventDefault(); mark(1); });
    this.addEventListener("dragleave", () => mark(-1));
    this.addEventListener("dragover", (event) => event.preventDefault());
    this.addEventListener("drop", async (event) => {
      event.preventDefault();
      mark(-9);
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      const found = [];
      for (const entry of entries) found.push(...(await walk(entry)));
      this.send(found);
    });
  }

  say(text) { this.querySelector(".d-said").textContent = text; }

  going(text, share) {
    const line = this.querySelector(".d-going");
    line.hidden = text === "";
    line.querySelector("span").textContent = text;
    if (share === null) line.querySelector("progress").removeAttribute("value");
    else line.querySelector("progress").value = share;
  }

  async send(found) {
    if (!found.length || this.busy) return;
    this.busy = true;
    this.say("");
    const say = this.dataset;
    const wrong = [];
    try {
      const { id } = await this.ask("POST", "/uploads/new");
      const total = found.reduce((sum, [, file]) => sum + file.size, 0) || 1;
      let sent = 0;
      for (const [place, [path, file]] of found.entries()) {
        const address = `/uploads/${id}/file?lang=${say.lang}&path=${encodeURIComponent(path)}`;
        try {
          await this.put(address, file, (bytes) => {
            this.going(say.sending.replace("{done}", place + 1).replace("{of}", found.length), (sent + bytes) / total);
          });
        } catch (error) {
          if (!error.told) throw error;
          wrong.push(error.message);
        }
        sent += file.size;
      }
      this.going(say.reading.replace("{done}", "").replace("{of}", ""), null);
      const poll = setInterval(async () => {
        const { done, of } = await this.ask("GET", `/uploads/${id}`).catch(() => ({}));
        if (of) this.going(say.readingCount.replace("{done}", done).replace("{of}", of), done / of);
      }, 700);
      const title = document.querySelector("#train-name textarea, #train-name input")?.value ?? "";
      const result = await this.ask("POST", `/uploads/${id}/finish`, { set: say.set ?? "", title, kind: say.kind ?? "style", lang: say.lang,
        from_names: this.querySelector(".d-names input").checked })
        .finally(() => clearInterval(poll));
      result.sentences = [...wrong, ...result.sentences];
      if (!result.accepted) this.say(result.sentences.join("\n") || say.nothing);
      tell("dropped", result);
    } catch (error) {
      this.say(error.told ? error.message : say.broken);
    } finally {
      this.going("", 0);
      this.busy = false;
    }
  }

  async ask(method, address, body) {
    const answer = await fetch(address, {
      method, headers: body ? { "content-type": "application/json" } : {}, body: body ? JSON.stringify(body) : undefined,
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error(said.error ?? ""), { told: Boolean(said.error) });
    return said;
  }

  put(address, file, progress) {
    return new Promise((good, bad) => {
      const request = new XMLHttpRequest();
      request.open("PUT", address);
      request.setRequestHeader("content-type", "application/octet-stream");
      request.upload.onprogress = (event) => progress(event.loaded);
      request.onerror = () => bad(new Error("offline"));
      request.onload = () => {
        if (request.status < 300) return good();
        let said = "";
        try { said = JSON.parse(request.responseText).error ?? ""; } catch { said = ""; }
        bad(Object.assign(new Error(said), { told: Boolean(said) }));
      };
      request.send(file);
    });
  }
}
customElements.define("atelier-drop", Drop);

// A file that misses the zone must not replace the page.
for (const kind of ["dragover", "drop"]) {
  addEventListener(kind, (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
}
