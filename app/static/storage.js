// Says above every page that the disk is full or may not be written to, while that is so. Asks app/server/storage.py.
const EVERY = 10000;
const line = document.querySelector(".a-storage");

async function look() {
  try {
    const answer = await fetch(`/storage/${document.documentElement.lang}`);
    if (!answer.ok) return;
    const { sentence } = await answer.json();
    if (line.textContent !== sentence) line.textContent = sentence;
    line.hidden = !sentence;
  } catch { /* the studio is closed or opening again */ }
}

if (line) {
  look();
  setInterval(look, EVERY);
}
