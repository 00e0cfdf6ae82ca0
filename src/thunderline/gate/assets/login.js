// The page to log in: a token is exchanged for a cookie, and kept nowhere here.

import { setAttribute, setHidden, setText } from "./dom.js";
import { Problem, logIn, readSession, whyLeft } from "./session.js";

const part = (id) => document.getElementById(id);
let asking = false;

function refuse(text) {
  setText(part("refused"), text);
  setAttribute(part("token"), "aria-invalid", text === "" ? null : "true");
}

function words(error) {
  if (error instanceof Problem) return `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}.`;
  if (error.name === "TimeoutError") return "The server did not answer in time.";
  return "The server cannot be reached.";
}

async function submit(event) {
  event.preventDefault();
  const token = part("token").value.trim();
  if (asking) return;
  if (token === "") {
    refuse("Give a token.");
    part("token").focus();
    return;
  }
  asking = true;
  setAttribute(part("submit"), "aria-disabled", "true");
  refuse("");
  try {
    await logIn(token);
    part("token").value = "";
    location.reload();
    return;
  } catch (error) {
    refuse(words(error));
    part("token").select();
  }
  asking = false;
  setAttribute(part("submit"), "aria-disabled", null);
}

// Somebody may have logged in on another page meanwhile.
async function look() {
  if (asking || document.hidden) return;
  const who = await readSession().catch(() => null);
  if (who !== null && (!who.auth || who.session !== null)) location.reload();
}

const why = whyLeft();
setText(part("ended"), why ?? "");
setHidden(part("ended"), why === null);
part("form").addEventListener("submit", submit);
part("token").addEventListener("input", () => refuse(""));
document.addEventListener("visibilitychange", look);
window.addEventListener("pageshow", (event) => event.persisted && look());
