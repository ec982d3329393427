// The checks of one visitor, numbered in the browser. Only the answer to the latest may stand on the page: a later check, a change of the
// question and Stop each take the next number, and whatever arrives with a lower one is not shown, in whichever order it arrives.
// In scope: `props` of the component that loads this (see mia_hub/ui/check/layout.py).

window.miaChecks ??= (() => {
  const root = document.documentElement;
  const HIDDEN = { __type__: "update", visible: false };
  const UNCHANGED = { __type__: "update" };
  const DEMO = "demo";
  let latest = 0;
  let running = 0;
  // What the latest check was started with.
  let checked = { model: DEMO, caption: "" };

  // The values of all outputs where there is no answer.
  const noAnswer = (html) => [html, ...Array(5).fill(HIDDEN), null];
  const noAnswerYet = (image, several) => noAnswer(image || several?.length ? props.texts.changed : props.texts.empty);
  const showStop = (shown) => root.classList.toggle("mia-checking", shown);

  return {
    get running() {
      return running;
    },

    // An example is checked with the demo.
    next(model = DEMO, caption = "") {
      checked = { model: model.trim() || DEMO, caption: caption.trim() };
      return ++latest;
    },

    begin(...inputs) {
      running += 1;
      showStop(true);
      // On a phone the answer stands below the fields.
      const answer = document.getElementById("answer");
      if (answer.getBoundingClientRect().top > 0.75 * window.innerHeight) answer.scrollIntoView();
      return inputs;
    },

    end(answered) {
      running -= 1;
      if (!running || answered === latest) showStop(false);
    },

    // An answer goes at once when its question changes, so that it can't be taken for that to the new question.
    change(image, several) {
      showStop(false);
      return [++latest, ...noAnswerYet(image, several)];
    },

    // Fields also change when an example's answer resets them.
    edit(image, several, model, caption) {
      const same = (model.trim() || DEMO) === checked.model && caption.trim() === checked.caption;
      return same ? Array(8).fill(UNCHANGED) : this.change(image, several);
    },

    // The image still stands in its field while it is being removed.
    clear() {
      showStop(false);
      return [++latest, ...noAnswer(props.texts.empty)];
    },

    stop() {
      showStop(false);
      return [++latest, ...noAnswer(props.texts.stopped)];
    },

    // The server cancels earlier checks; this is for an answer that was on its way by then.
    hideLate: (answered, image, several) => (answered && answered !== latest ? noAnswerYet(image, several) : Array(7).fill(UNCHANGED)),
  };
})();
