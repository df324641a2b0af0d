// Playing a lesson: frames, single steps, cuts, and replaying up to a step that an address names.

import { begin, phaseOf, prune_, step_ } from "../../toy/lesson.js";

const CHUNK_MS = 12; // of replaying at a time, so that the page stays awake
const CALM_STEPS = 50; // a picture every so many steps where less motion is asked for

/** Write cuts as the address holds them: "400:0.5,700:0.25". */
export function cutsText(cuts) {
  return cuts.map(({ step, share }) => `${step}:${share}`).join(",");
}

/** Read what `cutsText` wrote; what is not a cut is left out. */
export function cutsOf(text) {
  return text.split(",").map((one) => one.split(":").map(Number)).filter(([step, share]) => step >= 0 && share > 0 && share < 1);
}

/**
 * Return a course of one lesson after another.
 *
 * calm: fewer pictures. drawn(): called after each picture's worth of steps; told(kind): "rest", "replay"
 * .start(settings, {steps, cuts}) .play() .pause() .walk(count) .prune(share) .stop(); .lesson, .playing
 */
export function course({ calm, drawn, told, speed }) {
  const one = { lesson: null, playing: false };
  let waiting = 0;
  const wait = (callback) => { waiting = requestAnimationFrame(callback); };
  const frame = () => {
    for (let i = 0; i < (calm ? CALM_STEPS : speed()) && phaseOf(one.lesson) !== "done"; i++) step_(one.lesson);
    if (phaseOf(one.lesson) === "done") {
      one.playing = false;
      told("rest");
    } else wait(frame);
    drawn();
  };
  const replay = (steps, cuts) => {
    const until = performance.now() + CHUNK_MS;
    while (one.lesson.step < steps && performance.now() < until) {
      while (cuts.length && cuts[0][0] <= one.lesson.step) prune_(one.lesson, cuts.shift()[1]);
      step_(one.lesson);
    }
    if (one.lesson.step < steps) return wait(() => replay(steps, cuts));
    for (const [, share] of cuts) prune_(one.lesson, share);
    return drawn();
  };
  one.stop = () => {
    cancelAnimationFrame(waiting);
    one.playing = false;
  };
  one.pause = () => { one.stop(); drawn(); };
  one.start = (settings, { steps = 0, cuts = "" } = {}) => {
    one.stop();
    one.lesson = begin(settings);
    if (one.lesson && steps > 0) {
      told("replay");
      replay(steps, cutsOf(cuts));
    } else drawn();
  };
  one.play = () => {
    if (!one.lesson) return;
    one.stop(); // a replay may be under way
    one.playing = true;
    drawn();
    wait(frame);
  };
  one.walk = (count) => {
    one.stop();
    for (let i = 0; i < count; i++) step_(one.lesson);
    drawn();
  };
  one.prune = (share) => { prune_(one.lesson, share); drawn(); };
  return one;
}
