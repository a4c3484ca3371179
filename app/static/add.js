// <atelier-add>: a LoRA file from elsewhere. Sends it to app/server/uploads.py, then tells Python (`added`) where it lies.
import { tell } from "./tell.js";

class Add extends HTMLElement {
  connectedCallback() {
    if (this.ready) return;
    this.ready = true;
    this.words = JSON.parse(this.dataset.words);
    this.innerHTML = `<div class="l-add"><div><label class="a-small"><span></span><input type="file" class="a-hidden" accept=".safetensors"></label>
      <span class="a-note"></span></div><div class="l-going" role="status" hidden><progress max="1" value="0"></progress><span></span></div>
      <p class="a-problem" role="alert"></p></div>`;
    this.querySelector("label span").textContent = this.words.import;
    this.querySelector(".a-note").textContent = this.words.import_help;
    const input = this.querySelector("input");
    input.addEventListener("change", () => { const [file] = input.files; input.value = ""; if (file) this.send(file); });
    this.addEventListener("dragover", (event) => event.preventDefault());
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) this.send(file);
    });
  }

  async send(file) {
    const wrong = this.querySelector(".a-problem"), line = this.querySelector(".l-going");
    wrong.textContent = "";
    if (!file.name.toLowerCase().endsWith(".safetensors")) { wrong.textContent = this.words.import_type; return; }
    try {
      line.hidden = false;
      line.querySelector("span").textContent = this.words.import_going;
      const { id } = await (await fetch("/uploads/new", { method: "POST" })).json();
      await this.put(`/uploads/${id}/file?lang=${this.dataset.lang}&path=${encodeURIComponent(file.name)}`, file, line.querySelector("progress"));
      tell("added", { value: id });
    } catch (error) {
      wrong.textContent = error.message || this.words.import_broken;
    } finally {
      line.hidden = true;
    }
  }

  put(address, file, bar) {
    return new Promise((good, bad) => {
      const request = new XMLHttpRequest();
      request.open("PUT", address);
      request.setRequestHeader("content-type", "application/octet-stream");
      request.upload.onprogress = (event) => { bar.value = event.loaded / (event.total || 1); };
      request.onerror = () => bad(new Error(""));
      request.onload = () => {
        if (request.status < 300) return good();
        let said = "";
        try { said = JSON.parse(request.responseText).error ?? ""; } catch { said = ""; }
        bad(new Error(said));
      };
      request.send(file);
    });
  }
}
customElements.define("atelier-add", Add);
