// What is said of a mark, beside it, for mouse and finger.
// Without this browsers show the same text as the marks' titles. Written out here because a plotting
// library would make the page of every run 4 MB larger.
(function () {
  "use strict";
  var box = document.createElement("div");
  box.className = "tooltip";
  box.hidden = true;
  document.body.appendChild(box);
  document.querySelectorAll(".tip > title").forEach(function (title) {
    title.parentNode.setAttribute("data-tip", title.textContent);
    title.remove();
  });
  var shown = null;
  function show(event) {
    var mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    if (mark !== shown) {
      if (shown) { shown.classList.remove("on"); }
      if (mark) { mark.classList.add("on"); }
      shown = mark;
      box.hidden = !mark;
      box.textContent = mark ? mark.getAttribute("data-tip") : "";
    }
    if (!mark) { return; }
    var width = document.documentElement.clientWidth;
    var left = Math.min(event.clientX + 14, width - box.offsetWidth - 6);
    var above = event.clientY - box.offsetHeight - 14;
    box.style.left = Math.max(6, left) + "px";
    box.style.top = (above > 6 ? above : event.clientY + 18) + "px";
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", function () {
    if (shown) { shown.classList.remove("on"); }
    shown = null;
    box.hidden = true;
  }, { passive: true });
})();
