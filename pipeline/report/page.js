// A link of the contents opens what it leads to, and paper shows what is folded on a screen.
(function () {
  "use strict";
  function open(hash) {
    var part = hash.length > 1 ? document.getElementById(hash.slice(1)) : null;
    if (part && "open" in part) { part.open = true; }
  }
  document.addEventListener("click", function (event) {
    var link = event.target instanceof Element ? event.target.closest('a[href^="#"]') : null;
    if (link) { open(link.getAttribute("href")); }
  });
  open(window.location.hash);
  var folded = [];
  window.addEventListener("beforeprint", function () {
    folded = Array.from(document.querySelectorAll("details[id]:not([open])"));
    folded.forEach(function (part) { part.open = true; });
  });
  window.addEventListener("afterprint", function () {
    folded.forEach(function (part) { part.open = false; });
  });
})();
