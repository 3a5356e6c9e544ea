// Browsers refuse web workers on pages opened from a folder (file://), and the search of the site runs in one. There, a
// hidden frame takes the worker's place: it has its own global scope, and messages become events on both sides.
(() => {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.isStarted = false;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.owner = this;
      // The scripts of a worker call postMessage and importScripts, which mean something else in a frame.
      this.frame.srcdoc = `<body><script>
        const owner = frameElement.owner;
        window.postMessage = data => owner.dispatchEvent(new owner.Message("message", {data}));
        window.load = url => new Promise((done, failed) => {
          const script = document.createElement("script");
          Object.assign(script, {src: url, onload: done, onerror: failed});
          document.body.append(script);
        });
        window.importScripts = async (...urls) => { for (const url of urls) await load(url); };
        load(${JSON.stringify(String(url))}).then(() => owner.started());
      </script>`;
      this.Message = MessageEvent;
      document.body.append(this.frame);
    }
    started() {
      this.isStarted = true;
      for (const data of this.waiting.splice(0)) this.postMessage(data);
    }
    postMessage(data) {
      if (!this.isStarted) return this.waiting.push(data);
      const scope = this.frame.contentWindow;
      scope.dispatchEvent(new scope.MessageEvent("message", {data}));
    }
    terminate() {
      this.frame.remove();
    }
  }
  if (location.protocol === "file:") window.Worker = FrameWorker;
})();
